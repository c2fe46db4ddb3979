#include "server/top.h"

#include <stdbool.h>
#include <stdlib.h>

static bool is_worse(const struct top_hit *a, const struct top_hit *b)
{
    return a->score < b->score || (a->score == b->score && a->index > b->index);
}

static void sink(struct top_hit *hits, size_t count, size_t at)
{
    const struct top_hit hit = hits[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_worse(&hits[child + 1], &hits[child]))
            child++;
        if (!is_worse(&hits[child], &hit))
            break;
        hits[at] = hits[child];
    }
    hits[at] = hit;
}

/* Nothing is ordered until there is something to leave out. */
void top_add(struct top *top, float score, uint32_t index)
{
    const struct top_hit hit = {score, index};
    if (top->count < top->k) {
        top->hits[top->count++] = hit;
        if (top->count == top->k)
            for (size_t i = top->k / 2; i-- > 0;)
                sink(top->hits, top->k, i);
    } else if (top->k && is_worse(&top->hits[0], &hit)) {
        top->hits[0] = hit;
        sink(top->hits, top->k, 0);
    }
}

static int compare(const void *a, const void *b)
{
    return is_worse(a, b) ? 1 : is_worse(b, a) ? -1 : 0;
}

void top_sort(struct top *top)
{
    if (top->count)
        qsort(top->hits, top->count, sizeof *top->hits, compare);
}
