#include "server/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_SECCOMP /* glibc names it from 2.38 on */
#define SYS_SECCOMP 1
#endif
#if SANDBOX_SANITIZED
#elif defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#endif

#ifdef ARCH

/* ---- what is needed ---- */

/* Whatever their arguments. The first are those that every request takes: kernels before 5.11 go through the list. */
static const int always[] = {
    SYS_futex,
    SYS_epoll_pwait,
    SYS_recvfrom,
    SYS_sendto,
    SYS_sendmsg,
    SYS_epoll_ctl,
    SYS_read,
    SYS_write,
    SYS_close,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
    SYS_poll,
#endif
    /* connections */
    SYS_ppoll,
    SYS_accept4,
    SYS_shutdown,
    SYS_setsockopt,
    SYS_getsockopt,
    SYS_getsockname,
    SYS_getpeername,
    SYS_recvmsg,
    SYS_readv,
    SYS_writev,
    SYS_fcntl,
    /* memory */
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    /* the store's files, tokens, the resolver's configuration */
    SYS_openat,
    SYS_newfstatat,
    SYS_fstat,
    SYS_lseek,
    SYS_pread64,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_fdatasync,
    SYS_fsync,
    SYS_ftruncate,
    SYS_msync,
    SYS_uname,
    SYS_sysinfo, /* the C library's qsort asks how much memory there is */
    SYS_faccessat,
    SYS_statfs,
    SYS_fstatfs,
#ifdef SYS_access
    SYS_access,
    SYS_open,
    SYS_stat,
#endif
    /* time, chance and who we are */
    SYS_clock_gettime,
    SYS_gettimeofday,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_getrandom,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    /* signals and the end */
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_rt_sigaction,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    /* threads that have not quite begun when the filter is set; no other can be started */
    SYS_rseq,
    SYS_set_robust_list,
};

/* ---- the filter ---- */

enum { PROGRAM_MAX = 4 + 2 * (sizeof always / sizeof *always) + 5 * 16 + 1 };

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short used;
};

static void put(struct program *program, unsigned op, uint32_t k, unsigned yes, unsigned no)
{
    program->code[program->used++] =
        (struct sock_filter){(unsigned short)op, (unsigned char)yes, (unsigned char)no, k};
}

static void load(struct program *program, size_t offset)
{
    put(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void allow(struct program *program, int call)
{
    put(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    put(program, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* The lower half of the argument, which is all that the kernel takes of an int: test is BPF_JEQ (is value) or BPF_JSET
 * (has one of value's bits), and wanted what it must come to. */
static void allow_if(
    struct program *program, int call, unsigned argument, unsigned test, uint32_t value, bool wanted)
{
    put(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load(program, offsetof(struct seccomp_data, args) + 8 * argument);
    put(program, BPF_JMP | test | BPF_K, value, wanted ? 0 : 1, wanted ? 1 : 0);
    put(program, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    load(program, offsetof(struct seccomp_data, nr));
}

/* An embedded store needs no network; another one needs connections of its own kind, and looking up a name also those
 * to the resolver (UDP, nscd) and to the kernel (which addresses are ours, for which the socket is bound). */
static void allow_store(struct program *program, const char *url)
{
    if (strncmp(url, "redis", 5) != 0)
        return;
    allow(program, SYS_connect);
    allow_if(program, SYS_socket, 0, BPF_JEQ, AF_UNIX, true);
    if (strncmp(url, "redis+unix:", 11) == 0)
        return;
    allow_if(program, SYS_socket, 0, BPF_JEQ, AF_INET, true);
    allow_if(program, SYS_socket, 0, BPF_JEQ, AF_INET6, true);
    allow_if(program, SYS_socket, 0, BPF_JEQ, AF_NETLINK, true);
    allow(program, SYS_bind);
#ifdef SYS_sendmmsg
    allow(program, SYS_sendmmsg);
#endif
}

static void write_program(struct program *program, const char *store_url)
{
    load(program, offsetof(struct seccomp_data, arch));
    put(program, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    put(program, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    load(program, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        allow(program, always[i]);
    allow_if(program, SYS_ioctl, 1, BPF_JEQ, FIONBIO, true);
    allow_if(program, SYS_ioctl, 1, BPF_JEQ, FIONREAD, true);
    allow_if(program, SYS_mmap, 2, BPF_JSET, PROT_EXEC, false);
    allow_if(program, SYS_mprotect, 2, BPF_JSET, PROT_EXEC, false);
    allow_if(program, SYS_prctl, 0, BPF_JEQ, PR_SET_NAME, true);         /* theirs as well */
    allow_if(program, SYS_tgkill, 0, BPF_JEQ, (uint32_t)getpid(), true); /* abort() */
    allow_store(program, store_url);
    put(program, BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
}

/* ---- what was refused ---- */

static atomic_uint_fast64_t refused;
static atomic_int refused_last;
static void (*notice)(void); /* a signal handler has nothing but static memory to reach */

static void on_refused(int number, siginfo_t *info, void *context)
{
    (void)number;
    const int saved = errno;
    if (info->si_code == SYS_SECCOMP) {
        RESULT((ucontext_t *)context) = -EPERM;
        atomic_store(&refused_last, info->si_syscall);
        atomic_fetch_add(&refused, 1);
        notice();
    }
    errno = saved;
}

uint64_t sandbox_refused(int *last)
{
    *last = atomic_load(&refused_last);
    return atomic_load(&refused);
}

int sandbox_calls(const char *store_url, void (*noticed)(void), struct err *err)
{
    struct program program = {0};
    notice = noticed;
    struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(err, "server.sandbox: prepare");
    write_program(&program, store_url);
    const struct sock_fprog whole = {program.used, program.code};
    /* Kernels before 5.16 slow all of the process down against speculation beside a filter; there is nobody in here who
     * would be kept from reading the rest by it. */
    const unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    const long code = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &whole);
    if (code < 0 && (errno == ENOSYS || errno == EINVAL))
        return 0;
    if (code < 0)
        return err_errno(err, "server.sandbox: set the filter of system calls");
    return code == 0 ? 1 : err_set(err, ERR_IO, "server.sandbox: thread %ld has a filter of its own", code);
}

#else /* no table for this processor, or a build that would not bear one */

uint64_t sandbox_refused(int *last)
{
    *last = 0;
    return 0;
}

int sandbox_calls(const char *store_url, void (*noticed)(void), struct err *err)
{
    (void)store_url;
    (void)noticed;
    (void)err;
    return 0;
}
#endif
