/* The best k of a stream of scores: a heap with the worst of the kept ones on top, so that keeping the best
 * 10 of a million takes room for 10.
 *
 * Better is a higher score; among equals, the lower index: ties come out in the order asked. */
#ifndef EMBSUM_SERVER_TOP_H
#define EMBSUM_SERVER_TOP_H

#include <stddef.h>
#include <stdint.h>

struct top_hit {
    float score; /* finite */
    uint32_t index;
};

struct top {
    struct top_hit *hits; /* room for k, the caller's */
    size_t count, k;
};

void top_add(struct top *top, float score, uint32_t index);
void top_sort(struct top *top); /* best first; nothing may be added afterwards */

#endif
