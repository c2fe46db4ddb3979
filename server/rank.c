#include "server/rank.h"

#include "core/score.h"
#include "server/clock.h"
#include "server/rank_answer.h"
#include "server/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the users ---- */

/* One user that can be ranked is enough; otherwise the worst reason is the answer. */
static int load_users(
    struct rank_result *result, struct worker *worker, const struct rank_request *request, struct err *err)
{
    const int code =
        users_load(&result->users, worker, result->generation, request->users, request->user_count, err);
    if (code < 0)
        return code;
    result->user_count = request->user_count;
    bool unavailable = false, corrupt = false;
    for (size_t i = 0; i < result->user_count; i++) {
        if (result->users[i].matrix)
            return 0;
        unavailable |= result->users[i].status == USER_UNAVAILABLE;
        corrupt |= result->users[i].status == USER_CORRUPT;
    }
    const char *whom = request->several ? "none of the users could" : "the user could not";
    if (unavailable)
        return err_set(err, ERR_UNAVAILABLE, "%s be read: the store does not answer", whom);
    if (corrupt)
        return err_set(err, ERR_CORRUPT, "%s be read: the stored matrix is damaged", whom);
    return err_set(err, ERR_NOT_FOUND, "%s is in generation %s",
        request->several ? "none of the users" : "no such user", result->generation->name);
}

/* ---- the candidates ---- */

static int load_candidates(
    struct rank_result *result, struct worker *worker, const struct rank_request *request, struct err *err)
{
    if (request->whole_catalogue) {
        struct err why = ERR_INIT;
        const int code = catalogue_get(result->generation->catalogue, worker->link, result->generation->name,
            &result->candidates, &result->candidate_count, &why);
        if (code < 0) {
            worker_note_store(worker, &why);
            return err_set(err, code == -ERR_NOMEM ? ERR_NOMEM : ERR_UNAVAILABLE,
                "the catalogue could not be read from the store");
        }
    } else {
        result->candidates = request->candidates;
        result->candidate_count = request->candidate_count;
    }
    return 0;
}

static int make_room(
    struct rank_result *result, struct worker *worker, const struct rank_request *request, struct err *err)
{
    const struct manifest *manifest = &result->generation->manifest;
    const size_t count = result->candidate_count, users = result->user_count;
    const size_t k = request->top_k && request->top_k < count ? request->top_k : count;
    const size_t listed = request->whole_catalogue ? RANK_MISSING_LISTED : count;
    const size_t scratch = score_scratch(manifest->m, manifest->n, manifest->d);
    result->tops = arena_array(&worker->arena, users, sizeof *result->tops);
    result->missing = arena_array(&worker->arena, listed, sizeof *result->missing);
    if (scratch > worker->score_scratch_size) {
        free(worker->score_scratch);
        worker->score_scratch = calloc(scratch, sizeof *worker->score_scratch);
        worker->score_scratch_size = worker->score_scratch ? scratch : 0;
    }
    if (!result->tops || !result->missing || !worker->score_scratch)
        return err_set(err, ERR_NOMEM, "no memory to rank %zu candidates", count);
    for (size_t i = 0; i < users; i++) {
        result->tops[i].k = k;
        result->tops[i].hits = arena_array(&worker->arena, k, sizeof *result->tops[i].hits);
        if (!result->tops[i].hits)
            return err_set(err, ERR_NOMEM, "no memory to rank %zu candidates", count);
    }
    return 0;
}

/* ---- one chunk of candidates: gathered once, scored for every user ---- */

static void note_missing(struct rank_result *result, struct worker *worker, const enum content_status *status,
    size_t first, size_t count, bool whole_catalogue)
{
    static const enum metrics_missing reasons[] = {
        [CONTENT_NOT_FOUND] = METRICS_NOT_FOUND,
        [CONTENT_CORRUPT] = METRICS_CORRUPT,
        [CONTENT_UNAVAILABLE] = METRICS_UNAVAILABLE,
    };
    for (size_t i = 0; i < count; i++) {
        if (status[i] == CONTENT_HERE)
            continue;
        metrics_add(&worker->metrics.missing[reasons[status[i]]], 1);
        result->missing_count++;
        if (!whole_catalogue || result->missing_listed < RANK_MISSING_LISTED)
            result->missing[result->missing_listed++] =
                (struct rank_missing){(uint32_t)(first + i), reasons[status[i]]};
    }
}

/* Finite matrices may still be so large that their products are not. Such a content is as good as damaged: it
 * is left out for all users, and JSON has no word for its score anyway. */
static void drop_infinite(struct contents *contents, const float *scores, size_t users)
{
    for (size_t c = 0; c < contents->count; c++)
        for (size_t u = 0; u < users; u++)
            if (!isfinite(scores[u * contents->count + c]))
                contents->status[contents->index[c]] = CONTENT_CORRUPT;
}

static void score_chunk(struct rank_result *result, struct worker *worker, size_t first, float *scores)
{
    const struct manifest *manifest = &result->generation->manifest;
    struct contents *contents = &worker->contents;
    const size_t count = contents->count;
    for (size_t u = 0; u < result->user_count; u++) {
        float *to = scores + u * count;
        if (!result->users[u].matrix) {
            memset(to, 0, count * sizeof *to);
            continue;
        }
        score_candidates(to, result->users[u].matrix, contents->blocks, manifest->m, manifest->n, manifest->d,
            count, worker->score_scratch);
        metrics_add(&worker->metrics.scored, count);
    }
    drop_infinite(contents, scores, result->user_count);
    for (size_t u = 0; u < result->user_count; u++)
        for (size_t c = 0; result->users[u].matrix && c < count; c++)
            if (contents->status[contents->index[c]] == CONTENT_HERE)
                top_add(&result->tops[u], scores[u * count + c], (uint32_t)(first + contents->index[c]));
}

static int rank_chunks(
    struct rank_result *result, struct worker *worker, const struct rank_request *request, struct err *err)
{
    const size_t chunk = contents_chunk(result->generation);
    const size_t most = chunk < result->candidate_count ? chunk : result->candidate_count;
    float *scores = arena_array(&worker->arena, most, result->user_count * sizeof *scores);
    if (!scores)
        return err_set(err, ERR_NOMEM, "no memory to rank %zu candidates", result->candidate_count);
    for (size_t first = 0; first < result->candidate_count; first += chunk) {
        const size_t left = result->candidate_count - first, count = left < chunk ? left : chunk;
        const uint64_t start = clock_ns();
        /* A walk through the catalogue must not sweep out what the requests of the day have warmed. */
        const int code = contents_gather(
            worker, result->generation, result->candidates + first, count, !request->whole_catalogue, err);
        if (code < 0)
            return code;
        const uint64_t gathered = clock_ns();
        worker->stage_ns[STAGE_FETCH] += gathered - start;
        result->store_failed |= worker->contents.store_failed;
        score_chunk(result, worker, first, scores);
        note_missing(result, worker, worker->contents.status, first, count, request->whole_catalogue);
        worker->stage_ns[STAGE_SCORE] += clock_ns() - gathered;
    }
    for (size_t u = 0; u < result->user_count; u++)
        top_sort(&result->tops[u]);
    return 0;
}

int rank_run(struct rank_result *out, struct worker *worker, struct live_generation *generation,
    const struct rank_request *request, struct err *err)
{
    struct rank_result result = {.generation = generation};
    const uint64_t start = clock_ns();
    int code = load_users(&result, worker, request, err);
    if (code == 0)
        code = load_candidates(&result, worker, request, err);
    if (code == 0)
        code = make_room(&result, worker, request, err);
    worker->stage_ns[STAGE_FETCH] += clock_ns() - start;
    if (code == 0)
        code = rank_chunks(&result, worker, request, err);
    if (code == 0)
        *out = result;
    return code;
}

/* ---- HTTP ---- */

/* application/json, whatever its parameters: JSON is UTF-8, and the parser holds it to that. */
static bool is_json(const char *content_type)
{
    static const char type[] = "application/json";
    const size_t len = sizeof type - 1;
    return content_type && strncasecmp(content_type, type, len) == 0 &&
           (content_type[len] == '\0' || strchr("; \t", content_type[len]));
}

static int parse(
    struct rank_request *out, struct worker *worker, const struct http_request *request, struct err *err)
{
    const struct config *config = worker->service->config;
    const struct rank_limits limits = {
        .candidates_max = (size_t)config->rank.candidates_max, .users_max = (size_t)config->rank.users_max};
    if (strcmp(request->method, "POST") == 0)
        return rank_request_parse_json(out, &worker->arena, &limits, request->body, request->body_len, err);
    return rank_request_parse_query(out, &worker->arena, &limits, request->query, err);
}

static unsigned status_of(int code)
{
    switch (-code) {
    case ERR_INVALID:
        return 400;
    case ERR_NOT_FOUND:
        return 404;
    case ERR_CORRUPT:
    case ERR_UNAVAILABLE:
        return 503;
    default:
        return 500;
    }
}

static void answer(struct worker *worker, struct live_generation *generation,
    const struct http_request *request, struct http_response *response)
{
    struct err err = ERR_INIT;
    struct rank_request wanted;
    struct rank_result result;
    uint64_t start = clock_ns();
    int code = parse(&wanted, worker, request, &err);
    worker->stage_ns[STAGE_PARSE] = clock_ns() - start;
    if (code == 0)
        code = rank_run(&result, worker, generation, &wanted, &err);
    start = clock_ns();
    if (code == 0)
        code = rank_answer_write(&response->body, worker, &wanted, &result, &err);
    worker->stage_ns[STAGE_WRITE] = clock_ns() - start;
    if (code < 0)
        http_fail(response, request, status_of(code), err.message);
}

void rank_handle(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    if (strcmp(request->method, "POST") == 0 && !request->framed) {
        http_fail(response, request, 411, "a Content-Length or a chunked body is expected");
        return;
    }
    if (strcmp(request->method, "POST") == 0 && !is_json(request->content_type)) {
        http_fail(response, request, 415, "Content-Type: application/json is expected");
        return;
    }
    memset(worker->stage_ns, 0, sizeof worker->stage_ns);
    struct live_generation *generation = live_acquire(worker->service->live);
    if (!generation) {
        http_fail(response, request, 503, "no verified generation is in memory");
        return;
    }
    answer(worker, generation, request, response);
    live_release(generation);
    const uint64_t *ns = worker->stage_ns;
    http_response_header(response, "Server-Timing",
        "parse;dur=%.3f, fetch;dur=%.3f, score;dur=%.3f, write;dur=%.3f", (double)ns[STAGE_PARSE] / 1e6,
        (double)ns[STAGE_FETCH] / 1e6, (double)ns[STAGE_SCORE] / 1e6, (double)ns[STAGE_WRITE] / 1e6);
}
