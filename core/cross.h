/* Cross-attention of one decoder position over the encoder's states themselves.
 *
 * A head's scores are q (W_k S^T) = (q W_k) S^T and its context is (softmax(scores) S) W_v^T. With W_k moved to the query
 * and W_v behind the sum nothing is kept of a source but its states S, which all layers and all steps share, where keys
 * and values would be two matrices a layer. What is done here lies between the two: for every head
 *
 *     context (d) = softmax(query (d) S^T) S
 *
 * in one pass over S, softmax being kept online (Milakov and Gimelshein 2018, arXiv 1805.02867; in blocks, as in
 * FlashAttention, arXiv 2205.14135). It costs d / d_kv times the multiplications of keys and values, which the
 * processor has to spare while it waits for memory.
 *
 * One source's result depends on nothing but its own states and queries: not on who else is decoded. */
#ifndef EMBSUM_CORE_CROSS_H
#define EMBSUM_CORE_CROSS_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

/* How states are stored. Those in bfloat16 (the upper halves of float32) are half the traffic and, where the processor
 * multiplies bfloat16, half the work: queries and the softmax's weights are rounded to it there, sums stay float32. */
enum cross_dtype { CROSS_F32, CROSS_BF16, CROSS_DTYPES };
const char *cross_dtype_name(enum cross_dtype dtype); /* "float32", "bfloat16" */

/* The states that one position reads: len x d, rows one behind the other, aligned as their numbers are; len >= 1. */
struct cross_source {
    const void *states;
    size_t len;
    enum cross_dtype dtype;
};

struct cross_kernel;

/* The fastest for this processor and dtype. */
const struct cross_kernel *cross_best(enum cross_dtype dtype);

/* All kernels from the slowest to the fastest, the plain one, which judges the others, first; NULL behind the last. */
const struct cross_kernel *cross_kernel(size_t i);
const char *cross_kernel_name(const struct cross_kernel *kernel);
bool cross_kernel_runs(const struct cross_kernel *kernel, enum cross_dtype dtype); /* on this processor */

/* context (heads x d) = softmax(query (heads x d) S^T) S, each head for itself. Finite scores of any size do not overflow.
 * context may be query.
 * scratch: cross_scratch() floats, aligned to 64 bytes. */
void cross_attend(const struct cross_kernel *kernel, float *context, const float *query,
    const struct cross_source *source, size_t heads, size_t d, float *scratch);
size_t cross_scratch(size_t heads, size_t d);

#endif
