/* The score with its backward pass, in float64 (core/score.h has the equations).
 *
 * A score_tape holds the contents of a micro-batch, and one user's candidates among them at a time: what depends on the
 * content alone, gelu(B W_s), is computed once. It belongs to one thread and grows to its largest use.
 *
 *     score_contents                    B of all contents
 *       score_forward, score_backward   for each user, in this order
 *     score_contents_backward           the gradient of B and W_s over all users
 */
#ifndef EMBSUM_CORE_SCORE_TRAIN_H
#define EMBSUM_CORE_SCORE_TRAIN_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

struct score_tape;
int score_tape_new(struct score_tape **out, struct err *err);
void score_tape_free(struct score_tape *tape);

/* b is contents x n x d, score_proj d x d. */
int score_contents(struct score_tape *tape, const float *b, const float *score_proj, size_t n, size_t d,
    size_t contents, struct err *err);

/* scores[c] of the contents which[c], c < candidates (at least one), for a user's a (m x d). */
int score_forward(double *scores, struct score_tape *tape, const float *a, size_t m, const uint32_t *which,
    size_t candidates, struct err *err);

/* da (m x d) += for dscores[c]; the contents' part stays on the tape. */
void score_backward(float *da, const double *dscores, struct score_tape *tape);

/* db (contents x n x d) += and dproj (d x d) +=. */
void score_contents_backward(float *db, float *dproj, struct score_tape *tape);

/* L_NCE of one positive (index 0) against its negatives: returns -log softmax(scores)[0], and dscores its gradient. */
double score_nce(double *dscores, const double *scores, size_t candidates);

#endif
