#include "server/completion.h"

#include "core/id.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

/* A place that is taken costs some ten nanoseconds; half of them are. All of a memory of up to 32,768 matrices is looked
 * at: its index has at most four places for each. */
enum { PLACES = 131072 };

struct query {
    const char *kind;
    struct store_id prefix;
    size_t limit;
};

static bool is(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static int parse_limit(struct query *query, const char *text, size_t len, struct err *err)
{
    size_t value = 0;
    bool digits = len > 0 && len <= 3;
    for (size_t i = 0; i < len && digits; i++) {
        digits = text[i] >= '0' && text[i] <= '9';
        value = 10 * value + (size_t)(text[i] - '0');
    }
    if (!digits || value == 0 || value > COMPLETION_LIMIT_MAX)
        return err_set(
            err, ERR_INVALID, "limit: a whole number from 1 to %d is expected", COMPLETION_LIMIT_MAX);
    query->limit = value;
    return 0;
}

static int parse_prefix(
    struct query *query, const char *text, size_t len, struct arena *arena, struct err *err)
{
    char *prefix = arena_alloc(arena, len + 1);
    if (!prefix)
        return err_set(err, ERR_NOMEM, "out of memory");
    const ptrdiff_t decoded = http_percent_decode(prefix, text, len);
    if (decoded < 0)
        return err_set(err, ERR_INVALID, "prefix: a %% is not followed by two hexadecimal digits");
    query->prefix = (struct store_id){prefix, (size_t)decoded};
    return decoded ? id_check(prefix, (size_t)decoded, err) : 0;
}

enum { KIND, PREFIX, LIMIT, PARAMETERS };

static int parse_parameter(
    struct query *query, unsigned which, const char *value, size_t len, struct arena *arena, struct err *err)
{
    if (which == PREFIX)
        return parse_prefix(query, value, len, arena, err);
    if (which == LIMIT)
        return parse_limit(query, value, len, err);
    query->kind = is(value, len, "content") ? "content" : is(value, len, "user") ? "user" : NULL;
    return query->kind ? 0 : err_set(err, ERR_INVALID, "kind: content or user is expected");
}

static int parse(struct query *query, const char *text, struct arena *arena, struct err *err)
{
    static const char *const names[PARAMETERS] = {"kind", "prefix", "limit"};
    bool seen[PARAMETERS] = {false};
    *query = (struct query){.prefix = {"", 0}, .limit = COMPLETION_LIMIT};
    for (const char *at = text ? text : ""; *at;) {
        const size_t len = strcspn(at, "&"), name_len = strcspn(at, "=&");
        unsigned which = 0;
        while (which < PARAMETERS && !is(at, name_len, names[which]))
            which++;
        if (which == PARAMETERS)
            return err_set(err, ERR_INVALID, "\"%.*s\" is not a parameter of this request",
                (int)(name_len < 64 ? name_len : 64), at);
        if (seen[which])
            return err_set(err, ERR_INVALID, "%s is given twice", names[which]);
        seen[which] = true;
        const char *value = at + name_len + (name_len < len);
        const int code = parse_parameter(query, which, value, (size_t)(at + len - value), arena, err);
        if (code < 0)
            return code;
        at += len + (at[len] == '&');
    }
    return query->kind ? 0 : err_set(err, ERR_INVALID, "kind is missing");
}

static int by_bytes(const void *left, const void *right)
{
    const struct store_id *a = left, *b = right;
    const int order = memcmp(a->id, b->id, a->len < b->len ? a->len : b->len);
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

static void write_ids(
    struct writer *w, const struct query *query, const struct store_id *ids, size_t count, bool complete)
{
    writer_open(w, '{');
    writer_key(w, "kind");
    writer_text(w, query->kind);
    writer_key(w, "ids");
    writer_open(w, '[');
    for (size_t i = 0; i < count; i++)
        if (i == 0 || by_bytes(&ids[i - 1], &ids[i]) != 0) /* told twice */
            writer_string(w, ids[i].id, ids[i].len);
    writer_close(w, ']');
    writer_key(w, "complete");
    writer_bool(w, complete);
    writer_close(w, '}');
}

static void complete(struct worker *worker, struct hot *hot, const struct query *query, struct writer *w)
{
    struct store_id ids[COMPLETION_LIMIT_MAX];
    bool all;
    hot_enter(hot, worker_slot(worker));
    const size_t count = hot_match(hot, &query->prefix, PLACES, ids, query->limit, &all);
    qsort(ids, count, sizeof *ids, by_bytes);
    write_ids(w, query, ids, count, all);
    hot_leave(hot, worker_slot(worker));
}

void completion_handle(
    struct worker *worker, const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct query query;
    const int code = parse(&query, request->query, &worker->arena, &err);
    if (code < 0) {
        http_fail(response, request, code == -ERR_NOMEM ? 500 : 400, err.message);
        return;
    }
    struct live_generation *generation = live_acquire(worker->service->live);
    if (!generation) {
        http_fail(response, request, 503, "no verified generation is in memory");
        return;
    }
    const bool users = strcmp(query.kind, "user") == 0;
    struct hot *hot = matrices_hot(users ? generation->users : generation->contents);
    complete(worker, hot, &query, &response->body);
    live_release(generation);
}
