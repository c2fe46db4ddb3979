#include "batch/mind.h"

#include <stdlib.h>
#include <string.h>

enum { NEWS_COLUMNS = 8 };

/* Where news.tsv has each text column. */
static const size_t news_column[TEXT_COLUMNS] = {
    [TEXT_CATEGORY] = 1, [TEXT_SUBCATEGORY] = 2, [TEXT_TITLE] = 3, [TEXT_ABSTRACT] = 4};

/* ---- news ---- */

static int news_reserve(struct news *news, size_t bytes)
{
    if (!news->bytes || news->bytes_size - news->bytes_used < bytes) { /* even for texts that are all empty */
        const size_t size = 2 * news->bytes_size + bytes + 65536;
        char *more = realloc(news->bytes, size);
        if (!more)
            return -ERR_NOMEM;
        news->bytes = more;
        news->bytes_size = size;
    }
    if (news->ids.count < news->capacity)
        return 0;
    const size_t capacity = 2 * news->capacity + 256;
    void *offsets = realloc(news->offsets, capacity * sizeof *news->offsets);
    if (offsets)
        news->offsets = offsets;
    void *lengths = realloc(news->lengths, capacity * sizeof *news->lengths);
    if (lengths)
        news->lengths = lengths;
    void *line = realloc(news->line, capacity * sizeof *news->line);
    if (line)
        news->line = line;
    if (!offsets || !lengths || !line)
        return -ERR_NOMEM;
    news->capacity = capacity;
    return 0;
}

static bool same_item(const struct news *news, size_t index, const struct tsv_field *fields)
{
    const struct text_item item = news_item(news, index);
    for (size_t c = 0; c < TEXT_COLUMNS; c++) {
        const struct tsv_field *field = &fields[news_column[c]];
        if (item.column[c].len != field->len || memcmp(item.column[c].bytes, field->bytes, field->len) != 0)
            return false;
    }
    return true;
}

static int news_add(struct news *news, struct tsv *tsv, const struct tsv_field *fields, struct err *err)
{
    struct err why;
    if (id_check(fields[0].bytes, fields[0].len, &why) < 0) {
        tsv_bad(tsv, "column 1: %s", why.message);
        return 0;
    }
    size_t bytes = 0;
    for (size_t c = 0; c < TEXT_COLUMNS; c++)
        bytes += fields[news_column[c]].len;
    bool added;
    if (news_reserve(news, bytes) < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    const ptrdiff_t index = id_map_add(&news->ids, fields[0].bytes, fields[0].len, &added);
    if (index < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (!added) {
        if (same_item(news, (size_t)index, fields))
            tsv_note(tsv, "the same row as line %zu, skipped", news->line[index]);
        else
            tsv_bad(
                tsv, "the id %s was given to another item in line %zu", fields[0].bytes, news->line[index]);
        return 0;
    }
    news->line[index] = tsv->number;
    for (size_t c = 0; c < TEXT_COLUMNS; c++) {
        const struct tsv_field *field = &fields[news_column[c]];
        news->offsets[index][c] = news->bytes_used;
        news->lengths[index][c] = field->len;
        memcpy(news->bytes + news->bytes_used, field->bytes, field->len);
        news->bytes_used += field->len;
    }
    return 0;
}

int news_load(struct news *news, const char *path, size_t max_bad, bool quiet, struct err *err)
{
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    *news = (struct news){0};
    int result = tsv_open(&tsv, path, NEWS_COLUMNS, max_bad, quiet, err);
    if (result < 0)
        return result;
    while ((result = tsv_next(&tsv, fields, err)) > 0) {
        result = news_add(news, &tsv, fields, err);
        if (result < 0)
            break;
    }
    tsv_close(&tsv);
    if (result == 0 && !news->ids.count)
        result = err_set(err, ERR_INVALID, "%s: no items", path);
    if (result < 0)
        news_done(news);
    return result;
}

void news_done(struct news *news)
{
    id_map_done(&news->ids);
    free(news->offsets);
    free(news->lengths);
    free(news->line);
    free(news->bytes);
    *news = (struct news){0};
}

struct text_item news_item(const struct news *news, size_t index)
{
    struct text_item item;
    for (size_t c = 0; c < TEXT_COLUMNS; c++) {
        item.column[c].bytes = news->bytes + news->offsets[index][c];
        item.column[c].len = news->lengths[index][c];
    }
    return item;
}

/* ---- histories ---- */

ptrdiff_t history_check(struct tsv *tsv, const struct tsv_field *field)
{
    struct tsv_field id;
    size_t asked = 0;
    for (size_t at = 0; tsv_word(&id, field, &at); asked++) {
        struct err why;
        if (id_check(id.bytes, id.len, &why) < 0) {
            tsv_bad(tsv, "column 4: %s", why.message);
            return -1;
        }
    }
    return (ptrdiff_t)asked;
}

size_t history_items(uint32_t *items, const struct tsv_field *field, const struct news *news)
{
    struct tsv_field id;
    size_t count = 0;
    for (size_t at = 0; tsv_word(&id, field, &at);) {
        const ptrdiff_t index = id_map_find(&news->ids, id.bytes, id.len);
        if (index >= 0)
            items[count++] = (uint32_t)index;
    }
    return count;
}

static int take_history(struct histories *h, struct history *history, const struct tsv_field *field,
    size_t asked, const struct news *news)
{
    uint32_t *items = malloc((asked + 1) * sizeof *items);
    if (!items)
        return -ERR_NOMEM;
    const size_t count = history_items(items, field, news);
    h->dropped -= history->asked - history->count; /* of the shorter row that this one replaces */
    h->dropped += asked - count;
    free(history->items);
    *history = (struct history){items, count, asked};
    return 0;
}

static int histories_add(struct histories *h, struct tsv *tsv, const struct tsv_field *fields,
    const struct news *news, struct err *err)
{
    struct err why;
    if (id_check(fields[1].bytes, fields[1].len, &why) < 0) {
        tsv_bad(tsv, "column 2: %s", why.message);
        return 0;
    }
    const ptrdiff_t asked = history_check(tsv, &fields[3]);
    if (asked < 0)
        return 0;
    if (h->users.count == h->capacity) {
        const size_t capacity = 2 * h->capacity + 256;
        struct history *more = realloc(h->history, capacity * sizeof *more);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory");
        h->history = more;
        h->capacity = capacity;
    }
    bool added;
    const ptrdiff_t index = id_map_add(&h->users, fields[1].bytes, fields[1].len, &added);
    if (index < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (added)
        h->history[index] = (struct history){0};
    if ((size_t)asked >= h->history[index].asked &&
        take_history(h, &h->history[index], &fields[3], (size_t)asked, news) < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    return 0;
}

int histories_load(struct histories *histories, const char *path, const struct news *news, size_t max_bad,
    bool quiet, struct err *err)
{
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    *histories = (struct histories){0};
    int result = tsv_open(&tsv, path, BEHAVIORS_COLUMNS, max_bad, quiet, err);
    if (result < 0)
        return result;
    while ((result = tsv_next(&tsv, fields, err)) > 0) {
        result = histories_add(histories, &tsv, fields, news, err);
        if (result < 0)
            break;
    }
    tsv_close(&tsv);
    if (result < 0)
        histories_done(histories);
    return result;
}

void histories_done(struct histories *histories)
{
    for (size_t i = 0; i < histories->users.count; i++)
        free(histories->history[i].items);
    free(histories->history);
    id_map_done(&histories->users);
    *histories = (struct histories){0};
}

size_t histories_asked(const struct histories *histories)
{
    size_t asked = 0;
    for (size_t i = 0; i < histories->users.count; i++)
        asked += histories->history[i].asked;
    return asked;
}
