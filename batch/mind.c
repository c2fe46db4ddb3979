#include "batch/mind.h"

#include "core/array.h"
#include "core/file.h"
#include "store/title.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { NEWS_COLUMNS = 8 };

/* Where news.tsv has each text column. They stand side by side, from the first to the last of these. */
enum { TEXT_FIRST = 1, TEXT_LAST = 4 };
static const size_t news_column[TEXT_COLUMNS] = {
    [TEXT_CATEGORY] = 1, [TEXT_SUBCATEGORY] = 2, [TEXT_TITLE] = 3, [TEXT_ABSTRACT] = 4};

/* ---- news ---- */

/* Of the text columns as they stand in a row that was cut: with a NUL between two of them, which none can hold, so that
 * they cannot run into each other. */
static uint64_t text_hash(const struct tsv_field *fields)
{
    const char *const begin = fields[TEXT_FIRST].bytes, *const end =
                                                            fields[TEXT_LAST].bytes + fields[TEXT_LAST].len;
    return XXH3_64bits(begin, (size_t)(end - begin));
}

static int grow_text(struct news_text *text, size_t need, struct err *err)
{
    return array_grow(&text->bytes, &text->size, need, 1, err);
}

/* Read a row's bytes; fewer than it had are no error here. */
static ssize_t read_row(char *bytes, const struct news *news, const struct news_row *row)
{
    size_t got = 0;
    while (got < row->length) {
        const ssize_t more = pread(news->fd, bytes + got, row->length - got, (off_t)(row->offset + got));
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return -1;
        if (more == 0)
            break;
        got += (size_t)more;
    }
    return (ssize_t)got;
}

/* Cut a row at its first tabs, as far as the last text column; false where there are too few of them. */
static bool cut_row(struct tsv_field *fields, char *bytes, size_t len)
{
    char *at = bytes, *const end = bytes + len;
    for (size_t c = 0; c < TEXT_LAST; c++) {
        char *const tab = memchr(at, '\t', (size_t)(end - at));
        if (!tab)
            return false;
        fields[c] = (struct tsv_field){at, (size_t)(tab - at)};
        *tab = '\0';
        at = tab + 1;
    }
    fields[TEXT_LAST] = (struct tsv_field){at, (size_t)(end - at)};
    *end = '\0';
    return true;
}

int news_item(struct news_text *text, const struct news *news, size_t index, struct err *err)
{
    const struct news_row *row = &news->rows[index];
    const char *const id = id_map_get(&news->ids, index);
    struct tsv_field fields[TEXT_LAST + 1];
    if (grow_text(text, (size_t)row->length + 1, err) < 0)
        return err_place(err, "%s:%u: ", news->path, row->line);
    const ssize_t got = read_row(text->bytes, news, row);
    if (got < 0)
        return err_errno(err, "%s:%u: read the item %s", news->path, row->line, id);
    if ((size_t)got < row->length)
        return err_set(err, ERR_CORRUPT,
            "%s:%u: the file was cut short while it was in use: the item %s is gone", news->path, row->line,
            id);
    if (!cut_row(fields, text->bytes, row->length) || strcmp(fields[0].bytes, id) != 0 ||
        text_hash(fields) != row->hash)
        return err_set(err, ERR_CORRUPT,
            "%s:%u: the file was written to while it was in use: the item %s is not what it was", news->path,
            row->line, id);
    for (size_t c = 0; c < TEXT_COLUMNS; c++) {
        text->item.column[c].bytes = fields[news_column[c]].bytes;
        text->item.column[c].len = fields[news_column[c]].len;
    }
    return 0;
}

void news_text_done(struct news_text *text)
{
    free(text->bytes);
    *text = (struct news_text){0};
}

/* An id that is there already: a note if the text is the same, to the letter, else a bad row. */
static int news_again(struct news_text *text, const struct news *news, size_t index, struct tsv *tsv,
    const struct tsv_field *fields, struct err *err)
{
    bool same = news->rows[index].hash == text_hash(fields);
    const int result = same ? news_item(text, news, index, err) : 0;
    if (result < 0)
        return result;
    for (size_t c = 0; same && c < TEXT_COLUMNS; c++) {
        const struct tsv_field *field = &fields[news_column[c]];
        same = text->item.column[c].len == field->len &&
               memcmp(text->item.column[c].bytes, field->bytes, field->len) == 0;
    }
    if (same)
        tsv_note(tsv, "the same row as line %u, skipped", news->rows[index].line);
    else
        tsv_bad(
            tsv, "the id %s was given to another item in line %u", fields[0].bytes, news->rows[index].line);
    return 0;
}

static int news_add(struct news *news, struct news_text *text, struct tsv *tsv,
    const struct tsv_field *fields, struct err *err)
{
    struct err why;
    if (id_check(fields[0].bytes, fields[0].len, &why) < 0) {
        tsv_bad(tsv, "column 1: %s", why.message);
        return 0;
    }
    const size_t length = (size_t)(fields[TEXT_LAST].bytes + fields[TEXT_LAST].len - fields[0].bytes);
    if (length > UINT32_MAX || tsv->number > UINT32_MAX) {
        tsv_bad(tsv, "the row is longer than 4 GiB, or behind 4294967295 others");
        return 0;
    }
    if (array_grow(&news->rows, &news->capacity, news->ids.count + 1, sizeof *news->rows, err) < 0)
        return -ERR_NOMEM;
    bool added;
    const ptrdiff_t index = id_map_add(&news->ids, fields[0].bytes, fields[0].len, &added);
    if (index < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (!added)
        return news_again(text, news, (size_t)index, tsv, fields, err);
    news->rows[index] = (struct news_row){.offset = tsv_offset(tsv, &fields[0]),
        .hash = text_hash(fields),
        .title = title_hash(fields[news_column[TEXT_TITLE]].bytes,
            title_cut(fields[news_column[TEXT_TITLE]].bytes, fields[news_column[TEXT_TITLE]].len)),
        .length = (uint32_t)length,
        .line = (uint32_t)tsv->number};
    return 0;
}

static int read_news(struct news *news, const struct tsv_options *options, struct err *err)
{
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    struct news_text text = {0};
    int result = tsv_open_fd(&tsv, news->fd, news->path, NEWS_COLUMNS, options, err);
    if (result < 0)
        return result;
    while ((result = tsv_next(&tsv, fields, err)) > 0) {
        result = news_add(news, &text, &tsv, fields, err);
        if (result < 0)
            break;
    }
    tsv_close(&tsv);
    news_text_done(&text);
    if (result == 0 && !news->ids.count)
        result = err_set(err, ERR_INVALID, "%s: no items", news->path);
    return result;
}

int news_load(struct news *news, const char *path, const struct tsv_options *options, struct err *err)
{
    *news = (struct news){0};
    int fd;
    int result = file_open_twice(&fd, path, err);
    if (result < 0)
        return result;
    news->fd = fd;
    news->path = strdup(path);
    if (!news->path) {
        close(fd);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    result = read_news(news, options, err);
    if (result < 0)
        news_done(news);
    return result;
}

void news_done(struct news *news)
{
    id_map_done(&news->ids);
    free(news->rows);
    if (news->path)
        close(news->fd);
    free(news->path);
    *news = (struct news){0};
}

/* ---- histories ---- */

ptrdiff_t history_check(struct tsv *tsv, const struct tsv_field *field)
{
    struct tsv_field id;
    struct err why; /* out of the loop, in which the compiler would zero all of it each time */
    size_t asked = 0;
    for (size_t at = 0; tsv_word(&id, field, &at); asked++) {
        if (id_check(id.bytes, id.len, &why) < 0) {
            tsv_bad(tsv, "column 4: %s", why.message);
            return -1;
        }
    }
    return (ptrdiff_t)asked;
}

size_t history_items(uint32_t *items, const struct tsv_field *field, const struct news *news)
{
    enum { SOME = 64 };
    struct id_text ids[SOME];
    ptrdiff_t index[SOME];
    struct tsv_field id;
    size_t count = 0, some;
    size_t at = 0;
    do {
        for (some = 0; some < SOME && tsv_word(&id, field, &at); some++)
            ids[some] = (struct id_text){id.bytes, id.len};
        id_map_find_all(index, &news->ids, ids, some);
        for (size_t i = 0; i < some; i++)
            if (index[i] >= 0)
                items[count++] = (uint32_t)index[i];
    } while (some == SOME);
    return count;
}

/* Room for a user's `count` numbers, where they are or behind all others. */
static int take_room(struct histories *h, struct history_row *user, size_t count, struct err *err)
{
    if (count <= user->room)
        return 0;
    size_t room = 2 * (size_t)user->room;
    room = room > h->keep ? h->keep : room;
    room = room < count ? count : room;
    const int result = array_grow(&h->items, &h->size, h->used + room, sizeof *h->items, err);
    if (result < 0)
        return result;
    user->first = h->used;
    user->room = (uint32_t)room;
    h->used += room;
    return 0;
}

static int take_history(struct histories *h, struct history_row *user, const struct tsv_field *field,
    size_t asked, const struct news *news, struct err *err)
{
    int result = array_grow(&h->row, &h->row_size, asked + 1, sizeof *h->row, err);
    if (result < 0)
        return result;
    const size_t total = history_items(h->row, field, news), count = total < h->keep ? total : h->keep;
    result = take_room(h, user, count, err);
    if (result < 0)
        return result;
    if (count)
        memcpy(h->items + user->first, h->row + total - count, count * sizeof *h->items);
    user->count = (uint32_t)count;
    user->total = (uint32_t)total;
    user->asked = (uint32_t)asked;
    user->missing = (uint32_t)(asked - total);
    return 0;
}

/* A user's row, made if the user is new. Returns its index. */
static ptrdiff_t find_row(struct histories *h, const char *id, size_t len, struct err *err)
{
    if (array_grow(&h->rows, &h->capacity, h->users.count + 1, sizeof *h->rows, err) < 0)
        return -ERR_NOMEM;
    bool added;
    const ptrdiff_t index = id_map_add(&h->users, id, len, &added);
    if (index < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (added)
        h->rows[index] = (struct history_row){0};
    return index;
}

static int histories_add(struct histories *h, struct tsv *tsv, const struct tsv_field *fields,
    const struct news *news, struct id_map *touched, struct err *err)
{
    struct err why;
    if (id_check(fields[1].bytes, fields[1].len, &why) < 0) {
        tsv_bad(tsv, "column 2: %s", why.message);
        return 0;
    }
    const ptrdiff_t asked = history_check(tsv, &fields[3]);
    if (asked < 0)
        return 0;
    if (asked > UINT32_MAX / 2) {
        tsv_bad(tsv, "column 4: a history of %td ids", asked);
        return 0;
    }
    const ptrdiff_t index = find_row(h, fields[1].bytes, fields[1].len, err);
    if (index < 0)
        return (int)index;
    if ((size_t)asked < h->rows[index].asked)
        return 0;
    if (touched && id_map_add(touched, fields[1].bytes, fields[1].len, NULL) < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    return take_history(h, &h->rows[index], &fields[3], (size_t)asked, news, err);
}

int histories_read(struct histories *histories, struct tsv *tsv, const struct news *news,
    struct id_map *touched, struct err *err)
{
    struct tsv_field fields[TSV_COLUMNS_MAX];
    int result;
    while ((result = tsv_next(tsv, fields, err)) > 0) {
        result = histories_add(histories, tsv, fields, news, touched, err);
        if (result < 0)
            break;
    }
    return result;
}

int histories_load(struct histories *histories, const char *path, const struct news *news, size_t keep,
    const struct tsv_options *options, struct err *err)
{
    struct tsv tsv;
    *histories = (struct histories){.keep = keep};
    int result = tsv_open(&tsv, path, BEHAVIORS_COLUMNS, options, err);
    if (result < 0)
        return result;
    result = histories_read(histories, &tsv, news, NULL, err);
    tsv_close(&tsv);
    if (result < 0)
        histories_done(histories);
    return result;
}

int histories_set(struct histories *h, const char *id, size_t len, const struct history *history,
    size_t missing, struct err *err)
{
    const ptrdiff_t index = find_row(h, id, len, err);
    if (index < 0)
        return (int)index;
    struct history_row *row = &h->rows[index];
    const size_t count = history->count < h->keep ? history->count : h->keep;
    const int result = take_room(h, row, count, err);
    if (result < 0)
        return result;
    if (count)
        memcpy(h->items + row->first, history->items + history->count - count, count * sizeof *h->items);
    row->count = (uint32_t)count;
    row->total = (uint32_t)history->total;
    row->missing = (uint32_t)missing;
    return 0;
}

void histories_done(struct histories *histories)
{
    id_map_done(&histories->users);
    free(histories->rows);
    free(histories->items);
    free(histories->row);
    *histories = (struct histories){0};
}

struct histories_ids histories_ids(const struct histories *histories)
{
    struct histories_ids ids = {0, 0};
    for (size_t i = 0; i < histories->users.count; i++) {
        ids.all += histories->rows[i].total + histories->rows[i].missing;
        ids.missing += histories->rows[i].missing;
    }
    return ids;
}
