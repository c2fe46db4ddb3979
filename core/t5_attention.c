/* Attention of one sequence and one head, forward and backward. A block of queries at a time, so that memory is linear
 * in the number of keys; the backward pass computes the weights again instead of keeping them. */
#include "core/gemm.h"
#include "core/t5_int.h"
#include "core/vec.h"

#include <string.h>

enum { QUERIES = T5_ATTENTION_QUERIES };

/* weights (some x keys) = softmax(Q K^T + bias) for the queries from `first` on, zero where a key lies ahead. */
static void weigh(float *weights, const struct t5_attention *a, size_t first, size_t some)
{
    const size_t keys = a->causal ? first + some : a->keys; /* none of these queries looks further */
    gemm_part(
        GEMM_NT, weights, a->keys, a->q + first * a->ld_q, a->ld_q, a->k, a->ld_kv, some, keys, a->d_kv, 0);
    for (size_t i = 0; i < some; i++) {
        const size_t query = first + i, seen = a->causal ? query + 1 : a->keys;
        float *row = weights + i * a->keys;
        vec_softmax(
            row, a->bias ? a->bias - query : NULL, seen); /* key k is at relative position k - query */
        memset(row + seen, 0, (a->keys - seen) * sizeof *row);
    }
}

void t5_attention_forward(float *context, size_t ld_context, const struct t5_attention *a, float *scratch)
{
    for (size_t q = 0; q < a->queries; q += QUERIES) {
        const size_t some = a->queries - q < QUERIES ? a->queries - q : QUERIES;
        weigh(scratch, a, q, some);
        vec_dropout(scratch, some * a->keys, q * a->keys, &a->dropout);
        gemm_part(GEMM_NN, context + q * ld_context, ld_context, scratch, a->keys, a->v, a->ld_kv, some,
            a->d_kv, a->keys, 0); /* (Q,K) (K,e) -> (Q,e) */
    }
}

void t5_attention_backward(float *dq, float *dk, float *dv, float *dbias, const float *dcontext,
    size_t ld_context, const struct t5_attention *a, float *scratch)
{
    const size_t keys = a->keys;
    float *weights = scratch, *dweights = scratch + QUERIES * keys, *dropped = dweights + QUERIES * keys;
    for (size_t q = 0; q < a->queries; q += QUERIES) {
        const size_t some = a->queries - q < QUERIES ? a->queries - q : QUERIES;
        const float *dout = dcontext + q * ld_context;
        weigh(weights, a, q, some);
        memcpy(dropped, weights, some * keys * sizeof *weights);
        vec_dropout(dropped, some * keys, q * keys, &a->dropout);
        gemm_part(
            GEMM_TN, dv, a->ld_kv, dropped, keys, dout, ld_context, keys, a->d_kv, some, 1); /* (K,Q) (Q,e) */
        gemm_part(GEMM_NT, dweights, keys, dout, ld_context, a->v, a->ld_kv, some, keys, a->d_kv,
            0); /* (Q,e) (K,e)^T */
        vec_dropout(dweights, some * keys, q * keys, &a->dropout);
        for (size_t i = 0; i < some; i++) { /* through the softmax, in place: what are dlogits now */
            vec_softmax_backward(dweights + i * keys, weights + i * keys, keys);
            if (dbias)
                vec_add(dbias - (q + i), dweights + i * keys, a->causal ? q + i + 1 : keys);
        }
        gemm_part(GEMM_NN, dq + q * a->ld_q, a->ld_q, dweights, keys, a->k, a->ld_kv, some, a->d_kv, keys, 1);
        gemm_part(GEMM_TN, dk, a->ld_kv, dweights, keys, a->q + q * a->ld_q, a->ld_q, keys, a->d_kv, some, 1);
    }
}
