/* Values and ids in Redis. Reads are MGETs (of heads GETRANGEs), writes are SETs, all pipelined, with a bound on what is
 * in flight: neither a thousand small values nor a hundred large ones fill the memory of either side.
 *
 * MGET answers nil for a key of another type, which therefore reads as not there. generation_verify, which
 * has its ids from a scan, reports such a key.
 */
#include "store/store_redis_int.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_KEYS 100                /* of one MGET: measured, more gains nothing */
#define CHUNK_BYTES ((size_t)1 << 20) /* expected of one MGET's answer */
#define CHUNKS_IN_FLIGHT 4
#define VALUE_BYTES_FIRST ((size_t)64 << 10) /* expected of a value before the first was seen */
#define WRITES_IN_FLIGHT 256
#define WRITE_BYTES_IN_FLIGHT ((size_t)4 << 20)
#define SCAN_COUNT "1000"
#define HEADS_IN_FLIGHT ((size_t)1024)
#define HEAD_BYTES_IN_FLIGHT ((size_t)1 << 20)

/* ---- reading ---- */

size_t *redis_value_bytes(size_t bytes[REDIS_KINDS], enum store_kind kind)
{
    static const enum store_kind kinds[REDIS_KINDS] = {STORE_USER, STORE_CONTENT, STORE_SUMMARY,
        STORE_CATEGORY, STORE_TITLE, STORE_WHY, STORE_HISTORY, STORE_SCORE_PROJ, STORE_MANIFEST};
    size_t i = 0;
    while (i < REDIS_KINDS - 1 && kinds[i] != kind)
        i++;
    return &bytes[i];
}

struct reading {
    struct redis_link *link;
    size_t done;                     /* ids, of the chunks that have come as a whole */
    size_t chunks[CHUNKS_IN_FLIGHT]; /* ids of each chunk in flight, a ring */
    size_t first_chunk, chunks_in_flight;
    size_t *value_bytes;
    store_next_fn *next;
    store_value_fn *fn;
    void *ctx;
    int stopped; /* what fn returned */
    /* Of the chunk that is coming. */
    size_t largest;
    bool unexpected; /* it is no answer to its MGET */
    const redisReplyObjectFunctions *usual;
};

/* False: there is nothing to ask for now. */
static bool send_chunk(struct reading *reading, const struct store_key *base)
{
    const size_t expected = *reading->value_bytes ? *reading->value_bytes : VALUE_BYTES_FIRST;
    size_t most = expected < CHUNK_BYTES ? CHUNK_BYTES / expected : 1;
    struct store_id ids[CHUNK_KEYS];
    const size_t keys = reading->next(reading->ctx, ids, most < CHUNK_KEYS ? most : CHUNK_KEYS);
    if (!keys)
        return false;
    redis_command(reading->link, 1 + keys, "MGET");
    for (size_t i = 0; i < keys; i++) {
        struct store_key key;
        key.len = 0;
        store_key_append(&key, base->text, base->len);
        store_key_append(&key, ids[i].id, ids[i].len);
        redis_arg_key(reading->link, &key);
    }
    reading->chunks[(reading->first_chunk + reading->chunks_in_flight++) % CHUNKS_IN_FLIGHT] = keys;
    return true;
}

/* ---- an MGET's answer: fn gets its values where hiredis has them, in place of a copy of each in a list of all ---- */

static bool is_value(struct reading *reading, const redisReadTask *task)
{
    reading->unexpected |=
        task->parent->parent || (task->type != REDIS_REPLY_STRING && task->type != REDIS_REPLY_NIL);
    return !reading->unexpected && !reading->stopped;
}

/* What stands alone is an error, or no answer to MGET: the usual way. hiredis wants something that is not NULL. */
static void *take_string(const redisReadTask *task, char *text, size_t len)
{
    struct reading *reading = task->privdata;
    if (!task->parent)
        return reading->usual->createString(task, text, len);
    if (is_value(reading, task)) {
        reading->stopped = reading->fn(reading->ctx, reading->done + (size_t)task->idx, text, len);
        if (len > reading->largest)
            reading->largest = len;
    }
    return reading;
}

static void *take_nil(const redisReadTask *task)
{
    struct reading *reading = task->privdata;
    if (!task->parent)
        return reading->usual->createNil(task);
    if (is_value(reading, task))
        reading->stopped = reading->fn(reading->ctx, reading->done + (size_t)task->idx, NULL, 0);
    return reading;
}

static void *take_integer(const redisReadTask *task, long long value)
{
    struct reading *reading = task->privdata;
    if (!task->parent)
        return reading->usual->createInteger(task, value);
    reading->unexpected = true;
    return reading;
}

static void *take_array(const redisReadTask *task, int elements)
{
    struct reading *reading = task->privdata;
    if (task->parent || (size_t)elements != reading->chunks[reading->first_chunk])
        reading->unexpected = true;
    if (task->parent)
        return reading;
    return elements <= CHUNK_KEYS ? reading->usual->createArray(task, 0)
                                  : NULL; /* nobody waits for all that */
}

/* One MGET's answer. After fn has stopped the call, what is still in flight is only taken in. */
static int take_chunk(struct reading *reading, struct err *err)
{
    redisReply *reply = NULL;
    reading->largest = 0;
    const int rc = redis_reply(reading->link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_ARRAY || reading->unexpected)
        return redis_unexpected(reading->link, reply, "MGET", err);
    freeReplyObject(reply);
    if (reading->largest)
        *reading->value_bytes = reading->largest;
    reading->done += reading->chunks[reading->first_chunk];
    reading->first_chunk = (reading->first_chunk + 1) % CHUNKS_IN_FLIGHT;
    reading->chunks_in_flight--;
    return 0;
}

static int read_chunks(struct reading *reading, const struct store_key *base, struct err *err)
{
    int rc = 0;
    while (rc == 0) {
        while (!reading->stopped && reading->chunks_in_flight < CHUNKS_IN_FLIGHT)
            if (!send_chunk(reading, base))
                break;
        if (!reading->chunks_in_flight)
            break;
        rc = take_chunk(reading, err);
    }
    return rc;
}

/* ---- heads: a GETRANGE each ---- */

void redis_write_head(struct redis_link *link, const struct store_key *key, size_t bytes)
{
    redis_command(link, 4, "GETRANGE");
    redis_arg_key(link, key);
    redis_arg_number(link, 0);
    redis_arg_number(link, bytes - 1 < INT64_MAX ? bytes - 1 : INT64_MAX);
}

/* The next reply: *out is a string, or NULL for a key of another type, which has no value. */
static int take_head(struct redis_link *link, redisReply **out, size_t bytes, struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply_any(link, &reply, redis_deadline_in(link->store->command_timeout_ms), err);
    if (rc < 0)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "WRONGTYPE", 9) == 0) {
        freeReplyObject(reply);
        reply = NULL;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        return redis_refuse(link, reply, err);
    } else if (reply->type != REDIS_REPLY_STRING || reply->len > bytes) {
        return redis_unexpected(link, reply, "GETRANGE", err);
    }
    *out = reply;
    return 0;
}

static size_t heads_in_flight(size_t head)
{
    const size_t fit = HEAD_BYTES_IN_FLIGHT / head;
    return fit < 2 ? 2 : fit < HEADS_IN_FLIGHT ? fit : HEADS_IN_FLIGHT;
}

static int read_heads(struct redis_link *link, const struct store_key *base, size_t head, store_next_fn *next,
    store_value_fn *fn, void *ctx, struct err *err)
{
    const size_t window = heads_in_flight(head);
    struct store_id ids[HEADS_IN_FLIGHT];
    size_t sent = 0, done = 0;
    int stopped = 0, rc = redis_begin(link, err);
    while (rc == 0) {
        if (!stopped && sent - done <= window / 2) { /* many with one send */
            const size_t count = next(ctx, ids, window - (sent - done));
            for (size_t i = 0; i < count; i++, sent++) {
                struct store_key key = *base;
                store_key_append(&key, ids[i].id, ids[i].len);
                redis_write_head(link, &key, head);
            }
        }
        if (done == sent)
            break;
        redisReply *reply = NULL;
        rc = take_head(link, &reply, head, err);
        if (rc == 0 && !stopped)
            stopped = reply && reply->len ? fn(ctx, done, reply->str, reply->len) : fn(ctx, done, NULL, 0);
        freeReplyObject(reply);
        done++;
    }
    if (rc < 0)
        return rc;
    if (done)
        redis_succeed(link);
    return stopped;
}

int redis_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    struct reading reading = {.link = self,
        .value_bytes = redis_value_bytes(self->value_bytes, kind),
        .next = next,
        .fn = fn,
        .ctx = ctx};
    struct store_key base;
    store_key_kind(&base, link->store, generation, kind);
    if (head)
        return read_heads(self, &base, head, next, fn, ctx, err);
    int rc = redis_begin(self, err);
    if (rc < 0)
        return rc;
    redisReplyObjectFunctions *const usual = self->reader->fn;
    void *const plain = self->reader->privdata; /* hiredis's own, see redis_reader_open() */
    redisReplyObjectFunctions functions = {
        take_string, take_array, take_integer, take_nil, usual->freeObject};
    reading.usual = plain;
    self->reader->fn = &functions;
    self->reader->privdata = &reading;
    rc = read_chunks(&reading, &base, err);
    if (self->reader) {
        self->reader->fn = usual;
        self->reader->privdata = plain;
    }
    if (rc < 0)
        return rc;
    if (reading.done) /* nothing asked is nothing known */
        redis_succeed(self);
    return reading.stopped;
}

/* ---- listing ---- */

int redis_scan_step(struct redis_link *link, const struct store_key *base, char cursor[REDIS_CURSOR_MAX],
    redisReply **out, struct err *err)
{
    struct store_key pattern = *base; /* no generation or prefix holds what MATCH takes for a pattern */
    redisReply *reply = NULL;
    store_key_append(&pattern, "*", 1);
    redis_command(link, 6, "SCAN");
    redis_arg_text(link, cursor);
    redis_arg_text(link, "MATCH");
    redis_arg_key(link, &pattern);
    redis_arg_text(link, "COUNT");
    redis_arg_text(link, SCAN_COUNT);
    const int rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                reply->element[0]->type == REDIS_REPLY_STRING && reply->element[0]->len < REDIS_CURSOR_MAX &&
                reply->element[1]->type == REDIS_REPLY_ARRAY;
    for (size_t i = 0; good && i < reply->element[1]->elements; i++) {
        const redisReply *const key = reply->element[1]->element[i];
        good = key->type == REDIS_REPLY_STRING && key->len >= base->len &&
               memcmp(key->str, base->text, base->len) == 0;
    }
    if (!good)
        return redis_unexpected(link, reply, "SCAN", err);
    memcpy(cursor, reply->element[0]->str, reply->element[0]->len + 1);
    *out = reply;
    return 0;
}

/* SCAN may show a key twice, when the server resizes its table meanwhile; ours must not, so ids are
 * remembered. */
int redis_scan_until(struct redis_link *link, const struct store_key *base, struct id_map *seen,
    int64_t until_ms, store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    char cursor[REDIS_CURSOR_MAX] = "0";
    int stopped = 0, rc = redis_begin(link, err);
    *whole = false;
    while (rc == 0 && !stopped && !*whole) {
        redisReply *reply = NULL;
        rc = redis_scan_step(link, base, cursor, &reply, err);
        for (size_t i = 0; rc == 0 && !stopped && i < reply->element[1]->elements; i++) {
            const redisReply *const key = reply->element[1]->element[i];
            const char *const id = key->str + base->len;
            bool added = false;
            if (id_map_add(seen, id, key->len - base->len, &added) < 0)
                rc = err_set(err, ERR_NOMEM, "out of memory");
            else if (added)
                stopped = fn(ctx, id, key->len - base->len);
        }
        freeReplyObject(reply);
        *whole = rc == 0 && !stopped && strcmp(cursor, "0") == 0;
        if (redis_now_ms() >= until_ms)
            break;
    }
    if (rc < 0)
        return rc;
    redis_succeed(link);
    return stopped;
}

int redis_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err)
{
    struct id_map seen = {0};
    struct store_key base;
    bool whole;
    store_key_kind(&base, link->store, generation, kind);
    const int rc = redis_scan_until((struct redis_link *)link, &base, &seen, INT64_MAX, fn, ctx, &whole, err);
    id_map_done(&seen);
    return rc;
}

/* ---- writing: one command an entry, each with one answer ---- */

int redis_write_all(struct redis_link *link, size_t count, redis_write_fn *write, const void *ctx,
    int expected, const char *command, struct err *err)
{
    size_t sizes[WRITES_IN_FLIGHT], sent = 0, done = 0, bytes = 0;
    int rc = redis_begin(link, err);
    while (rc == 0 && done < count) {
        const bool due = sent - done <= WRITES_IN_FLIGHT / 2; /* many with one send */
        while (due && sent < count && sent - done < WRITES_IN_FLIGHT && bytes < WRITE_BYTES_IN_FLIGHT) {
            const size_t before = link->out_used;
            write(link, ctx, sent);
            sizes[sent % WRITES_IN_FLIGHT] = link->out_used - before;
            bytes += link->out_used - before;
            sent++;
        }
        redisReply *reply = NULL;
        rc = redis_reply(link, &reply, err);
        if (rc == 0 && reply->type != expected)
            return redis_unexpected(link, reply, command, err);
        freeReplyObject(reply);
        bytes -= sizes[done % WRITES_IN_FLIGHT];
        done++;
    }
    if (rc == 0)
        redis_succeed(link);
    return rc == 0 ? redis_confirm(link, err) : rc;
}

struct putting {
    struct store_key base;
    const struct store_entry *entries;
};

static void write_set(struct redis_link *link, const void *ctx, size_t index)
{
    const struct putting *const putting = ctx;
    const struct store_entry *const entry = &putting->entries[index];
    struct store_key key = putting->base;
    store_key_append(&key, entry->id.id, entry->id.len);
    redis_command(link, 3, "SET");
    redis_arg_key(link, &key);
    redis_arg(link, entry->data, entry->len);
}

int redis_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err)
{
    struct putting putting = {.entries = entries};
    store_key_kind(&putting.base, link->store, generation, kind);
    return redis_write_all(
        (struct redis_link *)link, count, write_set, &putting, REDIS_REPLY_STATUS, "SET", err);
}

struct deleting {
    struct store_key base;
    const struct store_id *ids;
};

static void write_unlink(struct redis_link *link, const void *ctx, size_t index)
{
    const struct deleting *const deleting = ctx;
    struct store_key key = deleting->base;
    store_key_append(&key, deleting->ids[index].id, deleting->ids[index].len);
    redis_command(link, 2, "UNLINK");
    redis_arg_key(link, &key);
}

int redis_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err)
{
    struct deleting deleting = {.ids = ids};
    store_key_kind(&deleting.base, link->store, generation, kind);
    return redis_write_all(
        (struct redis_link *)link, count, write_unlink, &deleting, REDIS_REPLY_INTEGER, "UNLINK", err);
}
