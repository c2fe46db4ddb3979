/* How far two rankings with ties agree. core/metrics.h has the tau of two orders without. */
#ifndef EMBSUM_CORE_KENDALL_H
#define EMBSUM_CORE_KENDALL_H

#include <stddef.h>
#include <stdint.h>

/* Kendall's tau-b of two scores of the same `count` candidates, which may be tied (Kendall, Biometrika 33, 1945):
 * (C - D) / sqrt((C + D + T) (C + D + U)), over the pairs that stand in the same order by both (C), the other way round (D),
 * and tied in the second alone (T) or in the first alone (U). NaN where one of them ties all. scratch: 3 count + 1.
 * O(count log count), without allocation. */
double kendall_tau_b(const float *scores, const float *others, size_t count, uint32_t *scratch);

#endif
