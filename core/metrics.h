/* How good a ranking is: MIND's metrics, one impression at a time and over a set (DESIGN, "Metrics").
 *
 * An impression is `count` candidates with a score and a label each, 1 for clicked and 0 for not. With r(c)
 * the rank of c, from 1, in the order of metrics_order():
 *
 *     auc        share of the (positive, negative) pairs whose positive has the higher score; a tie is a half
 *     mrr        sum over the positives of 1 / r, divided by the number of positives
 *     ndcg@k     DCG / IDCG, DCG = sum over r <= k of (2^label - 1) / log2(r + 1), IDCG that of the best order
 *     mrr_first  1 / r of the positive that is ranked first
 *
 * Scores must be finite. Everything is summed in float64. Pairs are counted in integers: auc is exact but for
 * one division.
 */
#ifndef EMBSUM_CORE_METRICS_H
#define EMBSUM_CORE_METRICS_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics {
    double auc, mrr, ndcg5, ndcg10, mrr_first;
};

/* order[k] = the candidate at rank k + 1: by descending score, equal ones as they stand in the impression. In
 * place, O(count log count), without allocation. */
void metrics_order(uint32_t *order, const float *scores, size_t count);

/* Kendall's tau of two orders of the same `count` candidates, at least two: 1 for the same order, -1 for the reverse,
 * 1 - 4 I / (count (count - 1)) with I the pairs that stand the other way round. Orders of metrics_order() have no ties,
 * so that tau-a and tau-b are the same. scratch: 2 count + 1. O(count log count). */
double metrics_tau(const uint32_t *order, const uint32_t *other, size_t count, uint32_t *scratch);

/* The metrics of one impression, with its order. False, and nothing written, when it has no positive or no
 * negative: none of them means anything then. */
bool metrics_impression(
    struct metrics *out, const float *scores, const uint8_t *labels, const uint32_t *order, size_t count);

/* A set of impressions: the means over those that count, and the scores of all labelled candidates (4 bytes
 * each) for the pooled AUC. Zero-initialised is empty and valid. */
struct metrics_set {
    struct metrics sum;
    size_t counted, skipped;
    float *scores[2]; /* of the negatives and of the positives */
    size_t count[2], capacity[2];
};
void metrics_set_done(struct metrics_set *set);

/* Add an impression. One without labels (NULL), without a positive or without a negative is skipped: counted,
 * but in no mean; its labelled scores are still in the pool. -ERR_NOMEM leaves the set as it was. */
int metrics_set_add(struct metrics_set *set, const float *scores, const uint8_t *labels,
    const uint32_t *order, size_t count, struct err *err);

/* Means over the impressions that count; NaN when there are none. */
struct metrics metrics_set_mean(const struct metrics_set *set);

/* AUC over all pairs of a positive and a negative of the whole set, whatever impressions they are of (Mann
 * and Whitney's U over the product of the numbers); NaN without a pair. Sorts the pool: O(N log N). */
double metrics_set_auc_pooled(struct metrics_set *set);

#endif
