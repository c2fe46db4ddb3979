/* An axis of a chart: where its ticks are and how they are written. */
#ifndef EMBSUM_BATCH_PLOT_AXIS_H
#define EMBSUM_BATCH_PLOT_AXIS_H

#include <stddef.h>

/* Ticks at first, first + step, ..., count of them; the step is 1, 2 or 5 times a power of ten. */
struct plot_axis {
    double first, step;
    size_t count;
};

/* The axis that holds low and high, with a tick at or beyond each of them and about `wanted` (2 to 20) steps between. An
 * extent that is empty is widened; one that is not finite or is upside down counts as 0 to 1. */
struct plot_axis plot_axis_make(double low, double high, size_t wanted);

/* The tick as text, with the decimals that the step needs: 0.65, 12000 as 12k, 25000000 as 25M. */
void plot_axis_label(char out[32], const struct plot_axis *axis, size_t tick);

/* The last tick. */
double plot_axis_last(const struct plot_axis *axis);

#endif
