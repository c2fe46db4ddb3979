/* Streams in Redis: changes, whose entries have one field, the kind, with the id as its value; and clicks, whose entries are
 * "user" and "item", also of those who append by themselves. Places are Redis's own, "milliseconds-number".
 */
#include "store/store_redis_int.h"

#include <inttypes.h>
#include <string.h>

#define ENTRIES_COUNT ((size_t)1000) /* of one XRANGE */

/* ---- places ---- */

static bool parse_place(uint64_t *ms, uint64_t *number, const char *text)
{
    const char *const dash = strchr(text, '-');
    return dash && store_number_parse(ms, text, (size_t)(dash - text)) &&
           store_number_parse(number, dash + 1, strlen(dash + 1));
}

bool redis_next_place(char out[STORE_CURSOR_MAX], const char *place)
{
    uint64_t ms, number;
    if (!parse_place(&ms, &number, place))
        return false;
    if (number < UINT64_MAX)
        number++;
    else if (ms < UINT64_MAX) {
        ms++;
        number = 0;
    }
    snprintf(out, STORE_CURSOR_MAX, "%" PRIu64 "-%" PRIu64, ms, number);
    return true;
}

/* ---- appending ---- */

struct appending {
    struct store_key stream;
    const struct store_change *changes;
    const struct store_click *clicks;
};

void redis_write_change(
    struct redis_link *link, const struct store_key *stream, const struct store_change *change)
{
    const char kind = (char)change->kind;
    redis_command(link, 5, "XADD");
    redis_arg_key(link, stream);
    redis_arg_text(link, "*");
    redis_arg(link, &kind, 1);
    redis_arg(link, change->id.id, change->id.len);
}

void redis_write_click(
    struct redis_link *link, const struct store_key *stream, const struct store_click *click)
{
    redis_command(link, 7, "XADD");
    redis_arg_key(link, stream);
    redis_arg_text(link, "*");
    redis_arg_text(link, "user");
    redis_arg(link, click->user.id, click->user.len);
    redis_arg_text(link, "item");
    redis_arg(link, click->item.id, click->item.len);
}

static void write_entry(struct redis_link *link, const void *ctx, size_t index)
{
    const struct appending *const appending = ctx;
    if (appending->changes)
        redis_write_change(link, &appending->stream, &appending->changes[index]);
    else
        redis_write_click(link, &appending->stream, &appending->clicks[index]);
}

int redis_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err)
{
    struct appending appending = {.changes = changes};
    store_key_changes(&appending.stream, link->store, generation);
    return redis_write_all(
        (struct redis_link *)link, count, write_entry, &appending, REDIS_REPLY_STRING, "XADD", err);
}

int redis_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err)
{
    struct appending appending = {.clicks = clicks};
    store_key_global(&appending.stream, link->store, "clicks");
    return redis_write_all(
        (struct redis_link *)link, count, write_entry, &appending, REDIS_REPLY_STRING, "XADD", err);
}

/* ---- reading ---- */

struct reading {
    struct store_key stream;
    const char *generation; /* of changes: none behind the cursor may be missing; NULL: clicks */
    store_change_fn *change_fn;
    store_click_fn *click_fn;
    void *ctx;
    int stopped; /* what fn returned */
};

/* An entry is its place and its fields, name and value in turn. */
static bool is_entry(const redisReply *entry)
{
    uint64_t ms, number;
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 ||
        entry->element[0]->type != REDIS_REPLY_STRING || entry->element[0]->len >= STORE_CURSOR_MAX ||
        strlen(entry->element[0]->str) != entry->element[0]->len ||
        !parse_place(&ms, &number, entry->element[0]->str) || entry->element[1]->type != REDIS_REPLY_ARRAY)
        return false;
    const redisReply *const fields = entry->element[1];
    for (size_t i = 0; i < fields->elements; i++)
        if (fields->element[i]->type != REDIS_REPLY_STRING)
            return false;
    return true;
}

bool redis_is_entries(const redisReply *reply, size_t most)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements > most)
        return false;
    for (size_t i = 0; i < reply->elements; i++)
        if (!is_entry(reply->element[i]))
            return false;
    return true;
}

static int tell_change(struct reading *reading, const redisReply *fields, struct err *err)
{
    const redisReply *const kind = fields->elements == 2 ? fields->element[0] : NULL;
    if (!kind || kind->len != 1 || !store_kind_changes(*kind->str))
        return err_set(err, ERR_CORRUPT, "the stream of changes holds an entry that is no change");
    const struct store_change change = {
        (enum store_kind) * kind->str, {fields->element[1]->str, fields->element[1]->len}};
    reading->stopped = reading->change_fn(reading->ctx, &change);
    return 0;
}

static bool is_named(const redisReply *field, const char *name)
{
    return field->len == strlen(name) && memcmp(field->str, name, field->len) == 0;
}

static void tell_click(struct reading *reading, const redisReply *fields, const char *place)
{
    struct store_id user = {"", 0}, item = user;
    if (fields->elements == 4 && is_named(fields->element[0], "user") &&
        is_named(fields->element[2], "item")) {
        user = (struct store_id){fields->element[1]->str, fields->element[1]->len};
        item = (struct store_id){fields->element[3]->str, fields->element[3]->len};
    }
    const struct store_click click = store_click_of(user, item);
    reading->stopped = reading->click_fn(reading->ctx, &click, place);
}

static int tell(
    struct reading *reading, const redisReply *entry, char cursor[STORE_CURSOR_MAX], struct err *err)
{
    const redisReply *const place = entry->element[0], *const fields = entry->element[1];
    int rc = 0;
    if (reading->generation)
        rc = tell_change(reading, fields, err);
    else
        tell_click(reading, fields, place->str);
    if (rc == 0 && !reading->stopped)
        memcpy(cursor, place->str, place->len + 1);
    return rc;
}

static int ask_range(struct redis_link *link, redisReply **out, const struct store_key *stream,
    const char *from, size_t count, struct err *err)
{
    redisReply *reply = NULL;
    redis_command(link, 6, "XRANGE");
    redis_arg_key(link, stream);
    redis_arg_text(link, from);
    redis_arg_text(link, "+");
    redis_arg_text(link, "COUNT");
    redis_arg_number(link, count);
    const int rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (!redis_is_entries(reply, count))
        return redis_unexpected(link, reply, "XRANGE", err);
    *out = reply;
    return 0;
}

/* At most count entries behind the cursor; *got says how many were there. Of changes the one at the cursor is asked for,
 * too: as long as it is there, nothing behind it has been trimmed, and one answer tells both. */
static int read_some(struct reading *reading, struct redis_link *link, char cursor[STORE_CURSOR_MAX],
    size_t count, size_t *got, struct err *err)
{
    const bool check = reading->generation && *cursor;
    char from[STORE_CURSOR_MAX] = "-";
    redisReply *reply = NULL;
    if (check)
        memcpy(from, cursor, sizeof from);
    else if (*cursor)
        redis_next_place(from, cursor);
    int rc = ask_range(link, &reply, &reading->stream, from, count + check, err);
    if (rc < 0)
        return rc;
    size_t i = check && reply->elements && strcmp(reply->element[0]->element[0]->str, cursor) == 0;
    if (check && reply->elements && i == 0)
        rc = store_err_trimmed(err, reading->generation);
    *got = reply->elements - i;
    for (; rc == 0 && !reading->stopped && i < reply->elements; i++)
        rc = tell(reading, reply->element[i], cursor, err);
    freeReplyObject(reply);
    return rc;
}

static int read_stream(struct redis_link *link, struct reading *reading, char cursor[STORE_CURSOR_MAX],
    size_t max, struct err *err)
{
    uint64_t ms, number;
    size_t asked, got;
    if (*cursor && !parse_place(&ms, &number, cursor))
        return store_err_cursor(err, cursor);
    int rc = redis_begin(link, err);
    do {
        asked = max < ENTRIES_COUNT ? max : ENTRIES_COUNT;
        got = 0;
        if (rc == 0)
            rc = read_some(reading, link, cursor, asked, &got, err);
        max -= got;
    } while (rc == 0 && !reading->stopped && max && got == asked);
    if (rc < 0)
        return rc;
    redis_succeed(link);
    return reading->stopped;
}

int redis_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err)
{
    struct reading reading = {.generation = generation, .change_fn = fn, .ctx = ctx};
    store_key_changes(&reading.stream, link->store, generation);
    return read_stream((struct redis_link *)link, &reading, cursor, max, err);
}

int redis_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err)
{
    struct reading reading = {.click_fn = fn, .ctx = ctx};
    store_key_global(&reading.stream, link->store, "clicks");
    return read_stream((struct redis_link *)link, &reading, cursor, max, err);
}

/* ---- the end ---- */

int redis_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    struct store_key stream;
    redisReply *reply = NULL;
    store_key_changes(&stream, link->store, generation);
    int rc = redis_begin(self, err);
    if (rc < 0)
        return rc;
    redis_command(self, 6, "XREVRANGE");
    redis_arg_key(self, &stream);
    redis_arg_text(self, "+");
    redis_arg_text(self, "-");
    redis_arg_text(self, "COUNT");
    redis_arg_number(self, 1);
    rc = redis_reply(self, &reply, err);
    if (rc < 0)
        return rc;
    if (!redis_is_entries(reply, 1))
        return redis_unexpected(self, reply, "XREVRANGE", err);
    redis_succeed(self);
    if (reply->elements)
        memcpy(cursor, reply->element[0]->element[0]->str, reply->element[0]->element[0]->len + 1);
    else
        *cursor = '\0';
    freeReplyObject(reply);
    return 0;
}

/* ---- trimming ---- */

static int trim(struct redis_link *link, const struct store_key *stream, const char *how, const char *limit,
    struct err *err)
{
    redisReply *reply = NULL;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    redis_command(link, 4, "XTRIM");
    redis_arg_key(link, stream);
    redis_arg_text(link, how);
    redis_arg_text(link, limit);
    rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER)
        return redis_unexpected(link, reply, "XTRIM", err);
    freeReplyObject(reply);
    redis_succeed(link);
    return redis_confirm(link, err);
}

int redis_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err)
{
    struct store_key stream;
    char limit[24];
    store_key_changes(&stream, link->store, generation);
    snprintf(limit, sizeof limit, "%zu", keep < INT64_MAX ? keep : (size_t)INT64_MAX);
    return trim((struct redis_link *)link, &stream, "MAXLEN", limit, err);
}

/* What is before the next place. A stream that is empty then remembers its last place, so that new ones lie behind it. */
int redis_clicks_trim(struct store_link *link, const char *cursor, struct err *err)
{
    struct store_key stream;
    char limit[STORE_CURSOR_MAX];
    if (!redis_next_place(limit, cursor))
        return store_err_cursor(err, cursor);
    store_key_global(&stream, link->store, "clicks");
    return trim((struct redis_link *)link, &stream, "MINID", limit, err);
}
