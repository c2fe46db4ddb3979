/* What the kernels of products and of attention share: the packed layout and the table of kernels. For
 * core/linear*.c and core/attention.c alone.
 *
 * Units of 4 bytes hold 1 float32, 2 bfloat16 or 4 int8 of one row, neighbours along k, as in core/scorer_int.h. A step
 * is one unit of every row at hand, so that all dtypes share one loop. k is padded with zeros to an even number of
 * steps; panels of 32 outputs (lanes) are [panel][step][32]. */
#ifndef EMBSUM_CORE_LINEAR_INT_H
#define EMBSUM_CORE_LINEAR_INT_H

#include "core/attention.h"
#include "core/linear.h"

enum {
    LINEAR_LANES = 32,
    LINEAR_LINE = 64,
    LINEAR_BIAS = 128,
    ATTENTION_ROWS = 16 /* the most queries that a kernel works on at a time */
};

/* A kernel for one kind of processor. What it has no path for is NULL. */
struct linear_kernel {
    const char *name;
    bool (*runs)(void);
    void (*apply[LINEAR_DTYPES])(const struct linear_out *out, const struct linear *linear,
        const struct linear_rows *rows, size_t count);
    void (*convert[LINEAR_DTYPES])(
        struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride, size_t count);
    void (*norm[LINEAR_DTYPES])(struct linear_rows *rows, const struct linear *linear, const float *x,
        const float *weight, float epsilon, size_t count);
    void (*activate[LINEAR_DTYPES])(struct linear_rows *rows, const struct linear *linear, const float *x,
        size_t x_stride, bool gated, size_t count);
    void (*attend[LINEAR_INT8])(const struct attention *attention, void *scratch); /* float32, bfloat16 */
};

struct linear {
    const struct linear_kernel *kernel;
    enum linear_dtype dtype;
    size_t outputs, inputs;
    size_t steps, panels;
    uint32_t *units;
    float *scales; /* of each output, padded to whole panels; int8 alone */
    int32_t *sums; /* of each output's weights: takes the bias of a row's bytes out; int8 alone */
};

extern const struct linear_kernel linear_plain, linear_portable, linear_avx2, linear_avx512,
    linear_avx512_bf16, linear_avx512_vnni;

/* The fastest kernel for a dtype, or the one called `name`; core/linear.c. */
int linear_choose(
    const struct linear_kernel **out, enum linear_dtype dtype, const char *name, struct err *err);
const struct linear_kernel *linear_kernel_at(size_t i); /* NULL behind the last */

/* Numbers of a row in a unit: 1, 2, 4. */
static inline size_t linear_per_unit(enum linear_dtype dtype)
{
    return (size_t)1 << dtype;
}

/* Even: kernels take two at a time. */
static inline size_t linear_steps(enum linear_dtype dtype, size_t inputs)
{
    const size_t pair = 2 * linear_per_unit(dtype);
    return (inputs + pair - 1) / pair * 2;
}

/* A length in whole panels. */
static inline size_t attention_pad(size_t length)
{
    return (length + LINEAR_LANES - 1) / LINEAR_LANES * LINEAR_LANES;
}

#endif
