/* What the scoring kernels share: the packed layouts and the table of kernels. For core/scorer*.c alone.
 *
 * All layouts are made of units: 4 bytes that hold 1 float32, 2 bfloat16 or 4 int8 of one row, neighbours along d. A
 * step is one unit of every row at hand, so that all three dtypes share one loop over steps. d is padded with zeros to
 * an even number of steps.
 *
 *     user      panels of 32 rows, [panel][step][32]; a row is a lane. Then a struct scorer_lanes for each panel.
 *     content   blocks of 4 pairs (B_j, G_j), the last one of n mod 4: [block][step][2 x pairs], B and G in turn.
 *               int8: bytes b + 128, as VPDPBUSD wants one operand unsigned; then a float scale for each of 2n rows.
 *     proj      as a user whose rows are the columns of W_s, in float32 or bfloat16, without lane constants.
 *
 * A content is one sequential stream to its reader, and two steps of a full block are one line of the cache. The
 * bytes of a unit are taken apart by shifts: the lowest is the first, on a little-endian processor. */
#ifndef EMBSUM_CORE_SCORER_INT_H
#define EMBSUM_CORE_SCORER_INT_H

#include "core/scorer.h"

#include <stdint.h>

enum { SCORER_LANES = 32, SCORER_PAIRS = 4, SCORER_LINE = 64, SCORER_BIAS = 128 };

/* What belongs to the 32 lanes of a panel. Lanes beyond m repeat row 0, so that they change neither the largest logit
 * nor the range of the similarities, and are weighted with 0. */
struct scorer_lanes {
    float live[SCORER_LANES]; /* 1, and 0 beyond m */
    float scale[SCORER_LANES];
    int32_t
        offset[SCORER_LANES]; /* -128 times the sum of the row: takes the content's bias out of a product */
};

struct scorer_bounder; /* core/scorer_bound.h */

/* A kernel for one kind of processor. What it has no path for is NULL. */
struct scorer_kernel {
    const char *name;
    bool (*runs)(void);
    /* scores[c] of one user and contents[c], c < count. While one is scored, the next is fetched into the L1 cache and
     * the one `ahead` behind it into the L2 cache, if they are among the first `left`. */
    void (*run[SCORER_F32_INT8])(const struct scorer *scorer, float *scores, const void *user,
        const void *const *contents, size_t count, size_t ahead, size_t left);
    /* scorer_gate() with proj in float32 and in bfloat16. */
    void (*gate[SCORER_INT8])(
        const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows);
    const struct scorer_bounder *bounder; /* of int8; NULL if it has none */
    /* The first steps of a full block of a content, as many as it returns, from its rows (B_j, then G_j) of d numbers;
     * float32 and bfloat16. */
    size_t (*pack[SCORER_INT8])(uint32_t *units, const float *const *rows, size_t d);
    /* A full block in int8 with its rows' scales; false if it is not of a size for that. */
    bool (*pack_int8)(uint32_t *units, float *scales, const float *const *rows, size_t d);
};

struct scorer {
    const struct scorer_kernel *kernel, *gate_kernel;
    enum scorer_dtype dtype, gate_dtype;
    size_t m, n, d;
    size_t steps, panels;           /* of a user; a content has the same steps */
    size_t gate_steps, gate_panels; /* of proj */
    size_t user_bytes, content_bytes, proj_bytes;
    struct scorer *exact,
        *rough; /* SCORER_F32_INT8: the float32 and the int8 scorer, else NULL; core/scorer_both.c */
};

extern const struct scorer_kernel scorer_plain, scorer_portable, scorer_avx2, scorer_avx512,
    scorer_avx512_bf16, scorer_avx512_vnni;

/* Where row r (B_j is row 2j, G_j the one behind it) of a content begins, in units; *stride from step to step. */
static inline size_t scorer_row(const struct scorer *scorer, size_t r, size_t *stride)
{
    const size_t block = r / (2 * SCORER_PAIRS), first = block * 2 * SCORER_PAIRS,
                 left = 2 * scorer->n - first;
    *stride = left < 2 * SCORER_PAIRS ? left : 2 * SCORER_PAIRS;
    return first * scorer->steps + r - first;
}

/* Where row r of a user or proj begins, in units; from step to step there are SCORER_LANES. */
static inline size_t scorer_lane(size_t steps, size_t r)
{
    return r / SCORER_LANES * SCORER_LANES * steps + r % SCORER_LANES;
}

/* Asks for the pages of the first `bytes` of every content; core/scorer.c. */
void scorer_touch(const void *const *contents, size_t count, size_t bytes);

/* Numbers of a row in a unit: 1, 2, 4. */
static inline size_t scorer_per_unit(enum scorer_dtype dtype)
{
    return (size_t)1 << dtype;
}

static inline const struct scorer_lanes *scorer_user_lanes(const struct scorer *scorer, const void *user)
{
    return (
        const struct scorer_lanes *)((const uint32_t *)user + scorer->panels * scorer->steps * SCORER_LANES);
}

static inline const float *scorer_row_scales(const struct scorer *scorer, const void *content)
{
    return (const float *)content + 2 * scorer->n * scorer->steps;
}

#endif
