/* A program that dies at its n-th write: LD_PRELOAD this and set KILL_AT=n. Every way by which LMDB and hiredis write is
 * counted; what the C library's streams print is not, since they do not come by here. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long left;

__attribute__((constructor)) static void begin(void)
{
    const char *const text = getenv("KILL_AT");
    atomic_store(&left, text ? atol(text) : 0);
}

/* Dies before the write is done: what n - 1 writes leave behind. */
static void count(void)
{
    if (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1)
        kill(getpid(), SIGKILL);
}

ssize_t write(int fd, const void *data, size_t len)
{
    count();
    return syscall(SYS_write, fd, data, len);
}

ssize_t writev(int fd, const struct iovec *parts, int parts_count)
{
    count();
    return syscall(SYS_writev, fd, parts, parts_count);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    count();
    return syscall(SYS_pwrite64, fd, data, len, at);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    count();
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

int fdatasync(int fd)
{
    count();
    return (int)syscall(SYS_fdatasync, fd);
}
