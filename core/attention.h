/* Attention of one sequence over itself, one head, for inference: context = softmax(Q K^T + bias) V, a block of queries
 * beside all keys at a time, so that weights stay in the L1 cache. The kernels are those of core/linear.h.
 *
 * In bfloat16 the operands of both products are bfloat16 (the weights rounded after the softmax), sums are float32. The
 * result of a sequence depends on nothing but its own rows, bit for bit. */
#ifndef EMBSUM_CORE_ATTENTION_H
#define EMBSUM_CORE_ATTENTION_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

struct attention {
    size_t length, d_kv;
    const void *q, *k, *v; /* rows of the head, length x d_kv: float, or uint16_t in bfloat16 */
    size_t stride;         /* elements from one row to the next */
    const float *bias; /* of relative position 0, those of key - query beside it, and ATTENTION_PAD more */
    float *context;    /* length x d_kv */
    size_t context_stride;
};

enum { ATTENTION_PAD = 32 }; /* floats that are read behind the bias of the last key, and mean nothing */

/* The i-th of linear_kernel_name(), on this processor. */
bool attention_kernel_runs(size_t i, bool bf16);

/* The kernel called `name` if it has attention, else the fastest. *bf16: bfloat16 was asked for, and the kernel has it;
 * the plain kernel is never the fastest. name: NULL or one that linear_new() takes. */
struct linear_kernel;
const struct linear_kernel *attention_choose(bool *bf16, bool wanted_bf16, const char *name);

/* Bytes for attention_run() with sequences of up to `longest`, aligned to 64. */
size_t attention_scratch(size_t longest, size_t d_kv);
void attention_run(
    const struct linear_kernel *kernel, bool bf16, const struct attention *attention, void *scratch);

#endif
