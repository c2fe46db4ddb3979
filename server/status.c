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

/* ---- a matrix and the text beside it ---- */

/* What the store says of a user or a content. */
struct reading {
    struct worker *worker;
    struct live_generation *generation;
    const struct store_id *id;
    enum blob_kind kind;
    enum { ABSENT, PRESENT, CORRUPT } matrix;
    const char *text; /* the user's summary, the content's title; NULL: none */
    size_t text_len;
    bool failed;
};

static int take_matrix(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct reading *reading = ctx;
    const struct manifest *manifest = &reading->generation->manifest;
    const bool user = reading->kind == BLOB_USER;
    const struct blob_spec spec = {
        .kind = reading->kind,
        .rows = user ? manifest->m : manifest->n,
        .cols = manifest->d,
        .generation = reading->generation->name,
        .id = reading->id->id,
        .id_len = reading->id->len,
    };
    if (!data)
        return 0;
    const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
    reading->matrix = reason == BLOB_OK ? PRESENT : CORRUPT;
    if (reason != BLOB_OK)
        worker_note_blob(
            reading->worker, user ? "user" : "content", reading->id, reading->generation->name, reason);
    return 0;
}

static int take_text(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct reading *reading = ctx;
    if (!data || (reading->kind == BLOB_CONTENT && !title_valid(data, len)))
        return 0;
    reading->text = arena_copy(&reading->worker->arena, data, len);
    reading->text_len = len;
    reading->failed = !reading->text;
    return 0;
}

static void write_text(struct writer *w, const char *key, const struct reading *reading)
{
    writer_key(w, key);
    if (reading->text)
        writer_string(w, reading->text, reading->text_len);
    else
        writer_null(w);
}

static void write_head(struct writer *w, const char *what, const struct reading *reading)
{
    writer_open(w, '{');
    writer_key(w, what);
    writer_string(w, reading->id->id, reading->id->len);
    writer_key(w, "generation");
    writer_text(w, reading->generation->name);
}

static void write_end(struct writer *w, const struct reading *reading)
{
    const struct manifest *manifest = &reading->generation->manifest;
    const time_t now = time(NULL);
    writer_key(w, "n");
    writer_uint(w, manifest->n);
    writer_key(w, "d");
    writer_uint(w, manifest->d);
    writer_key(w, "age_s");
    writer_int(w, now > manifest->created ? (int64_t)(now - manifest->created) : 0);
    writer_close(w, '}');
}

static void write_user(struct writer *w, const struct reading *reading)
{
    write_head(w, "user", reading);
    writer_key(w, "user_status");
    writer_text(w, reading->matrix == CORRUPT ? "corrupt" : "present");
    write_text(w, "summary", reading);
    writer_key(w, "m");
    writer_uint(w, reading->generation->manifest.m);
    write_end(w, reading);
}

static void write_category(void *ctx, const struct store_id *name)
{
    writer_string(ctx, name->id, name->len);
}

static void write_content(struct writer *w, const struct reading *reading)
{
    write_head(w, "content", reading);
    write_text(w, "title", reading);
    writer_key(w, "categories");
    writer_open(w, '[');
    live_generation_categories_of(reading->generation, reading->id, write_category, w);
    writer_close(w, ']');
    write_end(w, reading);
}

/* A damaged user is told as such, with the summary; a damaged content is an error. */
static void answer(
    struct reading *reading, const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct worker *worker = reading->worker;
    const bool user = reading->kind == BLOB_USER;
    if (!breaker_allows(&worker->service->breaker)) {
        http_fail(response, request, 503, "the store does not answer");
        return;
    }
    int code = store_get(worker->link, reading->generation->name, (enum store_kind)reading->kind, reading->id,
        1, take_matrix, reading, &err);
    if (code == 0 && (user ? reading->matrix != ABSENT : reading->matrix == PRESENT))
        code = store_get(worker->link, reading->generation->name, user ? STORE_SUMMARY : STORE_TITLE,
            reading->id, 1, take_text, reading, &err);
    worker_note_store(worker, code, &err);
    if (code < 0)
        http_fail(response, request, 503, "the store does not answer");
    else if (reading->failed)
        http_fail(response, request, 500, "out of memory");
    else if (reading->matrix == CORRUPT && !user)
        http_fail(response, request, 503, "the content could not be read: the stored matrix is damaged");
    else if (reading->matrix == ABSENT)
        http_fail(response, request, 404,
            user ? "the live generation does not know this user"
                 : "the live generation does not know this content");
    else if (user)
        write_user(&response->body, reading);
    else
        write_content(&response->body, reading);
}

/* The id is what stands behind the prefix of the path. */
static void answer_for(enum blob_kind kind, const char *prefix, struct worker *worker,
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
    struct reading reading = {.worker = worker,
        .generation = generation,
        .id = &(struct store_id){id, (size_t)decoded},
        .kind = kind};
    answer(&reading, request, response);
    live_release(generation);
}

void status_user(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    answer_for(BLOB_USER, "/users/", worker, request, response);
}

void status_content(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    answer_for(BLOB_CONTENT, "/contents/", worker, request, response);
}
