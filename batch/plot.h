/* Charts as SVG: lines with their spread, and bars, in panels side by side. They follow the reader's light or dark scheme,
 * and say in words what they show to those who cannot see them.
 *
 *     const struct plot_series auc = {.name = "AUC", .count = 4, .x = m, .y = mean, .low = low, .high = high};
 *     const struct plot_panel panel = {.title = "User codes", .x_label = "m", .series = &auc, .series_count = 1};
 *     plot_write("study.svg", &(struct plot){"Study", "AUC by m", &panel, 1, 1}, &err);
 */
#ifndef EMBSUM_BATCH_PLOT_H
#define EMBSUM_BATCH_PLOT_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum plot_kind { PLOT_LINES, PLOT_BARS };
enum plot_spread { PLOT_WHISKERS, PLOT_BAND };

/* A point whose y is NaN is left out, and the line is broken there. */
struct plot_series {
    const char *name; /* in the legend; NULL: not there */
    size_t count;
    const double *x; /* ascending; bars are at 0, 1, ... and have none */
    const double *y;
    const double *low, *high; /* the spread around y, or both NULL */
    enum plot_spread spread;
    size_t color; /* 0 to PLOT_COLORS - 1 */
    bool faint;   /* what lies behind a smoothed line */
};
enum { PLOT_COLORS = 6 };

struct plot_panel {
    const char *title, *x_label, *y_label; /* labels may be NULL */
    enum plot_kind kind;
    const struct plot_series *series;
    size_t series_count;
    const char *const *names; /* bars: what stands under each */
    bool x_log; /* lines: each doubling as far as the one before, ticks at the first series' points */
};

struct plot {
    const char *title, *about; /* about: a sentence or more, read out instead of the picture */
    const struct plot_panel *panels;
    size_t panel_count, columns;
};

void plot_print(FILE *stream, const struct plot *plot);

/* The file at path is replaced in one step. */
int plot_write(const char *path, const struct plot *plot, struct err *err);

/* Text between tags and in attributes: markup escaped, control characters as spaces, and bytes that are not UTF-8 as "?",
 * so that whatever a name holds the file is well-formed. */
void plot_print_text(FILE *stream, const char *text);

#endif
