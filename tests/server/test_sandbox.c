/* What can still be done inside the sandbox, and what not: each case in a process of its own. */
#include "server/sandbox.h"
#include "tests/lib/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static char folder[256];
static volatile sig_atomic_t noticed;

static void notice(void)
{
    noticed++;
}

/* In the child, where cmocka is not at home. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, strerror(errno));                    \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)
#define REFUSED(call, number) (errno = 0, (call) == -1 && errno == (number))

static void in_child(void (*body)(void))
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static const char *at(const char *name)
{
    static char path[2][320];
    static int turn;
    snprintf(path[turn ^= 1], sizeof path[0], "%s/%s", folder, name);
    return path[turn];
}

static int open_close(const char *path, int flags)
{
    const int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close(fd);
}

/* ---- files ---- */

static void enter_files(const char *store)
{
    struct config config;
    struct err err = ERR_INIT;
    config_init(&config);
    snprintf(config.store.url, sizeof config.store.url, "lmdb:%s", store);
    snprintf(config.server.token_file, sizeof config.server.token_file, "%s", at("secrets/tokens"));
    snprintf(config.log.access, sizeof config.log.access, "%s", at("log/access.log"));
    const int code = sandbox_files(&config, &err);
    if (code == 0)
        _exit(SKIPPED);
    CHECK(code == 1);
}

static void files_child(void)
{
    char *const arguments[] = {"/bin/true", NULL}, *const environment[] = {NULL};
    enter_files(at("store"));
    CHECK(REFUSED(open_close("/etc/passwd", O_RDONLY), EACCES));
    CHECK(REFUSED(open_close("/proc/self/mem", O_RDWR), EACCES));
    CHECK(REFUSED(open_close(at("other"), O_RDONLY), EACCES));
    CHECK(REFUSED(open_close(at("new"), O_WRONLY | O_CREAT), EACCES));
    CHECK(REFUSED(execve("/bin/true", arguments, environment), EACCES));
    /* The store's folder: what LMDB does there, and no more. */
    CHECK(open_close(at("store/lock"), O_RDWR | O_CREAT) == 0);
    CHECK(open_close(at("store/lock"), O_RDWR | O_TRUNC) == 0);
    CHECK(REFUSED(unlink(at("store/lock")), EACCES));
    CHECK(REFUSED(symlink("/etc/passwd", at("store/link")), EACCES));
    CHECK(REFUSED(open_close(at("store/outwards"), O_RDONLY), EACCES));
    /* The tokens: to be read, in whatever file they come. */
    CHECK(open_close(at("secrets/tokens"), O_RDONLY) == 0);
    CHECK(REFUSED(open_close(at("secrets/tokens"), O_RDWR), EACCES));
    CHECK(REFUSED(unlink(at("secrets/tokens")), EACCES));
    /* The access log: to be written and to be made anew, and no more. */
    CHECK(open_close(at("log/access.log"), O_WRONLY | O_APPEND | O_CREAT) == 0);
    CHECK(open_close(at("log/access.log"), O_WRONLY | O_APPEND) == 0);
    CHECK(REFUSED(open_close(at("log/access.log"), O_RDONLY), EACCES));
    CHECK(REFUSED(unlink(at("log/access.log")), EACCES));
}

static void test_files(void **state)
{
    (void)state;
    in_child(files_child);
}

/* A child is bound by what its parent entered; the parent puts other tokens in place. */
static void replaced_child(void)
{
    int turn[2];
    CHECK(pipe(turn) == 0);
    const pid_t child = fork();
    if (child == 0) {
        char byte;
        enter_files(at("late/store"));
        CHECK(read(turn[0], &byte, 1) == 1);
        CHECK(open_close(at("secrets/tokens"), O_RDONLY) == 0);
        CHECK(open_close(at("late/store/data"), O_RDWR) == 0); /* made after the sandbox was entered */
        CHECK(REFUSED(open_close("/etc/passwd", O_RDONLY), EACCES));
        _exit(0);
    }
    usleep(100000);
    scratch_write(folder, "secrets/tokens.new", "x", 1);
    CHECK(rename(at("secrets/tokens.new"), at("secrets/tokens")) == 0);
    CHECK(mkdir(at("late/store"), 0700) == 0);
    scratch_write(folder, "late/store/data", "x", 1);
    CHECK(write(turn[1], "x", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    _exit(WEXITSTATUS(status));
}

static void test_files_that_come_later(void **state)
{
    (void)state;
    in_child(replaced_child);
}

/* ---- system calls ---- */

static void enter_calls(const char *store)
{
    struct err err = ERR_INIT;
    const int code = sandbox_calls(store, notice, &err);
    if (code == 0)
        _exit(SKIPPED);
    CHECK(code == 1);
}

static sem_t entered, tried;

static void *other_thread(void *ctx)
{
    (void)ctx;
    sem_wait(&entered);
    CHECK(REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM));
    sem_post(&tried);
    return NULL;
}

static void calls_child(void)
{
    char *const arguments[] = {"/bin/true", NULL}, *const environment[] = {NULL};
    pthread_t thread;
    sem_init(&entered, 0, 0);
    sem_init(&tried, 0, 0);
    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listening >= 0);
    enter_calls("lmdb:/x");

    /* What a daemon does goes on. */
    CHECK(open_close("/dev/null", O_RDONLY) == 0);
    free(malloc(64 << 20));
    CHECK(mprotect(page, 4096, PROT_READ) == 0);
    CHECK(noticed == 0);

    CHECK(REFUSED(execve("/bin/true", arguments, environment), EPERM));
    CHECK(REFUSED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM));
    CHECK(REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM));
    CHECK(REFUSED(socket(AF_UNIX, SOCK_STREAM, 0), EPERM));
    CHECK(REFUSED(listen(listening, 1), EPERM));
    CHECK(REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM));
    errno = 0;
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(errno == EPERM);
    CHECK(REFUSED(kill(1, 0), EPERM));
    CHECK(REFUSED(syscall(SYS_tgkill, 1, 1, 0), EPERM));
    CHECK(REFUSED(ioctl(0, TIOCSTI, "x"), EPERM));
    CHECK(REFUSED(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM));
    CHECK(REFUSED(unlink("/nonexistent"), EPERM));
    int last;
    CHECK(noticed >= 12 && sandbox_refused(&last) == (uint64_t)noticed);
#ifdef SYS_unlink
    CHECK(last == SYS_unlink);
#endif
    sem_post(&entered); /* threads that were there before are bound as well */
    sem_wait(&tried);
    CHECK(sandbox_refused(&last) == (uint64_t)noticed && last == SYS_socket);
}

static void test_calls(void **state)
{
    (void)state;
    in_child(calls_child);
}

static void unix_child(void)
{
    enter_calls("redis+unix:/x");
    CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    CHECK(REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM));
    CHECK(REFUSED(socket(AF_NETLINK, SOCK_RAW, 0), EPERM));
}

static const char *url_of_network;

static void tcp_child(void)
{
    enter_calls(url_of_network);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && socket(AF_INET6, SOCK_DGRAM, 0) >= 0);
    CHECK(REFUSED(listen(fd, 1), EPERM));
    CHECK(REFUSED(socket(AF_PACKET, SOCK_RAW, 0), EPERM));
}

static void test_network(void **state)
{
    (void)state;
    in_child(unix_child);
    url_of_network = "redis://x:1/0";
    in_child(tcp_child);
    url_of_network = "redis+sentinel://x:1,y:2/name";
    in_child(tcp_child);
    url_of_network = "redis+cluster://x:1,y:2";
    in_child(tcp_child);
}

static int make_folder(void **state)
{
    (void)state;
    scratch_make(folder);
    if (mkdir(at("store"), 0700) < 0 || mkdir(at("secrets"), 0700) < 0 || mkdir(at("log"), 0700) < 0 ||
        mkdir(at("late"), 0700) < 0 || symlink(at("other"), at("store/outwards")) < 0)
        return -1;
    scratch_write(folder, "other", "x", 1);
    scratch_write(folder, "secrets/tokens", "x", 1);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_remove(folder);
    return 0;
}

int main(void)
{
    if (SANDBOX_SANITIZED) {
        puts("skipped: sanitizers need what the sandbox takes: this build has none");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_files_that_come_later),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_network),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
