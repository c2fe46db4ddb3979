/* How far two encodings of the same contents, users and impressions agree: what a rounder dtype costs.
 *
 * A matrix's relative error is the Frobenius norm of the difference over that of the reference; an impression's scores are
 * taken as one such row. Rankings are those of metrics_order(), without ties, and count where there are two candidates.
 */
#ifndef EMBSUM_BATCH_EVAL_AGREEMENT_H
#define EMBSUM_BATCH_EVAL_AGREEMENT_H

#include "core/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct eval_errors {
    double sum, largest;
    size_t count;
};

/* Zero-initialised is empty and valid. */
struct eval_agreement {
    struct eval_errors contents, users, scores;
    double tau_sum, tau_least;
    size_t rankings, same_first; /* those with two candidates; with the same one on top */
    uint32_t *scratch;
    size_t scratch_size;
};
void eval_agreement_done(struct eval_agreement *agreement);

/* One matrix of `count` numbers. A reference of zeros has the error 0 or infinity. */
void eval_errors_add(struct eval_errors *errors, const float *found, const float *reference, size_t count);

/* One impression's orders. ERR_NOMEM leaves all as it was. */
int eval_agreement_rank(struct eval_agreement *agreement, const uint32_t *found, const uint32_t *reference,
    size_t count, struct err *err);

/* {"rankings", "tau", "tau_least", "same_first", "b_error": {"count", "mean", "largest"}, "a_error", "score_error"}: null for
 * what is not finite. The caller's to decref; NULL when memory is short. */
json_t *eval_agreement_json(const struct eval_agreement *agreement, struct err *err);

#endif
