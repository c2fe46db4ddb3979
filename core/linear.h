/* Products with a weight matrix that is packed once, y = x W^T, for inference: float32, bfloat16, or int8 with a scale
 * per output channel of W and per row of x. One kernel for each kind of processor, chosen when the matrix is packed, as
 * in core/scorer.h. For training, whose weights change at every step, there is core/gemm.h.
 *
 *     linear_new(&linear, LINEAR_BF16, NULL, &weight, &err);
 *     rows = {units, linear_stride(LINEAR_BF16, inputs), scales}            units: zeros at first, aligned to 64
 *     linear_convert(&rows, linear, x, inputs, count);                      or linear_norm(), linear_activate()
 *     linear_apply(&out, linear, &rows, count);
 *
 * A row of the result depends on that row of x alone, bit for bit, however many rows there are and wherever it stands
 * among them: sums run over k in one order in all tiles, full or not, by the same instructions.
 *
 * A matrix does not change once it is packed: any number of threads may use it. Nothing but linear_new() allocates. */
#ifndef EMBSUM_CORE_LINEAR_H
#define EMBSUM_CORE_LINEAR_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum linear_dtype { LINEAR_F32, LINEAR_BF16, LINEAR_INT8, LINEAR_DTYPES };
const char *linear_dtype_name(enum linear_dtype dtype); /* "float32", "bfloat16", "int8" */
int linear_dtype_parse(enum linear_dtype *dtype, const char *name, struct err *err); /* ERR_INVALID */

/* W, outputs x inputs, where it lies: the weight of output o and input i is data[o output_stride + i input_stride]. */
struct linear_weight {
    const float *data;
    size_t outputs, inputs, output_stride, input_stride;
};

struct linear;

/* kernel: NULL takes the fastest that this processor has for the dtype, else a name of linear_kernel_name(). ERR_INVALID
 * for a name that is none, one that this processor cannot run (the message says which it can), and sizes beyond 65536. */
int linear_new(struct linear **out, enum linear_dtype dtype, const char *kernel,
    const struct linear_weight *weight, struct err *err);
void linear_free(struct linear *linear); /* NULL is allowed */

/* All kernels, the plain one first: NULL behind the last. */
const char *linear_kernel_name(size_t i);
bool linear_kernel_runs(size_t i, enum linear_dtype dtype); /* on this processor */
const char *linear_kernel(const struct linear *linear);     /* the one in use */

/* ---- the rows of x ---- */

/* x in a dtype, in units of 4 bytes. int8: bytes q + 128 with x = q scale, or bytes q that are not negative with
 * x = q scale, where `positive`. */
struct linear_rows {
    uint32_t *units; /* row r is at units + r stride */
    size_t stride;   /* at least linear_stride() */
    float *scales;   /* of each row; int8 alone */
    bool positive;
};

/* Units of a row of `inputs` numbers, padded so that neighbours do not fall into the same sets of a cache. */
size_t linear_stride(enum linear_dtype dtype, size_t inputs);

/* rows = x (count x inputs), as the input of `linear`; x_stride: floats from one row of x to the next. */
void linear_convert(
    struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride, size_t count);

/* rows = x / sqrt(mean(x^2) + epsilon) * weight, each row of its own: T5's layer norm. x is count x inputs. */
void linear_norm(struct linear_rows *rows, const struct linear *linear, const float *x, const float *weight,
    float epsilon, size_t count);

/* rows = max(x, 0), or gelu_tanh(x[:, 0:inputs]) * x[:, inputs:2 inputs] where `gated` (T5 v1.1). */
void linear_activate(struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride,
    bool gated, size_t count);

/* ---- the product ---- */

enum linear_store { LINEAR_SET, LINEAR_ADD, LINEAR_RELU }; /* y = xW^T, y += xW^T, y = max(xW^T, 0) */

/* Where the result goes. `bf16` rounds it to bfloat16, not with LINEAR_ADD. With LINEAR_SET or LINEAR_RELU the units of
 * linear_rows of the same dtype may be written, whose padding must be zero. */
struct linear_out {
    void *data;    /* float, or uint16_t */
    size_t stride; /* elements from one row to the next */
    enum linear_store store;
    bool bf16;
};

void linear_apply(
    const struct linear_out *out, const struct linear *linear, const struct linear_rows *rows, size_t count);

#endif
