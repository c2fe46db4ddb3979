/* The best of many at the price of int8: every content is scored in int8, with a bound on what float32 may give; the k
 * most promising are scored in float32, and their worst is a threshold; of the others only those whose bound reaches it
 * are looked at again, first with a second int8 for what the first leaves of the user, and at last in float32.
 *
 * The true error of int8 is a hundredth of its bound, so that the threshold is all but final once the k most promising
 * are known: a queue in the order of the bounds was not better. */
#include "core/scorer.h"

#include "core/scorer_both.h"
#include "core/scorer_int.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A block: contents that are looked at before the next threshold; those whose pages are asked for together. */
enum { BLOCK = 1024, TOUCHED = 64, NO_SLOT = -1 };

/* What a block works on; everything points into the caller's scratch. */
struct best {
    const struct scorer *scorer;
    const void *user;
    float *products, *weights, *y, *z; /* [slot][2n][lanes]; [n][lanes]; [scorer_norms(n)] each */
    float *upper;                      /* [content]: no float32 score is larger */
    float *rough;                      /* [content]: the int8 scores */
    int32_t *slot;                     /* [content]: where its products are, or NO_SLOT */
    const void **list;                 /* what to score in float32, */
    uint32_t *index;                   /* which content of the block it is, */
    float *exact;                      /* and its score */
    float *heap, *rough_heap;          /* the k best scores so far, the worst first; the block's in int8 */
    size_t k, filled, rough_filled, product_size;
    float floor;
};

static size_t lines(size_t bytes)
{
    return (bytes + SCORER_LINE - 1) / SCORER_LINE * SCORER_LINE;
}

/* Takes bytes from the scratch; with NULL it only counts. */
static void *take(char *scratch, size_t *used, size_t bytes)
{
    void *at = scratch ? scratch + *used : NULL;
    *used += lines(bytes);
    return at;
}

static size_t lay_out(struct best *best, const struct scorer *scorer, size_t count, size_t k, char *scratch)
{
    const size_t block = count < BLOCK ? count : BLOCK, heap = k < count ? k : count;
    size_t used = 0;
    *best = (struct best){.scorer = scorer, .k = k};
    if (!scorer->exact)
        return used;
    const size_t lanes = scorer->rough->panels * SCORER_LANES;
    best->product_size = 2 * scorer->n * lanes;
    best->products = take(scratch, &used, block * best->product_size * sizeof(float));
    best->weights = take(scratch, &used, scorer->n * lanes * sizeof(float));
    best->y = take(scratch, &used, scorer_norms(scorer->n) * sizeof(float));
    best->z = take(scratch, &used, scorer_norms(scorer->n) * sizeof(float));
    best->upper = take(scratch, &used, block * sizeof(float));
    best->rough = take(scratch, &used, block * sizeof(float));
    best->slot = take(scratch, &used, block * sizeof *best->slot);
    best->list = take(scratch, &used, block * sizeof *best->list);
    best->index = take(scratch, &used, block * sizeof *best->index);
    best->exact = take(scratch, &used, block * sizeof(float));
    best->heap = take(scratch, &used, heap * sizeof(float));
    best->rough_heap = take(scratch, &used, heap * sizeof(float));
    return used;
}

size_t scorer_best_bytes(const struct scorer *scorer, size_t count, size_t k)
{
    struct best best;
    return lay_out(&best, scorer, count, k, NULL);
}

/* ---- the threshold ---- */

/* A score at the heap's root sinks to where it belongs. */
static void sink(float *heap, size_t count, float score)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (!(heap[child] < score))
            break;
        heap[at] = heap[child];
    }
    heap[at] = score;
}

static void heap_add(float *heap, size_t *filled, size_t k, float score)
{
    if (*filled == k) {
        if (k && score > heap[0])
            sink(heap, k, score);
        return;
    }
    if (isnan(score))
        return;
    size_t at = (*filled)++;
    for (; at && heap[(at - 1) / 2] > score; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = score;
}

/* The worst of the k best that a heap has seen, or the floor. */
static float level_of(const struct best *best, const float *heap, size_t filled)
{
    if (best->k == 0)
        return INFINITY;
    const float worst = filled == best->k ? heap[0] : -INFINITY;
    return worst > best->floor ? worst : best->floor;
}

/* Who is worse than this is not among the k best, or below the floor. */
static float threshold(const struct best *best)
{
    return level_of(best, best->heap, best->filled);
}

/* ---- passes over a block ---- */

/* Content c through a stage: its score in int8, and the bound. products: the stage's are set, or added. */
static void estimate(
    struct best *best, size_t stage, size_t c, float *products, const void *content, const void *next)
{
    const struct scorer *scorer = best->scorer, *rough = scorer->rough;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    const struct scorer_stage *constants = scorer_both_stages(scorer, best->user) + stage;
    const void *user = stage ? scorer_both_rest(scorer, best->user) : best->user;
    struct scorer_reach reach;
    struct scorer_moments moments;
    bounder->products(rough, products, stage > 0, user, content, next);
    scorer_bound_reach(&reach, best->y, best->z, constants, scorer_both_norms(scorer, content), scorer->n);
    bounder->moments(rough, &moments, best->weights, products, user, best->y, best->z);
    best->rough[c] = moments.score;
    best->upper[c] = scorer_bound_upper(constants, &reach, &moments, scorer->m * scorer->n);
}

/* All contents through the first stage. Products are kept of those that may be looked at again: whose bound is not below
 * the k-th best int8 score so far. The others leave their slot, still in the cache, to the next. */
static void first_stage(struct best *best, const void *const *contents, size_t count)
{
    const size_t bytes = scorer_both_first_bytes(best->scorer);
    int32_t slots = 0;
    best->rough_filled = 0;
    for (size_t c = 0; c < count; c++) {
        const size_t next = c + (c ? TOUCHED : 0);
        if (c % TOUCHED == 0 && next < count)
            scorer_touch(contents + next, count - next < TOUCHED ? count - next : TOUCHED, bytes);
        estimate(best, 0, c, best->products + (size_t)slots * best->product_size, contents[c],
            c + 1 < count ? contents[c + 1] : NULL);
        heap_add(best->rough_heap, &best->rough_filled, best->k, best->rough[c]);
        const float level = level_of(best, best->rough_heap, best->rough_filled);
        best->slot[c] = best->upper[c] >= level && best->upper[c] < INFINITY ? slots++ : NO_SLOT;
    }
}

/* Scores the listed ones in float32 and keeps them. */
static void rescore(struct best *best, float *scores, unsigned char *kept, size_t listed)
{
    const struct scorer *exact = best->scorer->exact;
    const void *user = scorer_both_user(best->scorer, best->user);
    scorer_run(exact, best->exact, &user, 1, best->list, listed);
    for (size_t i = 0; i < listed; i++) {
        scores[best->index[i]] = best->exact[i];
        kept[best->index[i]] = 1;
        heap_add(best->heap, &best->filled, best->k, best->exact[i]);
    }
}

static size_t list_content(struct best *best, size_t listed, const void *const *contents, size_t c)
{
    best->list[listed] = scorer_both_content(best->scorer, contents[c]);
    best->index[listed] = (uint32_t)c;
    return listed + 1;
}

/* The k most promising, which give a threshold. */
static size_t score_promising(
    struct best *best, float *scores, unsigned char *kept, const void *const *contents, size_t count)
{
    const float level = level_of(best, best->rough_heap, best->rough_filled), floor = threshold(best);
    size_t listed = 0;
    for (size_t c = 0; c < count && listed < best->k; c++)
        if (best->rough[c] >= level && best->rough[c] >= floor)
            listed = list_content(best, listed, contents, c);
    rescore(best, scores, kept, listed);
    return listed;
}

/* Whom neither stage excludes. */
static size_t score_open(
    struct best *best, float *scores, unsigned char *kept, const void *const *contents, size_t count)
{
    const float level = threshold(best);
    size_t open = 0, listed = 0;
    for (size_t c = 0; c < count; c++)
        if (!kept[c] && !(best->upper[c] < level))
            best->index[open++] = (uint32_t)c;
    for (size_t i = 0; i < open; i++) {
        const size_t c = best->index[i];
        if (best->slot[c] != NO_SLOT)
            estimate(best, 1, c, best->products + (size_t)best->slot[c] * best->product_size, contents[c],
                i + 1 < open ? contents[best->index[i + 1]] : NULL);
        if (!(best->upper[c] < level)) /* listed <= i: the index written to has been read */
            listed = list_content(best, listed, contents, c);
    }
    rescore(best, scores, kept, listed);
    return listed;
}

/* ---- */

size_t scorer_best(const struct scorer *scorer, float *scores, unsigned char *kept, const void *user,
    const void *const *contents, size_t count, size_t k, float floor, void *scratch)
{
    /* Among half of all, int8 finds nothing to exclude. */
    const bool search =
        scorer->exact && scorer->rough->kernel->bounder && (k < count / 2 || floor > -INFINITY);
    if (!search) {
        scorer_run(scorer, scores, &user, 1, contents, count);
        memset(kept, 1, count);
        return count;
    }
    struct best best;
    size_t total = 0;
    lay_out(&best, scorer, count, k, scratch);
    best.user = user;
    best.floor = floor;
    memset(kept, 0, count);
    for (size_t c = 0; c < count; c += BLOCK) {
        const size_t here = count - c < BLOCK ? count - c : BLOCK;
        first_stage(&best, contents + c, here);
        total += score_promising(&best, scores + c, kept + c, contents + c, here);
        total += score_open(&best, scores + c, kept + c, contents + c, here);
    }
    return total;
}
