/* EmbSum's score of a (user, content) pair (EmbSum, section 2 "CTR prediction"; DESIGN's "Score").
 *
 *     A  m x d   the user's matrix          B  n x d   the content's matrix        W_s  d x d
 *     G = gelu(B W_s)                        exact (erf) gelu; depends on the content alone
 *     K = flatten(A B^T)                     mn similarities
 *     W = softmax(flatten(A G^T))            over all mn values jointly
 *     s = W . K
 *
 * G is computed once, when a content enters memory; B and G of one content lie together as one
 * 2n x d block (B first), so that a request is one matrix product over the blocks of its candidates.
 * All functions are pure and may run in any number of threads at once.
 */
#ifndef EMBSUM_CORE_SCORE_H
#define EMBSUM_CORE_SCORE_H

#include <stddef.h>

/* Products are summed in float64: with 512 float32 terms a sum in float32 is off by up to 1e-5 of |a| |g|,
 * and the softmax over the logits multiplies that by the spread of the similarities. */

/* gate (rows x d) = gelu(b (rows x d) score_proj (d x d)). scratch holds score_gate_scratch() doubles. */
void score_gate(float *gate, const float *b, const float *score_proj, size_t rows, size_t d, double *scratch);
size_t score_gate_scratch(size_t rows, size_t d);

/* scores[c] for every candidate c; blocks is candidates x 2n x d (B over G for each candidate). scratch holds
 * score_scratch() doubles, whatever the number of candidates. No allocation. A score lies between the
 * smallest and the largest similarity of its pair. */
void score_candidates(float *scores, const float *a, const float *blocks, size_t m, size_t n, size_t d,
    size_t candidates, double *scratch);
size_t score_scratch(size_t m, size_t n, size_t d);

/* The same from the definition, one pair at a time, without BLAS: the judge of the fast one.
 * weights and similarities (m x n each) may be NULL. */
double score_plain(double *weights, double *similarities, const float *a, const float *b, const float *gate,
    size_t m, size_t n, size_t d);

#endif
