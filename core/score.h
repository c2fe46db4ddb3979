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

/* gate (rows x d) = gelu(b (rows x d) score_proj (d x d)). gate must not overlap its inputs. */
void score_gate(float *gate, const float *b, const float *score_proj, size_t rows, size_t d);

/* Floats of scratch that score_candidates needs. */
size_t score_scratch_size(size_t m, size_t n, size_t candidates);

/* scores[c] for every candidate c; blocks is candidates x 2n x d (B over G for each candidate).
 * No allocation. The result lies between the smallest and the largest similarity of the pair. */
void score_candidates(float *scores, const float *a, const float *blocks, size_t m, size_t n, size_t d,
    size_t candidates, float *scratch);

/* The same from the definition, in float64, one pair at a time, without BLAS: the judge of the fast one.
 * weights and similarities (m x n each) may be NULL. */
double score_plain(double *weights, double *similarities, const float *a, const float *b, const float *gate,
    size_t m, size_t n, size_t d);

#endif
