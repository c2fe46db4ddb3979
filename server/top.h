/* The best k of a stream of scores: a heap with the worst of the kept ones on top, so that keeping the best
 * 10 of a million takes room for 10. As long as there is room nothing is ordered at all.
 *
 *     struct top top = {.hits = hits, .scratch = scratch, .k = k};
 *     top_add_chunk(&top, scores, NULL, 0, count);
 *     top_sort(&top);
 *
 * Better is a higher score; among equals, the lower index: ties come out in the order asked. -0 equals 0. */
#ifndef EMBSUM_SERVER_TOP_H
#define EMBSUM_SERVER_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct top_hit {
    float score; /* finite */
    uint32_t index;
};

struct top {
    struct top_hit *hits;    /* room for k, the caller's */
    struct top_hit *scratch; /* the same, for top_sort; NULL: it takes several times as long */
    size_t count, k;
    bool heap; /* the hits are one, as some had to be left out */
};

void top_add(struct top *top, float score, uint32_t index);

/* Add count scores; the index of score i is first + index[i], or first + i if index is NULL. */
void top_add_chunk(struct top *top, const float *scores, const uint32_t *index, uint32_t first, size_t count);

void top_sort(struct top *top); /* best first; nothing may be added afterwards */

#endif
