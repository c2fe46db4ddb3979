#include "server/status.h"

#include "core/id.h"
#include "server/worker.h"
#include "store/blob.h"
#include "store/title.h"

#include <string.h>

void status_livez(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    (void)request;
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "status");
    writer_text(w, "live");
    writer_close(w, '}');
}

void status_readyz(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    struct live_generation *generation = live_acquire(worker->service->live);
    if (!generation) {
        http_fail(response, request, 503, "no verified generation is in memory");
        return;
    }
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "status");
    writer_text(w, "ready");
    writer_key(w, "generation");
    writer_text(w, generation->name);
    writer_close(w, '}');
    live_release(generation);
}

void status_version(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct live_generation *generation = live_acquire(worker->service->live);
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "name");
    writer_text(w, "embsumd");
    writer_key(w, "version");
    writer_text(w, EMBSUM_VERSION);
    writer_key(w, "dtype");
    writer_text(w, worker->service->config->scoring.dtype);
    writer_key(w, "kernel"); /* chosen when a generation comes */
    if (generation)
        writer_text(w, scorer_kernel(generation->scorer));
    else
        writer_null(w);
    writer_close(w, '}');
    live_release(generation);
}

/* ---- /users/{id} ---- */

struct reading {
    struct worker *worker;
    const struct live_generation *generation;
    const struct store_id *id;
    enum { NOBODY, PRESENT, CORRUPT } user;
    const char *summary; /* NULL: none */
    size_t summary_len;
    bool failed;
};

static int take_user(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct reading *reading = ctx;
    const struct manifest *manifest = &reading->generation->manifest;
    const struct blob_spec spec = {
        .kind = BLOB_USER,
        .rows = manifest->m,
        .cols = manifest->d,
        .generation = reading->generation->name,
        .id = reading->id->id,
        .id_len = reading->id->len,
    };
    if (!data)
        return 0;
    const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
    reading->user = reason == BLOB_OK ? PRESENT : CORRUPT;
    if (reason != BLOB_OK)
        worker_note_blob(reading->worker, "user", reading->id, reading->generation->name, reason);
    return 0;
}

static int take_summary(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct reading *reading = ctx;
    if (!data)
        return 0;
    reading->summary = arena_copy(&reading->worker->arena, data, len);
    reading->summary_len = len;
    reading->failed = !reading->summary;
    return 0;
}

static void write_user(struct writer *w, const struct reading *reading)
{
    const struct manifest *manifest = &reading->generation->manifest;
    const time_t now = time(NULL);
    writer_open(w, '{');
    writer_key(w, "user");
    writer_string(w, reading->id->id, reading->id->len);
    writer_key(w, "generation");
    writer_text(w, reading->generation->name);
    writer_key(w, "user_status");
    writer_text(w, reading->user == CORRUPT ? "corrupt" : "present");
    writer_key(w, "summary");
    if (reading->summary)
        writer_string(w, reading->summary, reading->summary_len);
    else
        writer_null(w);
    writer_key(w, "m");
    writer_uint(w, manifest->m);
    writer_key(w, "n");
    writer_uint(w, manifest->n);
    writer_key(w, "d");
    writer_uint(w, manifest->d);
    writer_key(w, "age_s");
    writer_int(w, now > manifest->created ? (int64_t)(now - manifest->created) : 0);
    writer_close(w, '}');
}

static void answer_user(struct worker *worker, struct live_generation *generation, const struct store_id *id,
    const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct reading reading = {.worker = worker, .generation = generation, .id = id};
    if (!breaker_allows(&worker->service->breaker)) {
        http_fail(response, request, 503, "the store does not answer");
        return;
    }
    int code = store_get(worker->link, generation->name, STORE_USER, id, 1, take_user, &reading, &err);
    if (code == 0 && reading.user != NOBODY)
        code = store_get(worker->link, generation->name, STORE_SUMMARY, id, 1, take_summary, &reading, &err);
    worker_note_store(worker, code, &err);
    if (code < 0) {
        http_fail(response, request, 503, "the store does not answer");
    } else if (reading.failed) {
        http_fail(response, request, 500, "out of memory");
    } else if (reading.user == NOBODY) {
        http_fail(response, request, 404, "the live generation does not know this user");
    } else {
        write_user(&response->body, &reading);
    }
}

/* ---- /contents/{id} ---- */

struct content_reading {
    struct worker *worker;
    struct live_generation *generation;
    const struct store_id *id;
    enum { ABSENT, HERE, DAMAGED } content;
    const char *title; /* NULL: none */
    size_t title_len;
    bool failed;
};

static int take_content(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct content_reading *reading = ctx;
    const struct manifest *manifest = &reading->generation->manifest;
    const struct blob_spec spec = {
        .kind = BLOB_CONTENT,
        .rows = manifest->n,
        .cols = manifest->d,
        .generation = reading->generation->name,
        .id = reading->id->id,
        .id_len = reading->id->len,
    };
    if (!data)
        return 0;
    const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
    reading->content = reason == BLOB_OK ? HERE : DAMAGED;
    if (reason != BLOB_OK)
        worker_note_blob(reading->worker, "content", reading->id, reading->generation->name, reason);
    return 0;
}

static int take_title(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct content_reading *reading = ctx;
    if (!data || !title_valid(data, len))
        return 0;
    reading->title = arena_copy(&reading->worker->arena, data, len);
    reading->title_len = len;
    reading->failed = !reading->title;
    return 0;
}

static void write_category(void *ctx, const struct store_id *name)
{
    writer_string(ctx, name->id, name->len);
}

static void write_content(struct writer *w, const struct content_reading *reading)
{
    const struct manifest *manifest = &reading->generation->manifest;
    const time_t now = time(NULL);
    writer_open(w, '{');
    writer_key(w, "content");
    writer_string(w, reading->id->id, reading->id->len);
    writer_key(w, "generation");
    writer_text(w, reading->generation->name);
    writer_key(w, "title");
    if (reading->title)
        writer_string(w, reading->title, reading->title_len);
    else
        writer_null(w);
    writer_key(w, "categories");
    writer_open(w, '[');
    live_generation_categories_of(reading->generation, reading->id, write_category, w);
    writer_close(w, ']');
    writer_key(w, "n");
    writer_uint(w, manifest->n);
    writer_key(w, "d");
    writer_uint(w, manifest->d);
    writer_key(w, "age_s");
    writer_int(w, now > manifest->created ? (int64_t)(now - manifest->created) : 0);
    writer_close(w, '}');
}

static void answer_content(struct worker *worker, struct live_generation *generation,
    const struct store_id *id, const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct content_reading reading = {.worker = worker, .generation = generation, .id = id};
    if (!breaker_allows(&worker->service->breaker)) {
        http_fail(response, request, 503, "the store does not answer");
        return;
    }
    int code = store_get(worker->link, generation->name, STORE_CONTENT, id, 1, take_content, &reading, &err);
    if (code == 0 && reading.content == HERE)
        code = store_get(worker->link, generation->name, STORE_TITLE, id, 1, take_title, &reading, &err);
    worker_note_store(worker, code, &err);
    if (code < 0) {
        http_fail(response, request, 503, "the store does not answer");
    } else if (reading.failed) {
        http_fail(response, request, 500, "out of memory");
    } else if (reading.content == DAMAGED) {
        http_fail(response, request, 503, "the content could not be read: the stored matrix is damaged");
    } else if (reading.content == ABSENT) {
        http_fail(response, request, 404, "the live generation does not know this content");
    } else {
        write_content(&response->body, &reading);
    }
}

/* ---- what both have in common ---- */

typedef void answer_fn(struct worker *worker, struct live_generation *generation, const struct store_id *id,
    const struct http_request *request, struct http_response *response);

/* The id is what stands behind the prefix of the path. */
static void answer_for(answer_fn *answer, const char *prefix, struct worker *worker,
    const struct http_request *request, struct http_response *response)
{
    const char *encoded = request->path + strlen(prefix);
    const size_t len = strlen(encoded);
    char *id = arena_alloc(&worker->arena, len + 1);
    if (!id) {
        http_fail(response, request, 500, "out of memory");
        return;
    }
    struct err err = ERR_INIT;
    const ptrdiff_t decoded = http_percent_decode(id, encoded, len);
    if (decoded < 0 || id_check(id, (size_t)decoded, &err) < 0) {
        http_fail(response, request, 400,
            decoded < 0 ? "a % is not followed by two hexadecimal digits" : err.message);
        return;
    }
    struct live_generation *generation = live_acquire(worker->service->live);
    if (!generation) {
        http_fail(response, request, 503, "no verified generation is in memory");
        return;
    }
    answer(worker, generation, &(struct store_id){id, (size_t)decoded}, request, response);
    live_release(generation);
}

void status_user(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    answer_for(answer_user, "/users/", worker, request, response);
}

void status_content(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    answer_for(answer_content, "/contents/", worker, request, response);
}
