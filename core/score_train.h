/* The score of one user against a few candidates with its backward pass, in float64 (core/score.h has the equations).
 *
 * A score_tape keeps what the backward pass needs; it belongs to one thread and grows to its largest use.
 */
#ifndef EMBSUM_CORE_SCORE_TRAIN_H
#define EMBSUM_CORE_SCORE_TRAIN_H

#include "core/err.h"

#include <stddef.h>

struct score_tape;
int score_tape_new(struct score_tape **out, struct err *err);
void score_tape_free(struct score_tape *tape);

/* scores[c] for c < candidates; a is m x d, b candidates x n x d, score_proj d x d. */
int score_forward(double *scores, struct score_tape *tape, const float *a, const float *b,
    const float *score_proj, size_t m, size_t n, size_t d, size_t candidates, struct err *err);

/* da (m x d) +=, db (candidates x n x d) +=, dproj (d x d) += for dscores[c], after score_forward. */
void score_backward(float *da, float *db, float *dproj, const double *dscores, struct score_tape *tape);

/* L_NCE of one positive (index 0) against its negatives: returns -log softmax(scores)[0], and dscores its gradient. */
double score_nce(double *dscores, const double *scores, size_t candidates);

#endif
