#include "batch/train_set.h"

#include "batch/impressions.h"
#include "batch/progress.h"
#include "batch/summaries.h"
#include "core/array.h"
#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

/* The window of the history, then the positives, then the negatives. */
static int add_row(struct train_set *set, const struct impression *in, struct err *err)
{
    const size_t start = text_window_start(&set->workspace->model->config, in->history_count);
    size_t positives = 0;
    for (size_t i = 0; i < in->candidate_count; i++)
        positives += in->labels[i];
    if (positives == 0 || positives == in->candidate_count)
        return 0; /* nothing to tell apart */
    int result = array_grow(&set->items, &set->item_size,
        set->item_count + in->history_count + in->candidate_count, sizeof *set->items, err);
    if (result == 0)
        result = array_grow(&set->rows, &set->row_size, set->row_count + 1, sizeof *set->rows, err);
    if (result == 0)
        result = array_grow(
            &set->examples, &set->example_size, set->example_count + positives, sizeof *set->examples, err);
    if (result < 0)
        return result;
    const ptrdiff_t user = id_map_add(&set->users, in->user, strlen(in->user), NULL);
    if (user < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    struct train_row *row = &set->rows[set->row_count];
    *row = (struct train_row){.user = (uint32_t)user, .history = set->item_count};
    for (size_t i = start; i < in->history_count; i++)
        set->items[set->item_count++] = in->history[i];
    row->history_count = in->history_count - start;
    row->positives = set->item_count;
    for (int label = 1; label >= 0; label--)
        for (size_t i = 0; i < in->candidate_count; i++)
            if (in->labels[i] == label)
                set->items[set->item_count++] = in->candidates[i];
    row->positive_count = positives;
    row->negative_count = in->candidate_count - positives;
    for (size_t i = 0; i < positives; i++)
        set->examples[set->example_count++] = (struct train_index){(uint32_t)set->row_count, (uint32_t)i};
    set->row_count++;
    return 0;
}

static int take_summary(void *ctx, const char *user, size_t user_len, const char *summary, struct err *err)
{
    struct train_set *set = ctx;
    const struct workspace *w = set->workspace;
    const size_t most = w->model->config.max_summary_tokens;
    const ptrdiff_t index = id_map_find(&set->users, user, user_len);
    size_t found;
    if (index < 0)
        return 0; /* of a user who has no impression here */
    int32_t *ids = malloc(most * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory");
    const int result = tokenizer_encode(w->tokenizer, summary, strlen(summary), ids, most - 1, &found, err);
    if (result < 0) {
        free(ids);
        return result;
    }
    const size_t count = found < most - 1 ? found : most - 1;
    ids[count] = w->model->config.eos_id;
    set->summarised += set->summary[index] == NULL;
    free(set->summary[index]);
    set->summary[index] = ids;
    set->summary_count[index] = count + 1;
    return 0;
}

int train_set_open(struct train_set *set, const struct workspace *workspace, const char *behaviors,
    const char *summaries, struct tsv_limit max_bad, bool quiet, struct err *err)
{
    const struct impressions_options options = {
        .path = behaviors, .max_bad = max_bad, .label_needed = true, .quiet = quiet};
    struct impressions in;
    *set = (struct train_set){.workspace = workspace};
    int result = impressions_open(&in, &options, &workspace->news, err);
    if (result < 0)
        return result;
    while (result >= 0 && (result = impressions_next(&in, err)) > 0)
        result = add_row(set, &in.row, err);
    impressions_close(&in);
    if (result == 0 && !set->example_count)
        result = err_set(err, ERR_INVALID, "%s has no impression with a positive and a negative", behaviors);
    set->summary = calloc(set->users.count + 1, sizeof *set->summary);
    set->summary_count = calloc(set->users.count + 1, sizeof *set->summary_count);
    if (result == 0 && (!set->summary || !set->summary_count))
        result = err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0 && summaries)
        result = summaries_read(summaries, take_summary, set, err);
    if (result < 0)
        train_set_close(set);
    else
        progress_say(quiet, "%zu impressions, %zu positives, %zu users, %zu with a summary", set->row_count,
            set->example_count, set->users.count, set->summarised);
    return result;
}

void train_set_close(struct train_set *set)
{
    for (size_t i = 0; set->summary && i < set->users.count; i++)
        free(set->summary[i]);
    free(set->summary);
    free(set->summary_count);
    free(set->rows);
    free(set->items);
    free(set->examples);
    id_map_done(&set->users);
    *set = (struct train_set){0};
}

void train_items_done(struct train_items *items)
{
    free(items->items);
    free(items->drawn);
    *items = (struct train_items){0};
}

/* The first `count` of a random order of the negatives: the beginning of a Fisher-Yates shuffle. */
static void draw(uint32_t *drawn, const uint32_t *negatives, size_t available, size_t count, uint64_t seed)
{
    struct rng rng = rng_seed(seed, 0);
    memcpy(drawn, negatives, available * sizeof *drawn);
    for (size_t i = 0; i < count; i++) {
        const size_t k = i + (size_t)(rng_next(&rng) % (available - i));
        const uint32_t swap = drawn[i];
        drawn[i] = drawn[k];
        drawn[k] = swap;
    }
}

int train_set_get(struct train_example *out, const struct train_set *set, size_t index, size_t negatives,
    uint64_t seed, struct train_items *memory, struct err *err)
{
    const struct train_row *row = &set->rows[set->examples[index].row];
    const size_t count = row->negative_count < negatives ? row->negative_count : negatives;
    const size_t need = row->history_count + 1 + row->negative_count;
    if (need > memory->size) {
        train_items_done(memory);
        memory->items = malloc(need * sizeof *memory->items);
        memory->drawn = malloc(need * sizeof *memory->drawn);
        if (!memory->items || !memory->drawn)
            return err_set(err, ERR_NOMEM, "out of memory");
        memory->size = need;
    }
    struct encode_item *items = memory->items;
    for (size_t i = 0; i < row->history_count; i++)
        *items++ = workspace_item(set->workspace, set->items[row->history + i]);
    struct train_example example = {.user = row->user,
        .history = memory->items,
        .history_count = row->history_count,
        .candidates = items,
        .candidate_count = 1 + count};
    *items++ = workspace_item(set->workspace, set->items[row->positives + set->examples[index].positive]);
    draw(memory->drawn, set->items + row->positives + row->positive_count, row->negative_count, count, seed);
    for (size_t i = 0; i < count; i++)
        *items++ = workspace_item(set->workspace, memory->drawn[i]);
    example.summary = set->summary[row->user];
    example.summary_count = set->summary_count[row->user];
    *out = example;
    return 0;
}

static void shuffle(uint32_t *order, size_t count, struct rng *rng)
{
    for (size_t i = 0; i < count; i++) {
        const size_t k = (size_t)(rng_next(rng) % (i + 1));
        order[i] = order[k];
        order[k] = (uint32_t)i;
    }
}

static uint32_t user_of(const struct train_set *set, uint32_t example)
{
    return set->rows[set->examples[example].row].user;
}

int train_set_shuffle(
    uint32_t *order, const struct train_set *set, uint64_t seed, size_t epoch, struct err *err)
{
    const size_t count = set->example_count, users = set->users.count;
    struct rng rng = rng_seed(seed, 1 + 2 * (uint64_t)epoch);
    uint32_t *drawn = malloc((count + users) * sizeof *drawn), *user_order = drawn + count;
    size_t *at = calloc(users, sizeof *at); /* where each user's next example goes */
    if (!drawn || !at) {
        free(drawn);
        free(at);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    shuffle(drawn, count, &rng);
    shuffle(user_order, users, &rng);
    for (size_t i = 0; i < count; i++)
        at[user_of(set, drawn[i])]++;
    for (size_t u = 0, next = 0; u < users; u++) {
        const size_t own = at[user_order[u]];
        at[user_order[u]] = next;
        next += own;
    }
    for (size_t i = 0; i < count; i++)
        order[at[user_of(set, drawn[i])]++] = drawn[i];
    free(drawn);
    free(at);
    return 0;
}
