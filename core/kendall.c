#include "core/kendall.h"

#include "core/metrics.h"

#include <math.h>
#include <string.h>

/* Pairs with equal scores; rank (may be NULL) receives each candidate's rank from 1, the same for equal ones. */
static uint64_t count_ties(uint32_t *rank, const uint32_t *order, const float *scores, size_t count)
{
    uint64_t tied = 0;
    uint32_t place = 0;
    for (size_t i = 0, end; i < count; i = end) {
        place++;
        for (end = i; end < count && scores[order[end]] == scores[order[i]]; end++)
            if (rank)
                rank[order[end]] = place;
        tied += (uint64_t)(end - i) * (end - i - 1) / 2;
    }
    return tied;
}

/* Ranks of the second, taken in the order of the first: how many there were up to a rank is a Fenwick tree's business, as in
 * metrics_tau(). Those that the first ties are looked up together before any of them is put into it. */
double kendall_tau_b(const float *scores, const float *others, size_t count, uint32_t *scratch)
{
    uint32_t *order = scratch, *rank = order + count, *seen = rank + count;
    const uint64_t pairs = (uint64_t)count * (count ? count - 1 : 0) / 2;
    uint64_t same = 0, inverted = 0;
    metrics_order(order, others, count);
    const uint64_t tied_others = count_ties(rank, order, others, count);
    metrics_order(order, scores, count);
    const uint64_t tied = count_ties(NULL, order, scores, count);
    memset(seen, 0, (count + 1) * sizeof *seen);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first; end < count && scores[order[end]] == scores[order[first]]; end++) {
            uint64_t better = 0, not_worse = 0; /* by the others, among those before the group */
            for (size_t i = rank[order[end]] - 1; i > 0; i &= i - 1)
                better += seen[i];
            for (size_t i = rank[order[end]]; i > 0; i &= i - 1)
                not_worse += seen[i];
            same += better;
            inverted += first - not_worse;
        }
        for (size_t k = first; k < end; k++)
            for (size_t i = rank[order[k]]; i <= count; i += i & -i)
                seen[i]++;
    }
    if (tied == pairs || tied_others == pairs)
        return (double)NAN;
    return ((double)same - (double)inverted) / sqrt((double)(pairs - tied) * (double)(pairs - tied_others));
}
