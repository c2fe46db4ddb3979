#include "tests/faults/nomem.h"

#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the allocator ---- */

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define REAL(name) __interceptor_##name
#define SANITIZED 1
#else
#define REAL(name) __libc_##name
#define SANITIZED 0
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *memory, size_t size);
void *REAL(memalign)(size_t align, size_t size);
void REAL(free)(void *memory);

enum { TRACE = 48 };
static atomic_size_t allocations, fail_at; /* fail_at 0: none does */
static atomic_bool fail_on;                /* all from there on */
static atomic_long in_use;
static atomic_bool traced;
static void *trace[TRACE];
static int trace_len;

/* Whose calls never fail. OpenBLAS's kernels for small products do not look at what malloc returns; a sanitizer's own work in
 * the C library, when a thread starts, ends the program. */
static const char *const spared_names[] = {"libopenblas",
#if SANITIZED
    "libc.so", "ld-linux", "libasan"
#endif
};
static struct range {
    uintptr_t begin, end;
} spared[8];
static size_t spared_count;

static int find_spared(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    for (size_t n = 0; n < sizeof spared_names / sizeof *spared_names; n++)
        for (size_t i = 0; strstr(info->dlpi_name, spared_names[n]) && i < info->dlpi_phnum; i++)
            if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X &&
                spared_count < 8) {
                const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                spared[spared_count++] = (struct range){begin, begin + info->dlpi_phdr[i].p_memsz};
            }
    return 0;
}

__attribute__((unused)) static bool fails(const void *caller)
{
    for (size_t i = 0; i < spared_count; i++)
        if ((uintptr_t)caller >= spared[i].begin && (uintptr_t)caller < spared[i].end)
            return false;
    const size_t at = atomic_load(&fail_at), number = atomic_fetch_add(&allocations, 1) + 1;
    if (!at || number < at || (number > at && !atomic_load(&fail_on)))
        return false;
    if (!atomic_exchange(&traced, true))
        trace_len = backtrace(trace, TRACE);
    errno = ENOMEM;
    return true;
}

__attribute__((unused)) static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add(&in_use, 1);
    return memory;
}

#ifndef __SANITIZE_THREAD__ /* whose malloc is its own */

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    return fails(CALLER) ? NULL : counted(REAL(malloc)(size));
}

void *calloc(size_t count, size_t size)
{
    return fails(CALLER) ? NULL : counted(REAL(calloc)(count, size));
}

void *realloc(void *memory, size_t size)
{
    if (fails(CALLER))
        return NULL;
    void *const moved = REAL(realloc)(memory, size);
    if (memory && !moved && !size)
        atomic_fetch_sub(&in_use, 1);
    return memory ? moved : counted(moved);
}

void *memalign(size_t align, size_t size)
{
    return fails(CALLER) ? NULL : counted(REAL(memalign)(align, size));
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    void *const memory = memalign(align, size);
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void free(void *memory)
{
    if (memory)
        atomic_fetch_sub(&in_use, 1);
    REAL(free)(memory);
}

/* C++'s new does not fail: SentencePiece's tables of pieces do not survive std::bad_alloc (their destructor crashes), and
 * nobody outside can help it. The offline programs alone use it. */
#if !SANITIZED /* theirs does not come here */
void *_Znwm(size_t size);
void *_Znwm(size_t size)
{
    return counted(REAL(malloc)(size));
}
#endif

#endif

#ifdef __SANITIZE_ADDRESS__
/* What the loader keeps for itself. LeakSanitizer passes over it where malloc is its own. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:_dl_";
}
#endif

/* ---- scenarios ---- */

enum { ALL_UP_TO = 300, SAMPLED = 60, LONG = 20, HANG_S = 60 };

static struct {
    const struct nomem_scenario *scenario;
    size_t n;
    bool on;
} now;

static void arm(const struct nomem_scenario *scenario, size_t n, bool on)
{
    now.scenario = scenario;
    now.n = n;
    now.on = on;
    atomic_store(&allocations, 0);
    atomic_store(&traced, false);
    atomic_store(&fail_on, on);
    atomic_store(&fail_at, n);
    alarm(HANG_S);
}

static void disarm(void)
{
    atomic_store(&fail_at, 0);
    alarm(0);
}

/* Which allocation it was, on stderr; safe in a signal's handler. */
static void tell(const char *what)
{
    char text[256];
    const int len = snprintf(text, sizeof text, "%s: allocation %zu%s fails: %s; memory ran out in\n",
        now.scenario ? now.scenario->name : "?", now.n, now.on ? " and all behind it" : "", what);
    if (write(STDERR_FILENO, text, (size_t)len) == len && atomic_load(&traced))
        backtrace_symbols_fd(trace, trace_len, STDERR_FILENO);
}

static void on_signal(int number)
{
    disarm();
    tell(number == SIGALRM ? "it hangs" : number == SIGSEGV ? "it crashes" : "it aborts");
    signal(number, SIG_DFL);
    raise(number);
}

static void on_exit_armed(void)
{
    if (atomic_load(&fail_at)) {
        disarm();
        tell("a library ends the program");
    }
}

static void prepare(void)
{
    static bool done;
    if (!done) {
        void *first[4];
        backtrace(first, 4); /* loads what it needs, with memory */
        dl_iterate_phdr(find_spared, NULL);
        atexit(on_exit_armed);
        done = true;
    }
    signal(SIGALRM, on_signal);
    signal(SIGABRT, on_signal);
    if (!SANITIZED)
        signal(SIGSEGV, on_signal);
}

bool nomem_possible(void)
{
#ifdef __SANITIZE_THREAD__
    puts("skipped: malloc is the sanitizer's");
    return false;
#else
    return true;
#endif
}

void nomem_folder(char path[256])
{
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    scratch_make(path);
}

void nomem_require(int code, const struct err *err)
{
    if (code < 0) {
        tell("and afterwards something is broken");
        fail_msg("%s: %s", err_name(code), err->message);
    }
}

enum { HEALS = 500 }; /* attempts, 2 ms apart */

static bool try_once(const struct nomem_scenario *s, size_t n, bool on, bool *went_on)
{
    struct err err = ERR_INIT;
    const long before = atomic_load(&in_use);
    if (s->before)
        s->before();
    arm(s, n, on);
    const int code = s->run(&err);
    disarm();
    *went_on = code == 0;
    if (code > 0 || (code < 0 && (err.code != code || !err.message[0]))) {
        tell("no error with a message is returned");
        fail_msg("%s: code %d, err.code %d, message \"%s\"", s->name, code, err.code, err.message);
    }
    if (code < 0)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* a link that heals asks for that */
    if (s->verify)
        s->verify(code);
    alarm(HANG_S);
    err = (struct err)ERR_INIT;
    int again = s->run(&err);
    /* What somebody else has asked for and cannot have is shared, and a link that failed is left alone for a moment. */
    for (int i = 0; again == -ERR_UNAVAILABLE && i < HEALS; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        err = (struct err)ERR_INIT;
        again = s->run(&err);
    }
    alarm(0);
    nomem_require(again, &err);
    if (s->verify)
        s->verify(again);
    if (s->after)
        s->after();
    return atomic_load(&in_use) <= before;
}

/* A cache may grow once, a leak grows every time. */
static void try(const struct nomem_scenario *s, size_t n, bool on, size_t *went_on)
{
    bool on_it_went = false;
    bool kept = try_once(s, n, on, &on_it_went);
    *went_on += on_it_went;
    for (int i = 0; !kept && i < 4; i++)
        kept = try_once(s, n, on, &on_it_went);
    if (!kept) {
        tell("memory leaks");
        fail_msg("%s: memory leaks", s->name);
    }
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static size_t count(const struct nomem_scenario *s)
{
    bool went_on;
    for (int i = 0; i < 2; i++) /* what is made once only is there the second time */
        try_once(s, 0, false, &went_on);
    struct err err = ERR_INIT;
    if (s->before)
        s->before();
    arm(s, 0, false);
    const int code = s->run(&err);
    disarm();
    const size_t counted = atomic_load(&allocations);
    nomem_require(code, &err);
    if (s->verify)
        s->verify(code);
    if (s->after)
        s->after();
    return counted;
}

void nomem_test(const struct nomem_scenario *s)
{
    const char *seed_text = getenv("EMBSUM_SEED"), *only = getenv("EMBSUM_NOMEM");
    const uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    const size_t more = (getenv("EMBSUM_LONG") ? LONG : 1);
    const size_t cost = s->cost ? s->cost : 1, all = more * ALL_UP_TO / cost, sampled = more * SAMPLED / cost;
    prepare();
    const size_t total = count(s);
    size_t went_on = 0, runs = 0;
    uint64_t state = seed;
    if (only) {
        const char *number = strrchr(only, ' ');
        if (number && strncmp(only, s->name, (size_t)(number - only)) == 0 &&
            s->name[number - only] == '\0') {
            try(s, strtoull(number, NULL, 10), false, &went_on);
            tell(went_on ? "it goes on" : "it says so");
        }
        return;
    }
    for (int on = 0; on < 2; on++) {
        for (size_t n = 1; n <= total && n <= all; n++, runs++)
            try(s, n, on, &went_on);
        for (size_t i = 0; total > all && i < sampled; i++, runs++)
            try(s, all + 1 + next(&state) % (total - all), on, &went_on);
    }
    print_message("%-28s %6zu allocations, %5zu runs, %4zu of them succeed without; seed %llu\n", s->name,
        total, runs, went_on, (unsigned long long)seed);
}
