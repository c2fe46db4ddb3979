/* Shared by core/cross*.c alone. */
#ifndef EMBSUM_CORE_CROSS_INT_H
#define EMBSUM_CORE_CROSS_INT_H

#include "core/cross.h"

#include <stdint.h>

/* Tokens of a block: what the second product reads is still in the L2 cache from the first, and the sums, which go
 * through the L1 cache once a block, cost little. A last block is filled up with zeros to a multiple of CROSS_STEP. */
enum { CROSS_BLOCK = 48, CROSS_STEP = 12 };

/* Room for any kernel: heads in groups of up to CROSS_HEADS, numbers of a row in chunks of up to CROSS_CHUNK. */
enum { CROSS_HEADS = 8, CROSS_CHUNK = 32, CROSS_LANES = 16 };

typedef void cross_run(float *context, const float *query, const struct cross_source *source, size_t heads,
    size_t d, float *scratch);

/* A kernel for one kind of processor. What it has no path for is NULL. */
struct cross_kernel {
    const char *name;
    bool (*runs)(void);
    cross_run *run[CROSS_DTYPES];
};

extern const struct cross_kernel cross_plain, cross_portable, cross_avx2, cross_avx512, cross_avx512_bf16;

/* What a kernel's scratch is divided into; core/cross.c. */
struct cross_room {
    float *query, *sums; /* heads x d each, as the kernel likes it */
    float *scores;       /* CROSS_BLOCK x CROSS_HEADS, of one group */
    float *state;        /* of each group of heads: 3 x CROSS_LANES */
    float *rows;         /* CROSS_BLOCK x d: a block that is not read where it lies */
};
struct cross_room cross_divide(float *scratch, size_t heads, size_t d);

#endif
