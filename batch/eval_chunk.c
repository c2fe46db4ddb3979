#include "batch/eval_chunk.h"

#include "core/text.h"

#include <stdlib.h>
#include <string.h>

enum {
    USER_BYTES = 64 << 20, /* of user matrices */
    HISTORIES_MAX = 4096,
    ROWS_MAX = 16384,
    CANDIDATES_MAX = 1 << 20 /* read no further row when there are as many */
};

int eval_chunk_init(
    struct eval_chunk *chunk, const struct model_config *config, size_t side_count, struct err *err)
{
    const size_t size = model_m(config) * config->d_model * sizeof(float);
    const size_t fit = USER_BYTES / size;
    bool good = true;
    *chunk = (struct eval_chunk){.side_count = side_count};
    chunk->history_max = fit < 1 ? 1 : fit > HISTORIES_MAX ? HISTORIES_MAX : fit;
    chunk->rows_of = calloc(chunk->history_max, sizeof *chunk->rows_of);
    for (size_t s = 0; s < side_count; s++) {
        chunk->sides[s].users = calloc(chunk->history_max, size);
        good &= chunk->sides[s].users != NULL;
    }
    if (good && chunk->rows_of)
        return 0;
    eval_chunk_done(chunk);
    return err_set(err, ERR_NOMEM, "out of memory");
}

void eval_chunk_done(struct eval_chunk *chunk)
{
    free(chunk->rows);
    id_map_done(&chunk->histories);
    free(chunk->rows_of);
    free(chunk->candidates);
    free(chunk->labels);
    free(chunk->text);
    for (size_t s = 0; s < chunk->side_count; s++) {
        free(chunk->sides[s].users);
        free(chunk->sides[s].scores);
        free(chunk->sides[s].order);
    }
    *chunk = (struct eval_chunk){0};
}

static int grow(void *at, size_t count, size_t width)
{
    void *old;
    memcpy(&old, at, sizeof old);
    void *more = realloc(old, count * width);
    if (!more)
        return -ERR_NOMEM;
    memcpy(at, &more, sizeof more);
    return 0;
}

static int reserve(struct eval_chunk *chunk, size_t candidates, size_t text)
{
    if (chunk->row_count == chunk->row_size) {
        const size_t size = 2 * chunk->row_size + 256;
        if (grow(&chunk->rows, size, sizeof *chunk->rows) < 0)
            return -ERR_NOMEM;
        chunk->row_size = size;
    }
    if (chunk->text_size - chunk->text_used < text) {
        const size_t size = 2 * chunk->text_size + text + 4096;
        if (grow(&chunk->text, size, 1) < 0)
            return -ERR_NOMEM;
        chunk->text_size = size;
    }
    if (chunk->candidate_size - chunk->candidate_count < candidates) {
        const size_t size = 2 * chunk->candidate_size + candidates + 4096;
        if (grow(&chunk->candidates, size, sizeof *chunk->candidates) < 0 ||
            grow(&chunk->labels, size, sizeof *chunk->labels) < 0)
            return -ERR_NOMEM;
        for (size_t s = 0; s < chunk->side_count; s++) {
            struct eval_side *side = &chunk->sides[s];
            if (grow(&side->scores, size, sizeof *side->scores) < 0 ||
                grow(&side->order, size, sizeof *side->order) < 0)
                return -ERR_NOMEM;
        }
        chunk->candidate_size = size;
    }
    return 0;
}

static int add(struct eval_chunk *chunk, const struct model_config *config, const struct impression *from)
{
    const size_t start = text_window_start(config, from->history_count), len = strlen(from->id) + 1;
    bool added;
    if (reserve(chunk, from->candidate_count, len) < 0)
        return -ERR_NOMEM;
    const char *key = from->history_count > start ? (const char *)(from->history + start) : "";
    const ptrdiff_t history =
        id_map_add(&chunk->histories, key, (from->history_count - start) * sizeof *from->history, &added);
    if (history < 0)
        return -ERR_NOMEM;
    chunk->rows_of[history] = added ? 1 : chunk->rows_of[history] + 1;
    chunk->rows[chunk->row_count++] = (struct eval_row){.history = (size_t)history,
        .id = chunk->text_used,
        .first = chunk->candidate_count,
        .count = from->candidate_count,
        .labelled = from->labelled};
    memcpy(chunk->text + chunk->text_used, from->id, len);
    memcpy(chunk->candidates + chunk->candidate_count, from->candidates,
        from->candidate_count * sizeof *chunk->candidates);
    memcpy(chunk->labels + chunk->candidate_count, from->labels, from->candidate_count);
    chunk->text_used += len;
    chunk->candidate_count += from->candidate_count;
    return 0;
}

ptrdiff_t eval_chunk_read(struct eval_chunk *chunk, const struct model_config *config,
    struct impressions *impressions, struct err *err)
{
    id_map_done(&chunk->histories);
    chunk->row_count = chunk->candidate_count = chunk->text_used = 0;
    while (chunk->row_count < ROWS_MAX && chunk->candidate_count < CANDIDATES_MAX &&
           chunk->histories.count < chunk->history_max) {
        const int result = impressions_next(impressions, err);
        if (result < 0)
            return result;
        if (result == 0)
            break;
        if (add(chunk, config, &impressions->row) < 0)
            return err_set(err, ERR_NOMEM, "out of memory");
    }
    return (ptrdiff_t)chunk->row_count;
}

size_t eval_chunk_items(const struct eval_chunk *chunk, size_t history)
{
    return chunk->histories.length[history] / sizeof(uint32_t);
}

uint32_t eval_chunk_item(const struct eval_chunk *chunk, size_t history, size_t place)
{
    uint32_t item; /* the map's bytes are not aligned */
    memcpy(&item, id_map_get(&chunk->histories, history) + place * sizeof item, sizeof item);
    return item;
}
