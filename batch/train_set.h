/* The examples of a training run: every positive of every impression, with negatives drawn from the same impression anew
 * in each epoch, and the summary that an LLM wrote for its user. */
#ifndef EMBSUM_BATCH_TRAIN_SET_H
#define EMBSUM_BATCH_TRAIN_SET_H

#include "batch/workspace.h"
#include "core/train.h"

struct train_set {
    const struct workspace *workspace;
    struct id_map users;
    struct train_row {
        uint32_t user;
        size_t history, history_count;    /* in items */
        size_t positives, positive_count; /* in items; its negatives lie behind them */
        size_t negative_count;
    } * rows;
    size_t row_count, row_size;
    uint32_t *items;
    size_t item_count, item_size;
    struct train_index {
        uint32_t row, positive;
    } * examples;
    size_t example_count, example_size;
    int32_t **summary; /* of each user, </s> last; NULL where there is none */
    size_t *summary_count;
    size_t summarised; /* users with a summary */
};

/* Read impressions, and summaries unless the path is NULL. A summary is cut to max_summary_tokens - 1 tokens and </s>. */
int train_set_open(struct train_set *set, const struct workspace *workspace, const char *behaviors,
    const char *summaries, struct tsv_limit max_bad, bool quiet, struct err *err);
void train_set_close(struct train_set *set);

/* Memory of one example, reused. */
struct train_items {
    struct encode_item *items;
    uint32_t *drawn;
    size_t size;
};
void train_items_done(struct train_items *items);

/* The example `index` with at most `negatives` negatives, drawn by `seed`. It points into the set and into memory. */
int train_set_get(struct train_example *out, const struct train_set *set, size_t index, size_t negatives,
    uint64_t seed, struct train_items *memory, struct err *err);

/* order[0 .. example_count) = a permutation drawn by seed and epoch, in which a user's examples stay together: they share
 * most of their history, and what a micro-batch shares is encoded once. */
int train_set_shuffle(
    uint32_t *order, const struct train_set *set, uint64_t seed, size_t epoch, struct err *err);

#endif
