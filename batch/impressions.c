#include "batch/impressions.h"

#include <stdlib.h>
#include <string.h>

/* Where behaviors.tsv has what. */
enum { COLUMN_ID, COLUMN_USER, COLUMN_TIME, COLUMN_HISTORY, COLUMN_CANDIDATES };

int impressions_open(struct impressions *impressions, const struct impressions_options *options,
    const struct news *news, struct err *err)
{
    *impressions = (struct impressions){.options = *options, .news = news};
    const struct tsv_options rows = {.max_bad = options->max_bad, .quiet = options->quiet};
    return tsv_open(&impressions->tsv, options->path, BEHAVIORS_COLUMNS, &rows, err);
}

void impressions_close(struct impressions *impressions)
{
    tsv_close(&impressions->tsv);
    free(impressions->row.history);
    free(impressions->row.candidates);
    free(impressions->row.labels);
    *impressions = (struct impressions){0};
}

int impressions_rewind(struct impressions *impressions, struct err *err)
{
    impressions->count = 0;
    return tsv_rewind(&impressions->tsv, err);
}

static int reserve_history(struct impressions *in, size_t need)
{
    if (need <= in->history_size)
        return 0;
    uint32_t *more = realloc(in->row.history, 2 * need * sizeof *more);
    if (!more)
        return -ERR_NOMEM;
    in->row.history = more;
    in->history_size = 2 * need;
    return 0;
}

static int reserve_candidates(struct impressions *in, size_t need)
{
    if (need <= in->candidate_size)
        return 0;
    uint32_t *candidates = realloc(in->row.candidates, 2 * need * sizeof *candidates);
    if (candidates)
        in->row.candidates = candidates;
    uint8_t *labels = realloc(in->row.labels, 2 * need * sizeof *labels);
    if (labels)
        in->row.labels = labels;
    if (!candidates || !labels)
        return -ERR_NOMEM;
    in->candidate_size = 2 * need;
    return 0;
}

/* The item and the label (-1: none) of a candidate; says what is wrong with it, or NULL. An id may have dashes
 * of its own: what stands before the last one must be an id for what stands behind it to be a label. */
static const char *split_candidate(
    uint32_t *item, int *label, const struct tsv_field *word, const struct news *news)
{
    const char *dash = memrchr(word->bytes, '-', word->len);
    const size_t len = dash ? (size_t)(dash - word->bytes) : word->len;
    const ptrdiff_t named = dash ? id_map_find(&news->ids, word->bytes, len) : -1;
    if (named >= 0 && word->len == len + 2 && (dash[1] == '0' || dash[1] == '1')) {
        *item = (uint32_t)named;
        *label = dash[1] - '0';
        return NULL;
    }
    const ptrdiff_t whole = id_map_find(&news->ids, word->bytes, word->len);
    if (whole >= 0) {
        *item = (uint32_t)whole;
        *label = -1;
        return NULL;
    }
    if (named >= 0)
        return "the label must be 0 or 1";
    return len ? "the news have no such item" : "the id is missing";
}

/* 1, or 0 after telling a bad row, or -ERR_NOMEM. */
static int take_candidates(struct impressions *in, const struct tsv_field *field)
{
    struct impression *row = &in->row;
    struct tsv_field word;
    size_t count = 0, labels = 0;
    for (size_t at = 0; tsv_word(&word, field, &at); count++) {
        int label = -1;
        if (reserve_candidates(in, count + 1) < 0)
            return -ERR_NOMEM;
        const char *wrong = split_candidate(&row->candidates[count], &label, &word, in->news);
        if (!wrong && labels != (label >= 0 ? count : 0))
            wrong = "some candidates of the row have a label, others have none";
        if (!wrong && label < 0 && in->options.label_needed)
            wrong = "the label is missing";
        if (wrong) {
            tsv_bad(&in->tsv, "column 5: candidate %zu (%.*s): %s", count + 1,
                (int)(word.len < 64 ? word.len : 64), word.bytes, wrong);
            return 0;
        }
        row->labels[count] = label > 0;
        labels += label >= 0;
    }
    if (!count) {
        tsv_bad(&in->tsv, "column 5: no candidates");
        return 0;
    }
    row->candidate_count = count;
    row->labelled = labels > 0;
    return 1;
}

/* 1, or 0 after telling a bad row, or -ERR_NOMEM. */
static int take_row(struct impressions *in, const struct tsv_field *fields)
{
    struct impression *row = &in->row;
    for (size_t column = COLUMN_ID; column <= COLUMN_USER; column++) {
        struct err why;
        if (id_check(fields[column].bytes, fields[column].len, &why) < 0) {
            tsv_bad(&in->tsv, "column %zu: %s", column + 1, why.message);
            return 0;
        }
    }
    const ptrdiff_t asked = history_check(&in->tsv, &fields[COLUMN_HISTORY]);
    if (asked < 0)
        return 0;
    if (reserve_history(in, (size_t)asked) < 0)
        return -ERR_NOMEM;
    row->id = fields[COLUMN_ID].bytes;
    row->user = fields[COLUMN_USER].bytes;
    row->history_asked = (size_t)asked;
    row->history_count = history_items(row->history, &fields[COLUMN_HISTORY], in->news);
    return take_candidates(in, &fields[COLUMN_CANDIDATES]);
}

int impressions_next(struct impressions *in, struct err *err)
{
    struct tsv_field fields[TSV_COLUMNS_MAX];
    if (in->options.limit && in->count == in->options.limit)
        return tsv_end(&in->tsv, err);
    int result;
    while ((result = tsv_next(&in->tsv, fields, err)) > 0) {
        result = take_row(in, fields);
        if (result < 0)
            return err_set(err, ERR_NOMEM, "out of memory");
        if (result > 0) {
            in->count++;
            return 1;
        }
    }
    return result;
}
