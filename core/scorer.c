#include "core/scorer.h"

#include "core/half.h"
#include "core/scorer_both.h"
#include "core/scorer_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which kernel ---- */

/* From the slowest to the fastest. */
static const struct scorer_kernel *const kernels[] = {
    &scorer_plain, &scorer_portable, &scorer_avx2, &scorer_avx512, &scorer_avx512_vnni, &scorer_avx512_bf16};
enum { KERNELS = sizeof kernels / sizeof *kernels };

const char *scorer_dtype_name(enum scorer_dtype dtype)
{
    static const char *const names[] = {"float32", "bfloat16", "int8", "float32+int8"};
    return names[dtype];
}

const char *scorer_kernel_name(size_t i)
{
    return i < KERNELS ? kernels[i]->name : NULL;
}

bool scorer_kernel_runs(size_t i, enum scorer_dtype dtype)
{
    const enum scorer_dtype run = dtype == SCORER_F32_INT8 ? SCORER_INT8 : dtype;
    return i < KERNELS && kernels[i]->run[run] && kernels[i]->runs();
}

const char *scorer_kernel(const struct scorer *scorer)
{
    return scorer->kernel->name;
}

/* The fastest, or the one called `name`. */
static int choose(
    const struct scorer_kernel **out, enum scorer_dtype dtype, const char *name, struct err *err)
{
    char list[128] = "";
    const struct scorer_kernel *chosen = NULL;
    for (size_t i = 0; i < KERNELS; i++) {
        if (!scorer_kernel_runs(i, dtype))
            continue;
        const size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", kernels[i]->name);
        if (!name || strcmp(name, kernels[i]->name) == 0)
            chosen = kernels[i];
    }
    if (!chosen)
        return err_set(err, ERR_INVALID, "no kernel \"%s\" for %s on this processor, which runs %s", name,
            scorer_dtype_name(dtype), list);
    *out = chosen;
    return 0;
}

/* Gates of a bfloat16 or int8 scorer are multiplied in bfloat16 if the processor does; only a kernel that cannot
 * multiply them itself (it knows int8 alone) borrows another one's. */
static void choose_gate(struct scorer *scorer)
{
    const struct scorer_kernel *kernel = scorer->kernel;
    for (size_t i = KERNELS; i-- && !kernel->gate[SCORER_F32] && !kernel->gate[SCORER_BF16];)
        if ((kernels[i]->gate[SCORER_F32] || kernels[i]->gate[SCORER_BF16]) && kernels[i]->runs())
            kernel = kernels[i];
    scorer->gate_kernel = kernel;
    scorer->gate_dtype = kernel->gate[SCORER_BF16] ? SCORER_BF16 : SCORER_F32;
}

/* ---- a scorer ---- */

static size_t round_up(size_t x, size_t step)
{
    return (x + step - 1) / step * step;
}

/* Even: kernels take two at a time. */
static size_t steps_of(enum scorer_dtype dtype, size_t d)
{
    return round_up(d, 2 * scorer_per_unit(dtype)) / scorer_per_unit(dtype);
}

int scorer_new(struct scorer **out, enum scorer_dtype dtype, const char *kernel, size_t m, size_t n, size_t d,
    struct err *err)
{
    /* Far from an overflow of int32 in a product of int8, and of size_t in the layouts. */
    if (m < 1 || n < 1 || d < 1 || m > 65536 || n > 65536 || d > 65536)
        return err_set(err, ERR_INVALID, "no scorer for m %zu, n %zu, d %zu: 1 to 65536 each", m, n, d);
    if (dtype == SCORER_F32_INT8)
        return scorer_both_new(out, kernel, m, n, d, err);
    struct scorer scorer = {.dtype = dtype, .m = m, .n = n, .d = d};
    const int code = choose(&scorer.kernel, dtype, kernel, err);
    if (code < 0)
        return code;
    choose_gate(&scorer);
    scorer.steps = steps_of(dtype, d);
    scorer.panels = (m - 1) / SCORER_LANES + 1;
    scorer.gate_steps = steps_of(scorer.gate_dtype, d);
    scorer.gate_panels = (d - 1) / SCORER_LANES + 1;
    const size_t panel = SCORER_LANES * sizeof(uint32_t), row = scorer.steps * sizeof(uint32_t);
    scorer.user_bytes = scorer.panels * (scorer.steps * panel + sizeof(struct scorer_lanes));
    scorer.content_bytes = round_up(2 * n * (row + (dtype == SCORER_INT8 ? sizeof(float) : 0)), SCORER_LINE);
    scorer.proj_bytes = scorer.gate_panels * scorer.gate_steps * panel;
    struct scorer *made = malloc(sizeof *made);
    if (!made)
        return err_set(err, ERR_NOMEM, "no memory for a scorer");
    *made = scorer;
    *out = made;
    return 0;
}

void scorer_free(struct scorer *scorer)
{
    if (scorer && scorer->exact)
        scorer_both_done(scorer);
    free(scorer);
}

size_t scorer_user_bytes(const struct scorer *scorer)
{
    return scorer->user_bytes;
}

size_t scorer_content_bytes(const struct scorer *scorer)
{
    return scorer->content_bytes;
}

size_t scorer_proj_bytes(const struct scorer *scorer)
{
    return scorer->exact ? scorer->exact->proj_bytes : scorer->proj_bytes;
}

/* ---- packing: a row to its units, which lie `stride` apart ---- */

/* The d numbers of a row, which lie `apart` floats apart, to float32 or bfloat16, from `step` on. */
static void pack(enum scorer_dtype dtype, uint32_t *units, size_t stride, const float *row, size_t apart,
    size_t d, size_t step)
{
    const size_t steps = steps_of(dtype, d), whole = d / scorer_per_unit(dtype);
    if (dtype == SCORER_F32)
        for (; step < whole; step++)
            memcpy(units + step * stride, row + step * apart, sizeof *units);
    else
        for (; step < whole; step++)
            units[step * stride] =
                f32_to_bf16(row[2 * step * apart]) | (uint32_t)f32_to_bf16(row[(2 * step + 1) * apart]) << 16;
    if (dtype == SCORER_BF16 && d % 2)
        units[step++ * stride] = f32_to_bf16(row[(d - 1) * apart]);
    for (; step < steps; step++)
        units[step * stride] = 0;
}

/* Symmetric: the largest magnitude becomes 127; bias is added to each byte. Returns the scale; *total is the sum of the
 * quantised numbers. */
static float pack_int8(
    uint32_t *units, size_t stride, const float *row, size_t d, unsigned bias, int32_t *total)
{
    float top = 0;
    for (size_t k = 0; k < d; k++)
        top = fabsf(row[k]) > top ? fabsf(row[k]) : top;
    const double inverse = top > 0 ? 127 / (double)top : 0; /* finite for the smallest float, too */
    const size_t steps = steps_of(SCORER_INT8, d);
    int32_t sum = 0;
    for (size_t step = 0; step < steps; step++) {
        uint32_t unit = 0;
        for (size_t i = 0; i < 4; i++) {
            const size_t k = 4 * step + i;
            const int32_t q = k < d ? (int32_t)lrint((double)row[k] * inverse) : 0;
            unit |= (uint32_t)(uint8_t)((unsigned)q + bias) << 8 * i;
            sum += q;
        }
        units[step * stride] = unit;
    }
    *total = sum;
    return (float)((double)top / 127);
}

void scorer_pack_user(const struct scorer *scorer, void *user, const float *a)
{
    if (scorer->exact) {
        scorer_both_pack_user(scorer, user, a);
        return;
    }
    struct scorer_lanes *constants =
        (struct scorer_lanes *)((uint32_t *)user + scorer->panels * scorer->steps * SCORER_LANES);
    for (size_t i = 0; i < scorer->panels * SCORER_LANES; i++) {
        const bool live = i < scorer->m;
        const float *row = a + (live ? i * scorer->d : 0);
        uint32_t *units = (uint32_t *)user + scorer_lane(scorer->steps, i);
        float scale = 1;
        int32_t sum = 0;
        if (scorer->dtype == SCORER_INT8)
            scale = pack_int8(units, SCORER_LANES, row, scorer->d, 0, &sum);
        else
            pack(scorer->dtype, units, SCORER_LANES, row, 1, scorer->d, 0);
        struct scorer_lanes *panel = constants + i / SCORER_LANES;
        panel->live[i % SCORER_LANES] = live ? 1 : 0;
        panel->scale[i % SCORER_LANES] = scale;
        panel->offset[i % SCORER_LANES] = -SCORER_BIAS * sum;
    }
}

/* One row of a content the plain way, from `step` on. */
static void pack_row(const struct scorer *scorer, void *content, const float *row, size_t r, size_t step)
{
    float *scales = (float *)content + 2 * scorer->n * scorer->steps;
    size_t stride;
    uint32_t *units = (uint32_t *)content + scorer_row(scorer, r, &stride);
    int32_t sum;
    if (scorer->dtype == SCORER_INT8)
        scales[r] = pack_int8(units, stride, row, scorer->d, SCORER_BIAS, &sum);
    else
        pack(scorer->dtype, units, stride, row, 1, scorer->d, step);
}

/* A full block from row r on, by the kernel as far as it does that; returns the steps that are done. */
static size_t pack_block(const struct scorer *scorer, void *content, const float *const *rows, size_t r)
{
    const struct scorer_kernel *kernel = scorer->kernel;
    float *scales = (float *)content + 2 * scorer->n * scorer->steps;
    uint32_t *units = (uint32_t *)content + r * scorer->steps;
    if (scorer->dtype == SCORER_INT8)
        return kernel->pack_int8 && kernel->pack_int8(units, scales + r, rows, scorer->d) ? scorer->steps : 0;
    return kernel->pack[scorer->dtype] ? kernel->pack[scorer->dtype](units, rows, scorer->d) : 0;
}

void scorer_pack_content(const struct scorer *scorer, void *content, const float *b, const float *gate)
{
    enum { BLOCK = 2 * SCORER_PAIRS };
    if (scorer->exact) {
        scorer_both_pack_content(scorer, content, b, gate);
        return;
    }
    for (size_t r = 0; r < 2 * scorer->n; r += BLOCK) {
        const size_t left = 2 * scorer->n - r, count = left < BLOCK ? left : BLOCK;
        const float *rows[BLOCK];
        for (size_t i = 0; i < count; i++)
            rows[i] = (i % 2 ? gate : b) + (r + i) / 2 * scorer->d;
        const size_t done = count == BLOCK ? pack_block(scorer, content, rows, r) : 0;
        for (size_t i = 0; i < count && done < scorer->steps; i++)
            pack_row(scorer, content, rows[i], r + i, done);
    }
    const size_t used = 2 * scorer->n * (scorer->steps + (scorer->dtype == SCORER_INT8)) * sizeof(uint32_t);
    memset((char *)content + used, 0, scorer->content_bytes - used);
}

void scorer_pack_proj(const struct scorer *scorer, void *proj, const float *score_proj)
{
    scorer = scorer->exact ? scorer->exact : scorer;
    const size_t steps = scorer->gate_steps;
    for (size_t i = 0; i < scorer->gate_panels * SCORER_LANES; i++) {
        uint32_t *units = (uint32_t *)proj + scorer_lane(steps, i);
        if (i < scorer->d)
            pack(scorer->gate_dtype, units, SCORER_LANES, score_proj + i, scorer->d, scorer->d, 0);
        else
            for (size_t k = 0; k < steps; k++)
                units[k * SCORER_LANES] = 0;
    }
}

/* ---- and back ---- */

/* One number of a row; bias: what was added to an int8. */
static float number(enum scorer_dtype dtype, const uint32_t *units, size_t stride, size_t k, unsigned bias)
{
    const size_t per_unit = scorer_per_unit(dtype);
    const uint32_t unit = units[k / per_unit * stride];
    float value;
    switch (dtype) {
    case SCORER_INT8:
        return (float)(int8_t)((unit >> 8 * (k % 4)) - bias);
    case SCORER_BF16:
        return bf16_to_f32((uint16_t)(unit >> 16 * (k % 2)));
    default:
        memcpy(&value, &unit, sizeof value);
        return value;
    }
}

void scorer_unpack_user(const struct scorer *scorer, float *a, const void *user)
{
    if (scorer->exact) {
        scorer_unpack_user(scorer->exact, a, scorer_both_user(scorer, user));
        return;
    }
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, user);
    for (size_t i = 0; i < scorer->m; i++) {
        const uint32_t *units = (const uint32_t *)user + scorer_lane(scorer->steps, i);
        const float scale = constants[i / SCORER_LANES].scale[i % SCORER_LANES];
        for (size_t k = 0; k < scorer->d; k++)
            a[i * scorer->d + k] = scale * number(scorer->dtype, units, SCORER_LANES, k, 0);
    }
}

void scorer_unpack_content(const struct scorer *scorer, float *b, float *gate, const void *content)
{
    if (scorer->exact) {
        scorer_unpack_content(scorer->exact, b, gate, scorer_both_content(scorer, content));
        return;
    }
    const float *scales = scorer_row_scales(scorer, content);
    for (size_t r = 0; r < 2 * scorer->n; r++) {
        float *rows = r % 2 ? gate : b;
        size_t stride;
        const uint32_t *units = (const uint32_t *)content + scorer_row(scorer, r, &stride);
        const float scale = scorer->dtype == SCORER_INT8 ? scales[r] : 1;
        for (size_t k = 0; rows && k < scorer->d; k++)
            rows[r / 2 * scorer->d + k] = scale * number(scorer->dtype, units, stride, k, SCORER_BIAS);
    }
}

/* ---- scoring ---- */

/* BLOCK_BYTES stay in the L2 cache while user after user is scored on them. With one user a block is as many contents
 * as have their pages touched together, and the content AHEAD of the one at hand is fetched. */
enum { BLOCK_BYTES = 256 * 1024, BLOCK_CONTENTS = 32, AHEAD = 2, PAGE = 4096 };

/* Two limits of a core were measured, in virtual machines, on contents scattered over a pool that no cache holds. Lines
 * that are fetched into the L1 cache arrive at 11 GB/s, whatever the distance and the order, and at 18 GB/s when they
 * are fetched into the L2 cache, which keeps more of them under way; hence both, one behind the other. And the first
 * access to a page, be it a prefetch, holds up everything behind it; the same accesses in a row, ahead of the pass, cost
 * less than half of that. Presumably it is the translation of the address that is waited for. Pages of 4 KiB are
 * assumed, as translations of huge pages may be kept in pieces of that size. */
void scorer_touch(const void *const *contents, size_t count, size_t bytes)
{
    for (size_t c = 0; c < count; c++) {
        const char *content = contents[c];
        for (size_t at = 0; at < bytes; at += PAGE)
            __builtin_prefetch(content + at);
        __asm__ volatile(""); /* GCC drops calls of a function that does nothing but prefetch */
    }
}

void scorer_run(const struct scorer *scorer, float *scores, const void *const *users, size_t user_count,
    const void *const *contents, size_t count)
{
    if (scorer->exact) {
        scorer_both_run(scorer, scores, users, user_count, contents, count);
        return;
    }
    size_t block = user_count > 1 ? BLOCK_BYTES / scorer->content_bytes : BLOCK_CONTENTS;
    block = block ? block : 1;
    scorer_touch(contents, count < block ? count : block, scorer->content_bytes);
    for (size_t c = 0; c < count; c += block) {
        const size_t left = count - c, here = left < block ? left : block;
        scorer_touch(contents + c + here, left - here < block ? left - here : block, scorer->content_bytes);
        for (size_t u = 0; u < user_count; u++) {
            /* The last of several users fetches the next block. */
            const bool last = u + 1 == user_count;
            scorer->kernel->run[scorer->dtype](scorer, scores + u * count + c, users[u], contents + c, here,
                last && u > 0 ? block : AHEAD, last ? left : here);
        }
    }
}

void scorer_gate(const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows)
{
    scorer = scorer->exact ? scorer->exact : scorer;
    scorer->gate_kernel->gate[scorer->gate_dtype](scorer, gate, proj, b, rows);
}
