#include "server/status.h"

#include "core/gemm.h"
#include "core/id.h"
#include "server/users.h"
#include "server/worker.h"

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
    (void)worker;
    (void)request;
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "name");
    writer_text(w, "embsumd");
    writer_key(w, "version");
    writer_text(w, EMBSUM_VERSION);
    writer_key(w, "kernel");
    writer_text(w, gemm_kernel());
    writer_close(w, '}');
}

/* ---- /users/{id} ---- */

struct summary {
    struct arena *arena;
    const char *text; /* NULL: none */
    size_t len;
    bool failed;
};

static int take_summary(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct summary *summary = ctx;
    if (!data)
        return 0;
    summary->text = arena_copy(summary->arena, data, len);
    summary->len = len;
    summary->failed = !summary->text;
    return 0;
}

static void write_user(struct writer *w, const struct live_generation *generation, const struct user *user,
    const struct summary *summary)
{
    const struct manifest *manifest = &generation->manifest;
    const time_t now = time(NULL);
    writer_open(w, '{');
    writer_key(w, "user");
    writer_string(w, user->id.id, user->id.len);
    writer_key(w, "generation");
    writer_text(w, generation->name);
    writer_key(w, "user_status");
    writer_text(w, user->corrupt ? "corrupt" : user_status_name(user->status));
    writer_key(w, "summary");
    if (summary->text)
        writer_string(w, summary->text, summary->len);
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

static void answer_user(struct worker *worker, const struct live_generation *generation,
    const struct store_id *id, const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct user *user;
    if (users_load(&user, worker, generation, id, 1, &err) < 0) {
        http_fail(response, request, 500, err.message);
        return;
    }
    if (user->status == USER_NOT_FOUND || (user->status == USER_DEFAULT && !user->corrupt)) {
        http_fail(response, request, 404, "the live generation does not know this user");
        return;
    }
    struct summary summary = {.arena = &worker->arena};
    bool failed = user->status == USER_UNAVAILABLE;
    if (!failed &&
        store_get(worker->link, generation->name, STORE_SUMMARY, id, 1, take_summary, &summary, &err) < 0) {
        worker_note_store(worker, &err);
        failed = true;
    }
    if (failed)
        http_fail(response, request, 503, "the store does not answer");
    else if (summary.failed)
        http_fail(response, request, 500, "out of memory");
    else
        write_user(&response->body, generation, user, &summary);
}

void status_user(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    const char *encoded = request->path + strlen("/users/");
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
    const struct store_id user = {id, (size_t)decoded};
    answer_user(worker, generation, &user, request, response);
    live_release(generation);
}
