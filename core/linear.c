#include "core/linear.h"

#include "core/array.h"
#include "core/half.h"
#include "core/linear_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which kernel ---- */

/* From the slowest to the fastest. */
static const struct linear_kernel *const kernels[] = {
    &linear_plain, &linear_portable, &linear_avx2, &linear_avx512, &linear_avx512_vnni, &linear_avx512_bf16};
enum { KERNELS = sizeof kernels / sizeof *kernels };

const char *linear_dtype_name(enum linear_dtype dtype)
{
    static const char *const names[] = {"float32", "bfloat16", "int8"};
    return names[dtype];
}

int linear_dtype_parse(enum linear_dtype *dtype, const char *name, struct err *err)
{
    for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++) {
        if (strcmp(name, linear_dtype_name(i)) == 0) {
            *dtype = i;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "\"%s\" is not float32, bfloat16 or int8", name);
}

const struct linear_kernel *linear_kernel_at(size_t i)
{
    return i < KERNELS ? kernels[i] : NULL;
}

const char *linear_kernel_name(size_t i)
{
    return i < KERNELS ? kernels[i]->name : NULL;
}

bool linear_kernel_runs(size_t i, enum linear_dtype dtype)
{
    return i < KERNELS && kernels[i]->apply[dtype] && kernels[i]->runs();
}

const char *linear_kernel(const struct linear *linear)
{
    return linear->kernel->name;
}

int linear_choose(
    const struct linear_kernel **out, enum linear_dtype dtype, const char *name, struct err *err)
{
    char list[128] = "";
    const struct linear_kernel *chosen = NULL;
    for (size_t i = 0; i < KERNELS; i++) {
        if (!linear_kernel_runs(i, dtype))
            continue;
        const size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", kernels[i]->name);
        if (!name || strcmp(name, kernels[i]->name) == 0)
            chosen = kernels[i];
    }
    if (!chosen)
        return err_set(err, ERR_INVALID, "no kernel \"%s\" for %s on this processor, which runs %s", name,
            linear_dtype_name(dtype), list);
    *out = chosen;
    return 0;
}

/* ---- packing ---- */

static void pack_float(uint32_t *units, const float *weights, const struct linear_weight *w, bool bf16)
{
    for (size_t k = 0; k < w->inputs; k++) {
        const float x = weights[k * w->input_stride];
        uint32_t unit;
        memcpy(&unit, &x, sizeof unit);
        if (bf16)
            units[k / 2 * LINEAR_LANES] |= (uint32_t)f32_to_bf16(x) << 16 * (k % 2);
        else
            units[k * LINEAR_LANES] = unit;
    }
}

/* q = round(w / scale), the largest 127; *sum of all q. Returns the scale. */
static float pack_int8(uint32_t *units, int32_t *sum, const float *weights, const struct linear_weight *w)
{
    float top = 0;
    for (size_t k = 0; k < w->inputs; k++)
        top = fmaxf(top, fabsf(weights[k * w->input_stride]));
    const float scale = top / 127, inverse = top > 0 ? 127 / top : 0;
    *sum = 0;
    for (size_t k = 0; k < w->inputs; k++) {
        const long q = lrintf(weights[k * w->input_stride] * inverse);
        units[k / 4 * LINEAR_LANES] |= (uint32_t)(uint8_t)(int8_t)q << 8 * (k % 4);
        *sum += (int32_t)q;
    }
    return scale;
}

static void pack(struct linear *linear, const struct linear_weight *w)
{
    for (size_t o = 0; o < w->outputs; o++) {
        uint32_t *units = linear->units + o / LINEAR_LANES * LINEAR_LANES * linear->steps + o % LINEAR_LANES;
        const float *weights = w->data + o * w->output_stride;
        if (linear->dtype == LINEAR_INT8)
            linear->scales[o] = pack_int8(units, &linear->sums[o], weights, w);
        else
            pack_float(units, weights, w, linear->dtype == LINEAR_BF16);
    }
}

int linear_new(struct linear **out, enum linear_dtype dtype, const char *kernel,
    const struct linear_weight *weight, struct err *err)
{
    /* 65536 products of an int8 and a byte fit into 31 bits. */
    if (weight->outputs < 1 || weight->inputs < 1 || weight->outputs > 65536 || weight->inputs > 65536)
        return err_set(err, ERR_INVALID, "no product with a matrix of %zu x %zu: 1 to 65536 each",
            weight->outputs, weight->inputs);
    const struct linear_kernel *chosen;
    const int result = linear_choose(&chosen, dtype, kernel, err);
    if (result < 0)
        return result;
    struct linear *linear = calloc(1, sizeof *linear);
    if (!linear)
        return err_set(err, ERR_NOMEM, "out of memory");
    *linear = (struct linear){.kernel = chosen,
        .dtype = dtype,
        .outputs = weight->outputs,
        .inputs = weight->inputs,
        .steps = linear_steps(dtype, weight->inputs),
        .panels = (weight->outputs - 1) / LINEAR_LANES + 1};
    const size_t lanes = linear->panels * LINEAR_LANES;
    float *block = array_floats(lanes * (linear->steps + 2), true);
    if (!block) {
        linear_free(linear);
        return err_set(
            err, ERR_NOMEM, "out of memory for a matrix of %zu x %zu", weight->outputs, weight->inputs);
    }
    linear->units = (uint32_t *)block;
    linear->scales = block + lanes * linear->steps;
    linear->sums = (int32_t *)(linear->scales + lanes);
    pack(linear, weight);
    *out = linear;
    return 0;
}

void linear_free(struct linear *linear)
{
    if (linear)
        free(linear->units);
    free(linear);
}

/* ---- what the kernel does ---- */

size_t linear_stride(enum linear_dtype dtype, size_t inputs)
{
    const size_t line = LINEAR_LINE / sizeof(uint32_t);
    return (linear_steps(dtype, inputs) + line - 1) / line * line + line;
}

void linear_convert(
    struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride, size_t count)
{
    rows->positive = false;
    linear->kernel->convert[linear->dtype](rows, linear, x, x_stride, count);
}

void linear_norm(struct linear_rows *rows, const struct linear *linear, const float *x, const float *weight,
    float epsilon, size_t count)
{
    rows->positive = false;
    linear->kernel->norm[linear->dtype](rows, linear, x, weight, epsilon, count);
}

void linear_activate(struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride,
    bool gated, size_t count)
{
    rows->positive = !gated;
    linear->kernel->activate[linear->dtype](rows, linear, x, x_stride, gated, count);
}

void linear_apply(
    const struct linear_out *out, const struct linear *linear, const struct linear_rows *rows, size_t count)
{
    if (count)
        linear->kernel->apply[linear->dtype](out, linear, rows, count);
}
