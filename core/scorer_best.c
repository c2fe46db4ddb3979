/* The best of many at the price of int8: every content is scored in int8, with a bound on what float32 may give. Where a
 * few rows of the user have most of the weight, and the bound may be needed, these are refined with a second int8 of both
 * sides. The k most promising are scored in float32, and their worst is a threshold; of the others only those whose bound
 * reaches it are looked at again, first with the user's second int8 in all rows, and at last in float32.
 *
 * The true error of int8 is a hundredth of its bound, so that the threshold is all but final once the k most promising
 * are known; a queue in the order of the bounds would raise it by next to nothing. Only rows are refined before it is
 * known, as long as the content is in the cache: to fetch it once more took longer than to refine some for nothing. */
#include "core/scorer.h"

#include "core/scorer_both.h"
#include "core/scorer_int.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Contents that are looked at before the next threshold; that have their pages asked for together; and that go through
 * the bound together, step by step, as the steps of one wait for each other. ROUNDS: of refinement. */
enum { BLOCK = 1024, TOUCHED = 64, GROUP = 8, ROUNDS = 2, NO_SLOT = -1 };

/* Parts, by measurement: of the weight, from which on a row is refined, and which rows to be refined have together; of the
 * distance between score and bound, which a second pass usually leaves. */
static const float WORTH = 0.04F, MOST = 0.5F, PASSED = 0.42F;

/* A content in its group. */
struct member {
    uint32_t id; /* which of the block */
    struct scorer_bound_content content;
    struct scorer_reach reach;
    struct scorer_moments moments;
    float *products;                  /* [2n][lanes], in a slot */
    float *weights, *loose, *y, *z;   /* [n + 1][lanes], [lanes], [scorer_norms(n)] twice */
    uint32_t refined[SCORER_REFINED]; /* rows of the user */
    size_t refined_count;
};

struct group {
    struct member members[GROUP], *open[GROUP];
    size_t count, open_count; /* open: with rows to be refined */
};

/* What a block works on; everything points into the caller's scratch. */
struct best {
    const struct scorer *scorer;
    const void *user;
    struct scorer_bound_user bound_user;
    struct group groups[2]; /* one is scored while what the other needs to be refined is fetched */
    float *products;        /* [slot][2n][lanes] */
    int32_t *free_slots;    /* the last is taken first: it may still be in the cache */
    float *upper;           /* [content]: no float32 score is larger */
    float *rough;           /* [content]: the int8 scores */
    int32_t *slot;          /* [content]: where its products are, or NO_SLOT */
    const void **list;      /* what to score in float32, */
    uint32_t *index;        /* which content of the block it is, */
    float *exact;           /* and its score */
    float *heap;            /* the k best scores so far, the worst first */
    float *ranked;          /* the k best int8 scores of the block so far, the best first */
    size_t k, filled, ranked_filled, product_size, free_count;
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
    const size_t n = scorer->n, lanes = scorer->rough->panels * SCORER_LANES;
    best->product_size = 2 * n * lanes;
    best->products = take(scratch, &used, block * best->product_size * sizeof(float));
    for (size_t i = 0; i < 2 * GROUP; i++) {
        struct member *member = &best->groups[i / GROUP].members[i % GROUP];
        member->weights = take(scratch, &used, (n + 1) * lanes * sizeof(float));
        member->loose = take(scratch, &used, lanes * sizeof(float));
        member->y = take(scratch, &used, scorer_norms(n) * sizeof(float));
        member->z = take(scratch, &used, scorer_norms(n) * sizeof(float));
    }
    best->upper = take(scratch, &used, block * sizeof(float));
    best->rough = take(scratch, &used, block * sizeof(float));
    best->slot = take(scratch, &used, block * sizeof *best->slot);
    best->free_slots = take(scratch, &used, block * sizeof *best->free_slots);
    best->list = take(scratch, &used, block * sizeof *best->list);
    best->index = take(scratch, &used, block * sizeof *best->index);
    best->exact = take(scratch, &used, block * sizeof(float));
    best->heap = take(scratch, &used, heap * sizeof(float));
    best->ranked = take(scratch, &used, (k < block ? k : block) * sizeof(float));
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

/* Who is worse than this is not among the k best, or below the floor. */
static float threshold(const struct best *best)
{
    if (best->k == 0)
        return INFINITY;
    const float worst = best->filled == best->k ? best->heap[0] : -INFINITY;
    return worst > best->floor ? worst : best->floor;
}

/* An int8 score to its place among the k best. */
static void rank_add(struct best *best, float score)
{
    float *ranked = best->ranked;
    const bool full = best->ranked_filled == best->k;
    if (isnan(score) || (full && !(best->k && score > ranked[best->k - 1])))
        return;
    size_t at = full ? best->k - 1 : best->ranked_filled++;
    for (; at && ranked[at - 1] < score; at--)
        ranked[at] = ranked[at - 1];
    ranked[at] = score;
}

/* What is ranked there, or the threshold if that is larger or nothing is. */
static float ranked(const struct best *best, size_t rank)
{
    const float score = rank < best->ranked_filled ? best->ranked[rank] : -INFINITY, sure = threshold(best);
    return score > sure ? score : sure;
}

/* ---- int8 ---- */

static void join(struct best *best, struct member *member, const void *const *contents, uint32_t id)
{
    member->id = id;
    member->content = scorer_both_bound_content(best->scorer, contents[id]);
    member->products = best->products + (size_t)best->slot[id] * best->product_size;
    for (size_t i = 0; i < best->scorer->rough->panels * SCORER_LANES; i++)
        member->loose[i] = 1;
}

/* Scores and bounds from products, once more after a second int8. */
static void bound_members(struct best *best, struct member *const *members, size_t count,
    const struct scorer_known *known, bool second)
{
    const struct scorer *rough = best->scorer->rough;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    for (size_t i = 0; i < count; i++)
        bounder->weigh(rough, &members[i]->moments, members[i]->weights, members[i]->products,
            best->bound_user.passes[0].packed);
    for (size_t i = 0; i < count; i++)
        scorer_bound_reach(
            &members[i]->reach, members[i]->y, members[i]->z, known, members[i]->content.norms, rough->n);
    for (size_t i = 0; i < count; i++)
        bounder->moments(rough, &members[i]->moments, members[i]->weights, members[i]->products,
            members[i]->loose, members[i]->y, members[i]->z);
    for (size_t i = 0; i < count; i++) {
        best->rough[members[i]->id] = members[i]->moments.score;
        best->upper[members[i]->id] =
            scorer_bound_upper(known, &members[i]->reach, &members[i]->moments, rough->m * rough->n, second);
    }
}

/* The loose rows of the user that have most of the weight, or none if it is spread over more. */
static void choose_rows(struct member *member, const struct scorer *rough)
{
    const size_t lanes = rough->panels * SCORER_LANES;
    const float *weights = member->weights + rough->n * lanes; /* sums over j */
    float worth = WORTH * member->moments.total, theirs = 0;
    size_t count = SCORER_REFINED + 1;
    for (; count > SCORER_REFINED; worth *= 1.5F) {
        unsigned heavy = 0;
        for (size_t i = 0; i < lanes; i++)
            heavy += weights[i] * member->loose[i] > worth;
        count = heavy;
    }
    worth /= 1.5F;
    count = 0;
    for (size_t i = 0; i < lanes && count < SCORER_REFINED; i++) {
        member->refined[count] = (uint32_t)i; /* no branch, which would be hard to predict */
        count += weights[i] * member->loose[i] > worth;
    }
    for (size_t q = 0; q < count; q++)
        theirs += weights[member->refined[q]];
    member->refined_count = theirs > MOST * member->moments.total ? count : 0;
}

/* Products of the chosen rows: F_i B_j in the place of a mean, and A_i E_j. */
static void refine_rows(const struct best *best, struct member *member)
{
    const struct scorer *rough = best->scorer->rough;
    const struct scorer_bound_user *user = &best->bound_user;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    const size_t lanes = rough->panels * SCORER_LANES, count = member->refined_count;
    for (size_t q = 0; q < count; q++) {
        const uint32_t i = member->refined[q];
        member->loose[i] = 0;
        for (size_t r = 0; r < 2 * rough->n; r++)
            member->products[r * lanes + i] -= user->passes[0].left_sums[i] * member->content.means[r];
    }
    bounder->refine(rough, member->products, user->rows[1], member->content.first, member->refined, count);
    bounder->refine(rough, member->products, user->rows[0], member->content.second, member->refined, count);
}

static void free_slot(struct best *best, size_t c)
{
    best->free_slots[best->free_count++] = best->slot[c];
    best->slot[c] = NO_SLOT;
}

/* Rows of the open members, as long as their bounds reach the level. They lose their slots, as a second pass over all rows
 * would add to the refined ones what is in them already. */
static void refine_group(struct best *best, struct group *group, float level)
{
    uint32_t ids[GROUP];
    const size_t count = group->open_count;
    for (size_t i = 0; i < count; i++)
        ids[i] = group->open[i]->id;
    for (int round = 0; round < ROUNDS && group->open_count; round++) {
        size_t open = 0;
        for (size_t i = 0; i < group->open_count; i++)
            refine_rows(best, group->open[i]);
        bound_members(best, group->open, group->open_count, best->bound_user.passes[0].known, true);
        for (size_t i = 0; i < group->open_count && round + 1 < ROUNDS; i++) {
            struct member *member = group->open[i];
            if (best->upper[member->id] < level)
                continue;
            choose_rows(member, best->scorer->rough);
            if (member->refined_count)
                group->open[open++] = member;
        }
        group->open_count = open;
    }
    for (size_t i = 0; i < count; i++)
        free_slot(best, ids[i]);
}

/* A group's products, scores and bounds; before: the group whose second int8 is fetched meanwhile. */
static void score_group(struct best *best, struct group *group, const struct group *before,
    const void *const *contents, size_t first, size_t count)
{
    const struct scorer *rough = best->scorer->rough;
    const struct scorer_bound_pass *pass = &best->bound_user.passes[0];
    group->count = count - first < GROUP ? count - first : GROUP;
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];
        const size_t c = first + i;
        best->slot[c] = best->free_slots[--best->free_count];
        join(best, member, contents, (uint32_t)c);
        rough->kernel->bounder->products(rough, member->products, false, pass, &member->content,
            (const char *[]){c + 1 < count ? contents[c + 1] : NULL, c + 2 < count ? contents[c + 2] : NULL,
                i < before->open_count ? before->open[i]->content.second : NULL});
        group->open[i] = member;
    }
    bound_members(best, group->open, group->count, pass->known, false);
}

/* Leaves those members open whose bound reaches the level and that have rows to be refined; those whose bound does not
 * lose their slots. */
static void sort_group(struct best *best, struct group *group, float level)
{
    group->open_count = 0;
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];
        const bool reaches = best->upper[member->id] >= level;
        member->refined_count = 0;
        if (reaches && best->scorer->n % SCORER_PAIRS == 0)
            choose_rows(member, best->scorer->rough);
        if (member->refined_count)
            group->open[group->open_count++] = member;
        if (!reaches)
            free_slot(best, member->id);
    }
}

/* All contents through the first pass, and some rows refined. Products are kept of those that may go through the second. */
static void first_pass(struct best *best, const void *const *contents, size_t count)
{
    const size_t bytes = scorer_both_first_bytes(best->scorer);
    float level = threshold(best);
    best->groups[1].open_count = 0;
    best->ranked_filled = 0;
    best->free_count = count;
    for (size_t c = 0; c < count; c++)
        best->free_slots[c] = (int32_t)(count - 1 - c);
    scorer_touch(contents, count < TOUCHED ? count : TOUCHED, bytes);
    for (size_t c = 0; c < count; c += GROUP) {
        struct group *group = &best->groups[c / GROUP % 2], *before = &best->groups[1 - c / GROUP % 2];
        const size_t next = c + TOUCHED;
        if (next < count)
            scorer_touch(contents + next, count - next < GROUP ? count - next : GROUP, bytes);
        score_group(best, group, before, contents, c, count);
        refine_group(best, before, level);
        for (size_t i = 0; i < group->count; i++)
            rank_add(best, best->rough[c + i]);
        /* What the k-th best will probably have. */
        level = ranked(best, 1 + best->k * c / count);
        sort_group(best, group, level);
        if (c + GROUP >= count)
            refine_group(best, group, level);
    }
}

/* Up to GROUP contents once more, with the second int8 of all rows. */
static void second_pass(struct best *best, const void *const *contents, const uint32_t *ids, size_t count)
{
    const struct scorer *rough = best->scorer->rough;
    const struct scorer_bound_pass *pass = &best->bound_user.passes[1];
    struct group *group = &best->groups[0];
    for (size_t i = 0; i < count; i++) {
        group->open[i] = &group->members[i];
        join(best, group->open[i], contents, ids[i]);
        rough->kernel->bounder->products(rough, group->open[i]->products, true, pass,
            &group->open[i]->content,
            (const char *[]){i + 1 < count ? contents[ids[i + 1]] : NULL, NULL, NULL});
    }
    bound_members(best, group->open, count, pass->known, true);
}

/* ---- float32 ---- */

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
    best->ranked_filled = 0; /* anew, as refinement has changed some */
    for (size_t c = 0; c < count; c++)
        rank_add(best, best->rough[c]);
    const float level = ranked(best, best->k - 1);
    size_t listed = 0;
    for (size_t c = 0; c < count && listed < best->k; c++)
        if (best->rough[c] >= level)
            listed = list_content(best, listed, contents, c);
    rescore(best, scores, kept, listed);
    return listed;
}

/* Whom neither pass excludes. */
static size_t score_open(
    struct best *best, float *scores, unsigned char *kept, const void *const *contents, size_t count)
{
    const float level = threshold(best);
    size_t open = 0, listed = 0;
    for (size_t c = 0; c < count; c++) {
        /* What a second pass usually leaves of the distance is too much: float32 at once. */
        const bool hopeless = best->rough[c] + PASSED * (best->upper[c] - best->rough[c]) >= level;
        if (!kept[c] && best->upper[c] >= level && best->slot[c] != NO_SLOT && !hopeless)
            best->index[open++] = (uint32_t)c;
    }
    for (size_t i = 0; i < open; i += GROUP)
        second_pass(best, contents, best->index + i, open - i < GROUP ? open - i : GROUP);
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
    best.bound_user = scorer_both_bound_user(scorer, user);
    best.floor = floor;
    memset(kept, 0, count);
    for (size_t c = 0; c < count; c += BLOCK) {
        const size_t here = count - c < BLOCK ? count - c : BLOCK;
        first_pass(&best, contents + c, here);
        total += score_promising(&best, scores + c, kept + c, contents + c, here);
        total += score_open(&best, scores + c, kept + c, contents + c, here);
    }
    return total;
}
