/* A stretch of impressions in hand: as many as their users' matrices fit the memory set aside for them.
 *
 * A user's matrix depends on the history alone, on the part of it that the model uses. Rows of one chunk with
 * the same part share one matrix, whoever the users are: most of all the empty history.
 */
#ifndef EMBSUM_BATCH_EVAL_CHUNK_H
#define EMBSUM_BATCH_EVAL_CHUNK_H

#include "batch/impressions.h"
#include "core/model_config.h"

struct eval_row {
    size_t history;      /* index of its history in the chunk */
    size_t id;           /* of its id in ->text */
    size_t first, count; /* of its candidates */
    bool labelled;
};

/* What comes out in one dtype. An evaluation has one of them, a comparison two. */
struct eval_side {
    float *users;    /* history_max x m x d */
    float *scores;   /* of the candidates */
    uint32_t *order; /* each row's metrics_order() */
};
enum { EVAL_SIDES = 2 };

struct eval_chunk {
    struct eval_row *rows;
    size_t row_count, row_size;
    struct id_map histories; /* the bytes of an array of indices into the news, oldest first */
    size_t history_max;
    size_t *rows_of; /* each history's number of rows */
    uint32_t *candidates;
    uint8_t *labels;
    struct eval_side sides[EVAL_SIDES];
    size_t side_count;
    size_t candidate_count, candidate_size;
    char *text; /* the rows' ids, a NUL behind each */
    size_t text_used, text_size;
};

int eval_chunk_init(
    struct eval_chunk *chunk, const struct model_config *config, size_t side_count, struct err *err);
void eval_chunk_done(struct eval_chunk *chunk);

/* Replace what is in hand by the next impressions; returns their number, 0 at the end. */
ptrdiff_t eval_chunk_read(struct eval_chunk *chunk, const struct model_config *config,
    struct impressions *impressions, struct err *err);

/* Items of a history, and the item at a place of it, as an index into the news. */
size_t eval_chunk_items(const struct eval_chunk *chunk, size_t history);
uint32_t eval_chunk_item(const struct eval_chunk *chunk, size_t history, size_t place);

#endif
