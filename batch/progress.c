#include "batch/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 28 };

double progress_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_say(bool quiet, const char *format, ...)
{
    if (quiet)
        return;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void show(struct progress *p, double now)
{
    const double elapsed = now - p->started, share = p->total ? (double)p->done / (double)p->total : 1.0;
    const double rate = elapsed > 0 ? (double)p->done / elapsed : 0;
    const double left = rate > 0 ? (double)(p->total - p->done) / rate : 0;
    if (p->terminal) {
        char bar[BAR + 1];
        for (int i = 0; i < BAR; i++)
            bar[i] = (double)i < share * BAR ? '#' : '.';
        bar[BAR] = '\0';
        fprintf(stderr, "\r%-9s [%s] %zu/%zu  %.1f/s  %.0f s left \033[K", p->what, bar, p->done, p->total,
            rate, left);
    } else {
        fprintf(stderr, "%s: %zu of %zu (%.0f %%), %.1f/s, %.0f s left\n", p->what, p->done, p->total,
            100 * share, rate, left);
    }
    p->shown = now;
}

void progress_begin(struct progress *p, const char *what, size_t total, bool quiet)
{
    const double now = progress_now();
    *p = (struct progress){.quiet = quiet,
        .terminal = isatty(STDERR_FILENO) == 1,
        .what = what,
        .total = total,
        .started = now,
        .shown = now};
}

void progress_add(struct progress *p, size_t done)
{
    p->done += done;
    const double now = progress_now();
    if (!p->quiet && now - p->shown >= (p->terminal ? 0.1 : 10.0))
        show(p, now);
}

void progress_end(struct progress *p)
{
    if (p->quiet)
        return;
    const double elapsed = progress_now() - p->started;
    fprintf(stderr, "%s%s: %zu in %.1f s%s\n", p->terminal ? "\r" : "", p->what, p->done, elapsed,
        p->terminal ? "\033[K" : "");
}
