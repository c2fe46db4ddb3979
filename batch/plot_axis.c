#include "batch/plot_axis.h"

#include <math.h>
#include <stdio.h>

/* The smallest of 1, 2, 5 times a power of ten that is not below the raw step. */
static double nice_step(double raw)
{
    const double power = pow(10, floor(log10(raw))), share = raw / power;
    return (share <= 1 + 1e-9 ? 1 : share <= 2 + 1e-9 ? 2 : share <= 5 + 1e-9 ? 5 : 10) * power;
}

struct plot_axis plot_axis_make(double low, double high, size_t wanted)
{
    if (!isfinite(low) || !isfinite(high) || low > high || high - low > 1e300) {
        low = 0;
        high = 1;
    }
    /* Less than float64 can tell apart from the values themselves is no extent. */
    const double least = 1e-9 * (fabs(low) + fabs(high));
    if (high - low <= least) {
        const double half = low == 0 && high == 0 ? 0.5 : fmax(0.05 * fabs(low), 1e-12);
        low -= half;
        high += half;
    }
    const double step = nice_step((high - low) / (double)wanted);
    const double first = floor(low / step + 1e-9), last = ceil(high / step - 1e-9);
    return (struct plot_axis){first * step, step, (size_t)(last - first) + 1};
}

double plot_axis_last(const struct plot_axis *axis)
{
    return axis->first + (double)(axis->count - 1) * axis->step;
}

void plot_axis_label(char out[32], const struct plot_axis *axis, size_t tick)
{
    const double most = fmax(fabs(axis->first), fabs(plot_axis_last(axis)));
    const double unit = most >= 1e7 ? 1e6 : most >= 1e4 ? 1e3 : 1;
    double value = axis->first + (double)tick * axis->step;
    if (fabs(value) < 1e-6 * axis->step)
        value = 0; /* no "-0.00" where rounding left a rest */
    const double decimals = fmax(0, ceil(-log10(axis->step / unit) - 1e-9));
    if (decimals > 8 || most >= 1e12)
        snprintf(out, 32, "%.6g", value);
    else
        snprintf(out, 32, "%.*f%s", (int)decimals, value / unit,
            value == 0    ? ""
            : unit == 1e6 ? "M"
            : unit == 1e3 ? "k"
                          : "");
}
