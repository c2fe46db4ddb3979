#include "server/top.h"

#include <string.h>

/* Up to here sorting by insertion is faster than counting digits. */
enum { FEW = 24 };

static bool is_worse(const struct top_hit *a, const struct top_hit *b)
{
    return a->score < b->score || (a->score == b->score && a->index > b->index);
}

/* ---- the heap ---- */

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

static void make_heap(struct top_hit *hits, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sink(hits, count, i);
}

void top_add(struct top *top, float score, uint32_t index)
{
    const struct top_hit hit = {score, index};
    if (top->count < top->k) {
        top->hits[top->count++] = hit;
        return;
    }
    if (!top->k)
        return;
    if (!top->heap)
        make_heap(top->hits, top->k);
    top->heap = true;
    if (is_worse(&top->hits[0], &hit)) {
        top->hits[0] = hit;
        sink(top->hits, top->k, 0);
    }
}

void top_add_chunk(struct top *top, const float *scores, const uint32_t *index, uint32_t first, size_t count)
{
    const size_t room = top->k - top->count, kept = count < room ? count : room;
    struct top_hit *const to = top->hits + top->count;
    for (size_t i = 0; i < kept; i++)
        to[i] = (struct top_hit){scores[i], first + (index ? index[i] : (uint32_t)i)};
    top->count += kept;
    for (size_t i = kept; i < count; i++)
        if (!top->heap || scores[i] >= top->hits[0].score) /* most of a long stream are worse than all kept */
            top_add(top, scores[i], first + (index ? index[i] : (uint32_t)i));
}

/* ---- sorting ---- */

static void sort_by_insertion(struct top_hit *hits, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct top_hit hit = hits[i];
        size_t at = i;
        for (; at > 0 && is_worse(&hits[at - 1], &hit); at--)
            hits[at] = hits[at - 1];
        hits[at] = hit;
    }
}

/* The worst goes from the heap's top to the end of what is left. */
static void sort_in_place(struct top_hit *hits, size_t count)
{
    make_heap(hits, count);
    while (count-- > 1) {
        const struct top_hit worst = hits[0];
        hits[0] = hits[count];
        hits[count] = worst;
        sink(hits, count, 0);
    }
}

static uint32_t index_key(struct top_hit hit)
{
    return hit.index;
}

/* The higher the score, the lower the key: the bits of positive floats rise with them, those of negative ones fall.
 * Adding 0 makes 0 of -0. No branch: signs come as they like. */
static uint32_t score_key(struct top_hit hit)
{
    const float score = hit.score + 0.0f;
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits ^ (((bits >> 31) - 1) & INT32_MAX);
}

/* Stable sort by a key, least digit first (radix 256), between two arrays; a digit that all have in common takes no
 * pass. Returns the array that has the result. Inlined, so that each key gets loops of its own. */
__attribute__((always_inline)) static inline struct top_hit *sort_by_key(
    struct top_hit *from, struct top_hit *to, size_t count, uint32_t (*key)(struct top_hit))
{
    uint32_t counts[4][256] = {{0}};
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = key(from[i]);
        counts[0][bits & 0xFF]++;
        counts[1][bits >> 8 & 0xFF]++;
        counts[2][bits >> 16 & 0xFF]++;
        counts[3][bits >> 24]++;
    }
    for (unsigned digit = 0; digit < 4; digit++) {
        uint32_t *places = counts[digit];
        if (places[key(from[0]) >> 8 * digit & 0xFF] == count)
            continue;
        for (uint32_t value = 0, sum = 0; value < 256; value++) {
            const uint32_t here = places[value];
            places[value] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++)
            to[places[key(from[i]) >> 8 * digit & 0xFF]++] = from[i];
        struct top_hit *const other = from;
        from = to;
        to = other;
    }
    return from;
}

static bool is_in_order(const struct top_hit *hits, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (hits[i - 1].index > hits[i].index)
            return false;
    return true;
}

void top_sort(struct top *top)
{
    struct top_hit *const hits = top->hits, *const scratch = top->scratch;
    const size_t count = top->count;
    if (count <= FEW) {
        sort_by_insertion(hits, count);
    } else if (!scratch) {
        sort_in_place(hits, count);
    } else {
        struct top_hit *sorted = hits;
        if (!is_in_order(hits, count)) /* a heap's are not */
            sorted = sort_by_key(sorted, scratch, count, index_key);
        sorted = sort_by_key(sorted, sorted == hits ? scratch : hits, count, score_key);
        if (sorted != hits)
            memcpy(hits, sorted, count * sizeof *hits);
    }
}
