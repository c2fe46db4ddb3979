#include "batch/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 28, SHORT_BAR = 14 };

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

void progress_duration(char out[32], double seconds)
{
    if (seconds < 100)
        snprintf(out, 32, "%.0f s", seconds);
    else if (seconds < 100 * 60)
        snprintf(out, 32, "%.0f min", seconds / 60);
    else
        snprintf(out, 32, "%.0f h %02.0f min", floor(seconds / 3600), floor(fmod(seconds / 60, 60)));
}

/* The columns of the terminal: a line that is longer would not be overwritten by the next. */
static size_t columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

static void show(struct progress *p, double now)
{
    const double elapsed = now - p->started, share = p->total ? (double)p->done / (double)p->total : 1.0;
    const double rate = elapsed > 0 ? (double)(p->done - p->before) / elapsed : 0;
    char here[32] = "?", all[32] = "?", left[80], line[320];
    if (rate > 0) {
        progress_duration(here, (double)(p->total - p->done) / rate);
        progress_duration(all, (double)(p->total - p->done + p->following) / rate);
    }
    snprintf(left, sizeof left, p->following ? "%s left, %s in all" : "%s left", here, all);
    if (p->terminal) {
        const int width = *p->note ? SHORT_BAR : BAR;
        char bar[BAR + 1];
        for (int i = 0; i < width; i++)
            bar[i] = (double)i < share * width ? '#' : '.';
        bar[width] = '\0';
        const int length = snprintf(line, sizeof line, "%-9s [%s] %zu/%zu  %.1f/s  %s  %s", p->what, bar,
            p->done, p->total, rate, left, p->note);
        if (length > 0 && (size_t)length >= columns())
            line[columns() - 1 < sizeof line ? columns() - 1 : sizeof line - 1] = '\0';
        fprintf(stderr, "\r%s\033[K", line);
    } else {
        fprintf(stderr, "%s: %zu of %zu (%.0f %%), %.1f/s, %s%s%s\n", p->what, p->done, p->total, 100 * share,
            rate, left, *p->note ? "; " : "", p->note);
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

void progress_note(struct progress *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->note, sizeof p->note, format, args);
    va_end(args);
}

void progress_tell(struct progress *p, const char *format, ...)
{
    if (p->quiet)
        return;
    va_list args;
    va_start(args, format);
    if (p->terminal)
        fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (p->terminal)
        show(p, progress_now());
}
