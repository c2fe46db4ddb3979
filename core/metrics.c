#include "core/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one impression ---- */

static bool before(const float *scores, uint32_t a, uint32_t b)
{
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

/* Let the entry at `root` sink until none below it belongs behind it. */
static void sift(uint32_t *heap, const float *scores, size_t root, size_t count)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && before(scores, heap[child], heap[child + 1]))
            child++;
        if (!before(scores, heap[root], heap[child]))
            return;
        const uint32_t swap = heap[root];
        heap[root] = heap[child];
        heap[child] = swap;
    }
}

/* A heap sort: `before` orders any two candidates, so that it need not be a stable sort to give a stable
 * order; and it needs no memory, as qsort() may. */
void metrics_order(uint32_t *order, const float *scores, size_t count)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count / 2; i-- > 0;)
        sift(order, scores, i, count);
    for (size_t last = count; last-- > 1;) {
        const uint32_t swap = order[0];
        order[0] = order[last];
        order[last] = swap;
        sift(order, scores, 0, last);
    }
}

/* Ranks of the first order, taken as the second has them: each is inverted with the greater ones before it. How many
 * there were up to a rank is a Fenwick tree's business: seen[i] is the number of those in (i - (i & -i), i]. */
double metrics_tau(const uint32_t *order, const uint32_t *other, size_t count, uint32_t *scratch)
{
    uint32_t *rank = scratch, *seen = scratch + count;
    uint64_t inverted = 0;
    for (size_t k = 0; k < count; k++)
        rank[order[k]] = (uint32_t)k + 1;
    memset(seen, 0, (count + 1) * sizeof *seen);
    for (size_t k = 0; k < count; k++) {
        inverted += k;
        for (size_t i = rank[other[k]]; i > 0; i &= i - 1)
            inverted -= seen[i];
        for (size_t i = rank[other[k]]; i <= count; i += i & -i)
            seen[i]++;
    }
    return 1 - 4 * (double)inverted / ((double)count * (double)(count - 1));
}

static double discount(size_t rank)
{
    return 1 / log2((double)rank + 1);
}

static double ndcg(const uint8_t *labels, const uint32_t *order, size_t count, size_t positives, size_t k)
{
    double dcg = 0, ideal = 0;
    for (size_t i = 0; i < k && i < count; i++) {
        dcg += labels[order[i]] ? discount(i + 1) : 0;
        ideal += i < positives ? discount(i + 1) : 0;
    }
    return dcg / ideal;
}

/* Twice the pairs that are in the right order, a tie being half a pair. Equal scores stand together. */
static uint64_t twice_won(const float *scores, const uint8_t *labels, const uint32_t *order, size_t count)
{
    uint64_t won = 0, above = 0; /* positives above the group in hand */
    for (size_t i = 0, end; i < count; i = end) {
        uint64_t group[2] = {0, 0};
        for (end = i; end < count && scores[order[end]] == scores[order[i]]; end++)
            group[labels[order[end]] != 0]++;
        won += group[0] * (2 * above + group[1]);
        above += group[1];
    }
    return won;
}

bool metrics_impression(
    struct metrics *out, const float *scores, const uint8_t *labels, const uint32_t *order, size_t count)
{
    size_t positives = 0, first = 0;
    double reciprocal = 0;
    for (size_t i = 0; i < count; i++) {
        if (!labels[order[i]])
            continue;
        if (!positives++)
            first = i + 1;
        reciprocal += 1 / (double)(i + 1);
    }
    if (!positives || positives == count)
        return false;
    const double pairs = (double)positives * (double)(count - positives);
    const uint64_t won = twice_won(scores, labels, order, count);
    *out = (struct metrics){
        .auc = (double)won / (2 * pairs),
        .mrr = reciprocal / (double)positives,
        .ndcg5 = ndcg(labels, order, count, positives, 5),
        .ndcg10 = ndcg(labels, order, count, positives, 10),
        .mrr_first = 1 / (double)first,
    };
    return true;
}

/* ---- a set of impressions ---- */

void metrics_set_done(struct metrics_set *set)
{
    free(set->scores[0]);
    free(set->scores[1]);
    *set = (struct metrics_set){0};
}

static int reserve(struct metrics_set *set, size_t more, struct err *err)
{
    for (size_t label = 0; label < 2; label++) {
        if (set->capacity[label] - set->count[label] >= more)
            continue;
        const size_t capacity = set->capacity[label] + set->capacity[label] / 2 + more + 1024;
        float *scores = realloc(set->scores[label], capacity * sizeof *scores);
        if (!scores)
            return err_set(err, ERR_NOMEM, "out of memory for %zu scores", capacity);
        set->scores[label] = scores;
        set->capacity[label] = capacity;
    }
    return 0;
}

int metrics_set_add(struct metrics_set *set, const float *scores, const uint8_t *labels,
    const uint32_t *order, size_t count, struct err *err)
{
    struct metrics one;
    const int result = labels ? reserve(set, count, err) : 0;
    if (result < 0)
        return result;
    for (size_t i = 0; labels && i < count; i++) {
        const size_t label = labels[i] != 0;
        set->scores[label][set->count[label]++] = scores[i];
    }
    if (!labels || !metrics_impression(&one, scores, labels, order, count)) {
        set->skipped++;
        return 0;
    }
    set->counted++;
    set->sum.auc += one.auc;
    set->sum.mrr += one.mrr;
    set->sum.ndcg5 += one.ndcg5;
    set->sum.ndcg10 += one.ndcg10;
    set->sum.mrr_first += one.mrr_first;
    return 0;
}

struct metrics metrics_set_mean(const struct metrics_set *set)
{
    const double count = set->counted ? (double)set->counted : (double)NAN;
    return (struct metrics){set->sum.auc / count, set->sum.mrr / count, set->sum.ndcg5 / count,
        set->sum.ndcg10 / count, set->sum.mrr_first / count};
}

static int ascending(const void *a, const void *b)
{
    float x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

double metrics_set_auc_pooled(struct metrics_set *set)
{
    const size_t negatives = set->count[0], positives = set->count[1];
    const float *negative = set->scores[0], *positive = set->scores[1];
    if (!negatives || !positives)
        return (double)NAN;
    qsort(set->scores[0], negatives, sizeof *negative, ascending);
    qsort(set->scores[1], positives, sizeof *positive, ascending);
    uint64_t won = 0; /* twice the pairs, a tie being half a pair */
    for (size_t i = 0, below = 0, upto = 0; i < positives; i++) {
        while (below < negatives && negative[below] < positive[i])
            below++;
        while (upto < negatives && negative[upto] <= positive[i])
            upto++;
        won += below + upto;
    }
    return (double)won / (2 * (double)positives * (double)negatives);
}
