/* The best of many at the price of int8: every content is scored in int8, with a bound on what float32 may give; the k
 * most promising are scored in float32, and their worst is a threshold; of the others only those whose bound reaches it
 * are looked at again, first with a second int8 for what the first leaves of the user, and at last in float32.
 *
 * The true error of int8 is a hundredth of its bound, so that the threshold is all but final once the k most promising
 * are known; a queue in the order of the bounds would raise it by next to nothing. */
#include "core/scorer.h"

#include "core/scorer_both.h"
#include "core/scorer_int.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Contents that are looked at before the next threshold; that have their pages asked for together; and that go through
 * the bound together, step by step, as the steps of one wait for each other. */
enum { BLOCK = 1024, TOUCHED = 64, GROUP = 8, NO_SLOT = -1 };

/* What a block works on; everything points into the caller's scratch. */
struct best {
    const struct scorer *scorer;
    const void *user;
    float *products;          /* [slot][2n][lanes] */
    float *weights, *y, *z;   /* [member of the group][n][lanes]; [member][scorer_norms(n)] */
    int32_t *free_slots;      /* the last is taken first: it may still be in the cache */
    float *upper;             /* [content]: no float32 score is larger */
    float *rough;             /* [content]: the int8 scores */
    int32_t *slot;            /* [content]: where its products are, or NO_SLOT */
    const void **list;        /* what to score in float32, */
    uint32_t *index;          /* which content of the block it is, */
    float *exact;             /* and its score */
    float *heap, *rough_heap; /* the k best scores so far, the worst first; the block's in int8 */
    size_t k, filled, rough_filled, product_size, weight_size, free_count;
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
    best->weight_size = scorer->n * lanes;
    best->weights = take(scratch, &used, GROUP * best->weight_size * sizeof(float));
    best->y = take(scratch, &used, GROUP * scorer_norms(scorer->n) * sizeof(float));
    best->z = take(scratch, &used, GROUP * scorer_norms(scorer->n) * sizeof(float));
    best->upper = take(scratch, &used, block * sizeof(float));
    best->rough = take(scratch, &used, block * sizeof(float));
    best->slot = take(scratch, &used, block * sizeof *best->slot);
    best->free_slots = take(scratch, &used, block * sizeof *best->free_slots);
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

/* Up to GROUP contents of the block, which have slots, through a stage: their scores in int8, and their bounds. ids:
 * `count` of them, and behind them, if any are `left`, those that come next. */
static void estimate(struct best *best, size_t stage, const void *const *contents, const uint32_t *ids,
    size_t count, size_t left)
{
    const struct scorer *scorer = best->scorer, *rough = scorer->rough;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    const struct scorer_stage *constants = scorer_both_stages(scorer, best->user) + stage;
    const void *user = stage ? scorer_both_rest(scorer, best->user) : best->user;
    const size_t norms = scorer_norms(scorer->n);
    float *products[GROUP], *weights[GROUP];
    struct scorer_reach reach[GROUP];
    struct scorer_moments moments[GROUP];
    for (size_t i = 0; i < count; i++) {
        products[i] = best->products + (size_t)best->slot[ids[i]] * best->product_size;
        weights[i] = best->weights + i * best->weight_size;
        bounder->products(rough, products[i], stage > 0, user, contents[ids[i]],
            i + 1 < count + left ? contents[ids[i + 1]] : NULL);
    }
    for (size_t i = 0; i < count; i++)
        bounder->weigh(rough, &moments[i], weights[i], products[i], user);
    for (size_t i = 0; i < count; i++)
        scorer_bound_reach(&reach[i], best->y + i * norms, best->z + i * norms, constants,
            scorer_both_norms(scorer, contents[ids[i]]), scorer->n);
    for (size_t i = 0; i < count; i++)
        bounder->moments(
            rough, &moments[i], weights[i], products[i], best->y + i * norms, best->z + i * norms);
    for (size_t i = 0; i < count; i++) {
        best->rough[ids[i]] = moments[i].score;
        best->upper[ids[i]] = scorer_bound_upper(constants, &reach[i], &moments[i], scorer->m * scorer->n);
    }
}

/* All contents through the first stage. Products are kept of those that may be looked at again: whose bound is not below
 * the k-th best int8 score so far. The others give their slots back. */
static void first_stage(struct best *best, const void *const *contents, size_t count)
{
    const size_t bytes = scorer_both_first_bytes(best->scorer);
    best->rough_filled = 0;
    best->free_count = count;
    for (size_t c = 0; c < count; c++) {
        best->free_slots[c] = (int32_t)(count - 1 - c);
        best->index[c] = (uint32_t)c;
    }
    scorer_touch(contents, count < TOUCHED ? count : TOUCHED, bytes);
    for (size_t c = 0; c < count; c += GROUP) {
        const size_t here = count - c < GROUP ? count - c : GROUP, next = c + TOUCHED;
        if (next < count)
            scorer_touch(contents + next, count - next < GROUP ? count - next : GROUP, bytes);
        for (size_t i = c; i < c + here; i++)
            best->slot[i] = best->free_slots[--best->free_count];
        estimate(best, 0, contents, best->index + c, here, count - c - here);
        for (size_t i = c; i < c + here; i++) {
            heap_add(best->rough_heap, &best->rough_filled, best->k, best->rough[i]);
            const float level = level_of(best, best->rough_heap, best->rough_filled);
            if (best->upper[i] >= level && best->upper[i] < INFINITY)
                continue;
            best->free_slots[best->free_count++] = best->slot[i];
            best->slot[i] = NO_SLOT;
        }
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
    for (size_t c = 0; c < count; c++) {
        /* What the second stage usually leaves of the distance is too much: float32 at once. */
        const bool hopeless = best->rough[c] + 0.42F * (best->upper[c] - best->rough[c]) >= level;
        if (!kept[c] && best->upper[c] >= level && best->slot[c] != NO_SLOT && !hopeless)
            best->index[open++] = (uint32_t)c;
    }
    for (size_t i = 0; i < open; i += GROUP) {
        const size_t here = open - i < GROUP ? open - i : GROUP;
        estimate(best, 1, contents, best->index + i, here, open - i - here);
    }
    for (size_t c = 0; c < count; c++)
        if (!kept[c] && !(best->upper[c] < level))
            listed = list_content(best, listed, contents, c);
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
