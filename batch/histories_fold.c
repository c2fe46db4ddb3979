#include "batch/histories_fold.h"

#include "batch/entry_id.h"
#include "batch/history_record.h"
#include "batch/progress.h"
#include "core/array.h"

#include <stdlib.h>
#include <string.h>

enum {
    CLICKS_AT_ONCE = 100000, /* held in memory */
    USERS_AT_ONCE = 1024
};

/* A click, in the list of its user. */
struct click {
    uint32_t item; /* in items */
    uint32_t next; /* of the same user: index + 1, or 0 */
    char place[STORE_CURSOR_MAX];
};

struct fold {
    struct histories *histories;
    const struct news *news;
    struct store_link *link;
    enum fold_source source;
    const struct id_map *also;
    const char *forget;
    struct fold_done *done;

    struct id_map users, items; /* of the clicks in hand */
    struct click *clicks;
    size_t click_count, click_size;
    struct ends {
        uint32_t first, last; /* index + 1 */
    } * ends;                 /* of each user's list */
    size_t end_size;
    char cursor[STORE_CURSOR_MAX]; /* behind the clicks in hand */

    /* Of the user in hand. */
    struct history_record before, after;
    uint32_t *resolved;
    size_t resolved_size;

    /* Records to be written: ids and texts one behind the other. */
    char *text;
    size_t text_used, text_size;
    struct pending {
        size_t id, id_len, text, len;
    } pending[USERS_AT_ONCE];
    size_t pending_count;
    struct err *err;
};

/* ---- clicks ---- */

static bool forgotten(const struct fold *fold, const struct store_id *user)
{
    return fold->forget && strlen(fold->forget) == user->len &&
           memcmp(fold->forget, user->id, user->len) == 0;
}

static int take_click(void *ctx, const struct store_click *click, const char *place)
{
    struct fold *fold = ctx;
    if (!click->user.len) {
        fold->done->malformed++;
        return 0;
    }
    if (forgotten(fold, &click->user))
        return 0;
    const ptrdiff_t user = id_map_add(&fold->users, click->user.id, click->user.len, NULL);
    const ptrdiff_t item = id_map_add(&fold->items, click->item.id, click->item.len, NULL);
    const size_t before = fold->end_size;
    if (user < 0 || item < 0)
        return err_set(fold->err, ERR_NOMEM, "out of memory");
    int result =
        array_grow(&fold->clicks, &fold->click_size, fold->click_count + 1, sizeof *fold->clicks, fold->err);
    if (result == 0)
        result = array_grow(&fold->ends, &fold->end_size, (size_t)user + 1, sizeof *fold->ends, fold->err);
    if (result < 0)
        return result;
    memset(fold->ends + before, 0, (fold->end_size - before) * sizeof *fold->ends);
    struct ends *ends = &fold->ends[user];
    struct click *made = &fold->clicks[fold->click_count++];
    *made = (struct click){.item = (uint32_t)item};
    strcpy(made->place, place);
    if (ends->last)
        fold->clicks[ends->last - 1].next = (uint32_t)fold->click_count;
    else
        ends->first = (uint32_t)fold->click_count;
    ends->last = (uint32_t)fold->click_count;
    return 0;
}

static int read_clicks(struct fold *fold)
{
    id_map_done(&fold->users);
    id_map_done(&fold->items);
    fold->click_count = 0;
    if (fold->ends)
        memset(fold->ends, 0, fold->end_size * sizeof *fold->ends);
    return store_clicks_read(fold->link, fold->cursor, CLICKS_AT_ONCE, take_click, fold, fold->err);
}

/* ---- one user ---- */

static bool has_text(const struct fold *fold, const struct store_id *id)
{
    return id_map_find(&fold->news->ids, id->id, id->len) >= 0;
}

/* The file's history becomes the base; of the clicks before it those stay that are not among what the file has got since. */
static int take_file(struct fold *fold, const struct history *file)
{
    const struct history_record *before = &fold->before;
    struct history_record *after = &fold->after;
    const size_t known = before->seen + before->base;
    size_t fresh = file->total > known ? file->total - known : 0;
    int result = 0;
    fresh = fresh < file->count ? fresh : file->count;
    after->seen = file->total - file->count;
    for (size_t i = 0; result == 0 && i < file->count; i++)
        result = history_record_add(after, id_map_get(&fold->news->ids, file->items[i]),
            fold->news->ids.length[file->items[i]], fold->err);
    after->base = after->count;
    for (size_t t = before->base, at = after->base - fresh; result == 0 && t < before->count; t++) {
        const struct store_id *click = &before->ids[t];
        size_t i = at;
        while (i < after->base &&
               !(after->ids[i].len == click->len && memcmp(after->ids[i].id, click->id, click->len) == 0))
            i++;
        if (i < after->base)
            at = i + 1;
        else
            result = history_record_add(after, click->id, click->len, fold->err);
    }
    return result;
}

static int take_record(struct fold *fold)
{
    int result = 0;
    fold->after.seen = fold->before.seen;
    for (size_t i = 0; result == 0 && i < fold->before.count; i++)
        result = history_record_add(&fold->after, fold->before.ids[i].id, fold->before.ids[i].len, fold->err);
    fold->after.base = fold->before.base;
    return result;
}

static int take_clicks(struct fold *fold, const char *id, size_t len)
{
    const ptrdiff_t user = id_map_find(&fold->users, id, len);
    strcpy(fold->after.last, fold->before.last);
    int result = 0;
    for (uint32_t at = user < 0 ? 0 : fold->ends[user].first; result == 0 && at;) {
        const struct click *click = &fold->clicks[at - 1];
        if (store_cursor_compare(click->place, fold->after.last) > 0) {
            result = history_record_add(&fold->after, id_map_get(&fold->items, click->item),
                fold->items.length[click->item], fold->err);
            strcpy(fold->after.last, click->place);
            fold->done->clicks++;
        }
        at = click->next;
    }
    return result;
}

/* No more with a text than the histories keep, nor more than as many again without one, which may get theirs; the oldest go. */
static void trim(struct fold *fold)
{
    struct history_record *after = &fold->after;
    const size_t keep = fold->histories->keep;
    size_t with_text = 0, gone = 0;
    for (size_t i = 0; i < after->count; i++)
        with_text += has_text(fold, &after->ids[i]);
    for (; with_text > keep || after->count - gone > 2 * keep; gone++) {
        const bool text = has_text(fold, &after->ids[gone]);
        with_text -= text;
        after->seen += text;
    }
    if (!gone)
        return;
    memmove(after->ids, after->ids + gone, (after->count - gone) * sizeof *after->ids);
    after->count -= gone;
    after->base -= gone < after->base ? gone : after->base;
}

static int set_history(struct fold *fold, const char *id, size_t len)
{
    const struct history_record *after = &fold->after;
    size_t count = 0;
    int result = array_grow(
        &fold->resolved, &fold->resolved_size, after->count + 1, sizeof *fold->resolved, fold->err);
    for (size_t i = 0; result == 0 && i < after->count; i++) {
        const ptrdiff_t item = id_map_find(&fold->news->ids, after->ids[i].id, after->ids[i].len);
        if (item >= 0)
            fold->resolved[count++] = (uint32_t)item;
    }
    return result < 0 ? result
                      : histories_set(fold->histories, id, len,
                            &(struct history){fold->resolved, count, after->seen + count},
                            after->count - count, fold->err);
}

/* ---- records ---- */

static int write_pending(struct fold *fold)
{
    struct store_entry entries[USERS_AT_ONCE];
    for (size_t i = 0; i < fold->pending_count; i++) {
        const struct pending *p = &fold->pending[i];
        entries[i] = (struct store_entry){{fold->text + p->id, p->id_len}, fold->text + p->text, p->len};
    }
    const int result =
        store_put(fold->link, STORE_SHARED, STORE_HISTORY, entries, fold->pending_count, fold->err);
    fold->done->written += result == 0 ? fold->pending_count : 0;
    fold->pending_count = fold->text_used = 0;
    return result;
}

/* Behind the others that wait until the link is free (a chunk's worth at most), unless it says what is stored. */
static int keep_record(struct fold *fold, const char *id, size_t len, const char *stored, size_t stored_len)
{
    const size_t need = len + history_record_bytes(&fold->after);
    int result =
        array_grow(&fold->text, &fold->text_size, fold->text_used + need, sizeof *fold->text, fold->err);
    if (result < 0)
        return result;
    struct pending *p = &fold->pending[fold->pending_count];
    *p = (struct pending){fold->text_used, len, fold->text_used + len, 0};
    memcpy(fold->text + p->id, id, len);
    p->len = history_record_format(fold->text + p->text, &fold->after);
    if (stored && stored_len == p->len && memcmp(stored, fold->text + p->text, p->len) == 0)
        return 0;
    fold->text_used += len + p->len;
    fold->pending_count++;
    return 0;
}

struct chunk {
    struct fold *fold;
    const struct store_id *ids;
    struct id_map *gone; /* those who are in no file any more, of FOLD_FILE, and who is forgotten */
};

static int fold_one(void *ctx, size_t index, const void *data, size_t len)
{
    struct chunk *chunk = ctx;
    struct fold *fold = chunk->fold;
    const struct store_id *id = &chunk->ids[index];
    const bool from_file =
        fold->source == FOLD_FILE || (fold->also && id_map_find(fold->also, id->id, id->len) >= 0);
    const ptrdiff_t user = from_file ? id_map_find(&fold->histories->users, id->id, id->len) : -1;
    struct err why = ERR_INIT;
    history_record_clear(&fold->before);
    history_record_clear(&fold->after);
    int result = data ? history_record_parse(&fold->before, data, len, &why) : 0;
    if (result == -ERR_CORRUPT) { /* the file has what it said, or the clicks that are to come */
        progress_say(false, "user %.*s: %s: begun anew", (int)id->len, id->id, why.message);
        history_record_clear(&fold->before);
        result = 0;
    }
    if (result < 0)
        return err_set(fold->err, ERR_NOMEM, "out of memory");
    if (user >= 0) {
        const struct history file = histories_get(fold->histories, (size_t)user);
        result = take_file(fold, &file);
    } else {
        result = take_record(fold);
    }
    if (result == 0)
        result = take_clicks(fold, id->id, id->len);
    if (result < 0)
        return result;
    trim(fold);
    if (forgotten(fold, id) ||
        (fold->source == FOLD_FILE && user < 0 && (fold->after.base || !fold->after.count)))
        return id_map_add(chunk->gone, id->id, id->len, NULL) < 0
                   ? err_set(fold->err, ERR_NOMEM, "out of memory")
                   : 0;
    result = keep_record(fold, id->id, id->len, data, len);
    return result < 0 ? result : set_history(fold, id->id, id->len);
}

/* Everybody of a map, some at a time. */
static int fold_users(struct fold *fold, const struct id_map *map, struct id_map *gone)
{
    struct store_id *ids = malloc(USERS_AT_ONCE * sizeof *ids);
    struct chunk chunk = {fold, ids, gone};
    int result = ids ? 0 : err_set(fold->err, ERR_NOMEM, "out of memory");
    for (size_t at = 0; result == 0 && at < map->count;) {
        size_t some = 0;
        for (; some < USERS_AT_ONCE && at < map->count; at++)
            ids[some++] = entry_id(map, at);
        result = store_get(fold->link, STORE_SHARED, STORE_HISTORY, ids, some, fold_one, &chunk, fold->err);
        if (result == 0)
            result = write_pending(fold);
    }
    free(ids);
    return result;
}

static int list_user(void *ctx, const char *id, size_t len)
{
    return id_map_add(ctx, id, len, NULL) < 0 ? -ERR_NOMEM : 0;
}

/* Those of the file, those who have clicked, those with a record: each once. */
static int list_everybody(struct id_map *all, struct fold *fold)
{
    const struct id_map *maps[] = {&fold->histories->users, &fold->users};
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < maps[m]->count; i++)
            if (id_map_add(all, id_map_get(maps[m], i), maps[m]->length[i], NULL) < 0)
                return err_set(fold->err, ERR_NOMEM, "out of memory");
    const int result = store_scan(fold->link, STORE_SHARED, STORE_HISTORY, list_user, all, fold->err);
    return result == -ERR_NOMEM ? err_set(fold->err, ERR_NOMEM, "out of memory") : result;
}

/* With the first clicks in hand: everybody whose history is to be known. */
static int fold_all(struct fold *fold)
{
    struct id_map all = {0};
    int result = list_everybody(&all, fold);
    if (result == 0)
        result = fold_users(fold, &all, &fold->done->gone);
    id_map_done(&all);
    return result;
}

/* With later clicks in hand: those who have clicked, and with the first ones `also`. */
static int fold_clicks(struct fold *fold)
{
    const struct id_map *maps[] = {&fold->users, fold->also};
    struct id_map *all = &fold->done->users;
    struct id_map now = {0};
    int result = 0;
    for (size_t m = 0; result == 0 && m < 2; m++)
        for (size_t i = 0; result == 0 && maps[m] && i < maps[m]->count; i++) {
            const char *id = id_map_get(maps[m], i);
            if (id_map_add(&now, id, maps[m]->length[i], NULL) < 0 ||
                id_map_add(all, id, maps[m]->length[i], NULL) < 0)
                result = err_set(fold->err, ERR_NOMEM, "out of memory");
        }
    if (result == 0)
        result = fold_users(fold, &now, NULL); /* nobody goes */
    id_map_done(&now);
    fold->also = NULL;
    return result;
}

static int run(struct fold *fold)
{
    int result = read_clicks(fold);
    if (result == 0)
        result = fold->source == FOLD_CLICKS ? fold_clicks(fold) : fold_all(fold);
    while (result == 0 && *fold->cursor) {
        /* What is in the records is trimmed; killed before, it is known to be in them. */
        result = store_clicks_trim(fold->link, fold->cursor, fold->err);
        if (result < 0 || fold->click_count < CLICKS_AT_ONCE)
            break;
        fold->source = FOLD_CLICKS;
        result = read_clicks(fold);
        if (result == 0)
            result = fold_clicks(fold);
    }
    return result;
}

int histories_fold(struct fold_done *done, struct histories *histories, const struct news *news,
    const struct fold_options *options, struct store_link *link, struct err *err)
{
    struct fold *fold = calloc(1, sizeof *fold);
    *done = (struct fold_done){0};
    if (!fold)
        return err_set(err, ERR_NOMEM, "out of memory");
    fold->histories = histories;
    fold->news = news;
    fold->link = link;
    fold->source = options->source;
    fold->also = options->also;
    fold->forget = options->forget;
    fold->done = done;
    fold->err = err;
    const int result = run(fold);
    id_map_done(&fold->users);
    id_map_done(&fold->items);
    free(fold->clicks);
    free(fold->ends);
    history_record_done(&fold->before);
    history_record_done(&fold->after);
    free(fold->resolved);
    free(fold->text);
    free(fold);
    return result;
}

int histories_delete(const struct id_map *users, struct store_link *link, struct err *err)
{
    struct store_id *ids = malloc((users->count + 1) * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < users->count; i++)
        ids[i] = entry_id(users, i);
    const int result =
        users->count ? store_delete(link, STORE_SHARED, STORE_HISTORY, ids, users->count, err) : 0;
    free(ids);
    return result;
}

void fold_done_free(struct fold_done *done)
{
    id_map_done(&done->users);
    id_map_done(&done->gone);
}
