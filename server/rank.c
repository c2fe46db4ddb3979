#include "server/rank.h"

#include "server/clock.h"
#include "server/details.h"
#include "server/overload.h"
#include "server/rank_answer.h"
#include "server/rank_job.h"
#include "server/router.h"
#include "server/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* How long a job may wait for the store. One of many windows keeps a quarter of its time for scoring what is in memory. */
static uint64_t wait_until_ns(const struct rank_job *job)
{
    const bool many = job->request.whole_catalogue || job->request.candidate_count > RANK_WINDOW;
    const uint64_t since_ns = job->call->since_ns, all_ns = job->deadline_ns - since_ns;
    return since_ns + (many ? all_ns / 4 * 3 : all_ns);
}

bool rank_gather_init(struct rank_job *job, struct gather *gather, struct matrices *from, size_t count)
{
    *gather = (struct gather){.from = from,
        .mode = HOT_KEEP,
        .deadline_ns = wait_until_ns(job),
        .blocks = arena_array(&job->arena, count, sizeof(void *)),
        .status = arena_array(&job->arena, count, 1),
        .missed = arena_array(&job->arena, count, sizeof(uint32_t))};
    return gather->blocks && gather->status && gather->missed;
}

void rank_stage(struct rank_job *job, enum stage stage, uint64_t since_ns)
{
    atomic_fetch_add_explicit(&job->stage_ns[stage], clock_ns() - since_ns, memory_order_relaxed);
}

void rank_fail(struct rank_job *job, const struct err *err)
{
    pthread_mutex_lock(&job->lock);
    if (!job->err.code)
        job->err = *err;
    pthread_mutex_unlock(&job->lock);
}

void rank_no_memory(struct rank_job *job, const char *for_what)
{
    struct err err = ERR_INIT;
    err_set(&err, ERR_NOMEM, "no memory for %s", for_what);
    rank_fail(job, &err);
}

/* ---- the answer ---- */

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

void rank_finish(struct rank_job *job, struct worker *worker)
{
    struct http_call *call = job->call;
    if (job->err.code < 0)
        http_fail(&call->response, &call->request, status_of(job->err.code), job->err.message);
    unsigned long long us[STAGES];
    uint64_t ns[STAGES];
    for (size_t i = 0; i < STAGES; i++) {
        ns[i] = atomic_load_explicit(&job->stage_ns[i], memory_order_relaxed);
        us[i] = (ns[i] + 500) / 1000;
    }
    rank_note(job, worker, ns);
    char rescored[48] = "";
    if (job->best_of)
        snprintf(rescored, sizeof rescored, ", rescored;desc=\"%zu\"", atomic_load(&job->rescored));
    http_response_header(&call->response, "Server-Timing",
        "parse;dur=%llu.%03llu, fetch;dur=%llu.%03llu, score;dur=%llu.%03llu, write;dur=%llu.%03llu%s",
        us[STAGE_PARSE] / 1000, us[STAGE_PARSE] % 1000, us[STAGE_FETCH] / 1000, us[STAGE_FETCH] % 1000,
        us[STAGE_SCORE] / 1000, us[STAGE_SCORE] % 1000, us[STAGE_WRITE] / 1000, us[STAGE_WRITE] % 1000,
        rescored);
    struct shadow_sample *sample = shadow_sample(job->service->shadow, job);
    gather_free(&job->gather);
    gather_free(&job->explained);
    details_release(job->details);
    buffer_done(&job->explained_blocks); /* rare, and large */
    catalogue_release(job->catalogue);
    live_release(job->generation);
    rank_job_give(job, worker);
    router_answer(worker, call);
    shadow_rank(sample);
}

void rank_write(struct rank_job *job, struct worker *worker)
{
    const uint64_t start = clock_ns();
    struct err err = ERR_INIT;
    /* What is in memory may be old by now, and nobody can tell. */
    job->result.store_failed |= breaker_is_open(&job->service->breaker);
    if (rank_answer_write(&job->call->response.body, &job->arena, &job->request, &job->result, &err) < 0)
        rank_fail(job, &err);
    rank_stage(job, STAGE_WRITE, start);
    rank_finish(job, worker);
}

static int compare_missing(const void *a, const void *b)
{
    const struct rank_missing *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

void rank_scored(struct rank_job *job, struct worker *worker)
{
    struct rank_result *result = &job->result;
    if (job->err.code < 0) {
        rank_finish(job, worker);
        return;
    }
    const uint64_t start = clock_ns();
    for (size_t u = 0; u < result->user_count; u++)
        top_sort(&result->tops[u]);
    if (result->candidate_count > RANK_WINDOW) /* several lanes may have filled it */
        qsort(result->missing, result->missing_listed, sizeof *result->missing, compare_missing);
    rank_stage(job, STAGE_WRITE, start);
    if (job->request.explain)
        rank_explain(job, worker);
    else if (job->request.titles)
        rank_details(job, worker);
    else
        rank_write(job, worker);
}

/* ---- candidates ---- */

static bool make_room(struct rank_job *job)
{
    struct rank_result *result = &job->result;
    const size_t count = result->candidate_count, users = result->user_count, asked = job->request.top_k;
    const size_t k = asked && asked < count ? asked : count;
    result->tops = arena_array(&job->arena, users, sizeof *result->tops);
    result->missing = arena_array(
        &job->arena, job->request.whole_catalogue ? RANK_MISSING_LISTED : count, sizeof *result->missing);
    if (!result->tops || !result->missing)
        return false;
    for (size_t u = 0; u < users; u++) {
        result->tops[u].k = k;
        result->tops[u].hits = arena_array(&job->arena, k, sizeof *result->tops[u].hits);
        result->tops[u].scratch = arena_array(&job->arena, k, sizeof *result->tops[u].scratch);
        if (!result->tops[u].hits || !result->tops[u].scratch)
            return false;
    }
    return true;
}

/* The catalogue without the ids that the request excludes, in its order. */
static bool leave_out(struct rank_job *job)
{
    struct rank_result *result = &job->result;
    const struct rank_request *request = &job->request;
    const size_t count = job->catalogue->count;
    struct store_id *ids = arena_array(&job->arena, count, sizeof *ids);
    uint64_t *hashes = arena_array(&job->arena, count, sizeof *hashes);
    unsigned char *out = arena_array(&job->arena, count, 1);
    size_t kept = 0;
    if (!ids || !hashes || !out)
        return false;
    for (size_t i = 0; i < request->exclude_count; i++) {
        const ptrdiff_t at = catalogue_find(job->catalogue, &request->exclude[i]);
        if (at >= 0)
            out[at] = 1;
    }
    for (size_t i = 0; i < count; i++) {
        ids[kept] = job->catalogue->ids[i];
        hashes[kept] = job->catalogue->hashes[i];
        kept += !out[i];
    }
    result->candidates = ids;
    result->hashes = hashes;
    result->candidate_count = kept;
    return true;
}

static int list_candidates(struct rank_job *job, struct err *err)
{
    struct rank_result *result = &job->result;
    if (!job->request.whole_catalogue) {
        result->candidates = job->request.candidates;
        result->hashes = job->request.hashes;
        result->candidate_count = job->request.candidate_count;
        return 0;
    }
    const struct store_id *category = &job->request.category;
    job->catalogue = category->len ? live_generation_category(job->generation, category)
                                   : live_generation_catalogue(job->generation);
    if (!job->catalogue) /* an empty ranking would hide that the name is mistyped */
        return err_set(err, ERR_NOT_FOUND, "no such category is in generation %s", job->generation->name);
    result->candidates = job->catalogue->ids;
    result->hashes = job->catalogue->hashes;
    result->candidate_count = job->catalogue->count;
    if (job->request.exclude_count && !leave_out(job))
        return err_set(err, ERR_NOMEM, "no memory for the candidates");
    return 0;
}

static void rank_candidates(struct rank_job *job, struct worker *worker)
{
    const bool one = job->result.user_count == 1 && job->generation->dtype == SCORER_F32_INT8;
    struct err err = ERR_INIT;
    job->best_of = one ? job->request.top_k : 0;
    int code = list_candidates(job, &err);
    if (code == 0 && !make_room(job))
        code = err_set(&err, ERR_NOMEM, "no memory for the ranking");
    if (code < 0) {
        rank_fail(job, &err);
        rank_finish(job, worker);
        return;
    }
    rank_score(job, worker);
}

/* ---- users ---- */

/* A user without a matrix of their own that can be used. */
static void stand_in(struct rank_job *job, struct rank_user *user, enum user_status otherwise)
{
    user->corrupt = otherwise == USER_CORRUPT;
    user->status = otherwise;
    if (!job->service->config->rank.default_user || !job->generation->default_user ||
        otherwise == USER_UNAVAILABLE)
        return;
    user->status = USER_DEFAULT;
    user->matrix = job->generation->default_user;
}

/* One user that can be ranked is enough; otherwise the worst reason is the answer. */
static int check_users(const struct rank_job *job, struct err *err)
{
    bool unavailable = false, corrupt = false;
    for (size_t i = 0; i < job->result.user_count; i++) {
        if (job->result.users[i].matrix)
            return 0;
        unavailable |= job->result.users[i].status == USER_UNAVAILABLE;
        corrupt |= job->result.users[i].status == USER_CORRUPT;
    }
    const char *whom = job->request.several ? "none of the users could" : "the user could not";
    if (unavailable)
        return err_set(err, ERR_UNAVAILABLE, "%s be read: the store does not answer", whom);
    if (corrupt)
        return err_set(err, ERR_CORRUPT, "%s be read: the stored matrix is damaged", whom);
    return err_set(err, ERR_NOT_FOUND, "%s is in generation %s",
        job->request.several ? "none of the users" : "no such user", job->generation->name);
}

static void rank_users(struct pool_task *task, struct worker *worker)
{
    static const enum user_status otherwise[] = {
        [MATRIX_NOT_FOUND] = USER_NOT_FOUND,
        [MATRIX_CORRUPT] = USER_CORRUPT,
        [MATRIX_UNAVAILABLE] = USER_UNAVAILABLE,
    };
    struct rank_job *job = rank_job_of(task);
    struct rank_result *result = &job->result;
    const struct gather *gather = &job->gather;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < result->user_count; i++) {
        struct rank_user *user = &result->users[i];
        *user = (struct rank_user){.id = gather->ids[i], .status = USER_PRESENT, .matrix = gather->blocks[i]};
        if (gather->status[i] != MATRIX_HERE)
            stand_in(job, user, otherwise[gather->status[i]]);
        if (user->matrix)
            result->matrices[result->matrix_count++] = user->matrix;
    }
    rank_stage(job, STAGE_FETCH, job->since_ns);
    if (check_users(job, &err) < 0) {
        rank_fail(job, &err);
        rank_finish(job, worker);
        return;
    }
    rank_candidates(job, worker);
}

static void users_arrived(struct gather *gather)
{
    struct rank_job *job = POOL_OWNER(gather, struct rank_job, gather);
    pool_put(job->service->worker_pool, &job->task);
}

/* A user's matrix is copied: a request that waits for its candidates must not keep hot memory from being reused. */
static void find_users(struct rank_job *job, struct worker *worker)
{
    struct gather *gather = &job->gather;
    struct matrices *users = job->generation->users;
    const size_t count = job->request.user_count, bytes = matrices_bytes(users);
    job->result.user_count = count;
    job->result.users = arena_array(&job->arena, count, sizeof *job->result.users);
    job->result.matrices = arena_array(&job->arena, count, sizeof *job->result.matrices);
    if (!job->result.users || !job->result.matrices || !buffer_room(&job->user_blocks, count * bytes) ||
        !rank_gather_init(job, gather, users, count)) {
        rank_no_memory(job, "the users");
        rank_finish(job, worker);
        return;
    }
    gather->ids = job->request.users;
    gather->hashes = job->request.user_hashes;
    gather->count = count;
    gather->done = users_arrived;
    job->since_ns = clock_ns();
    hot_enter(matrices_hot(users), worker_slot(worker));
    gather_look(gather, worker_slot(worker));
    for (size_t i = 0; i < count; i++)
        if (gather->blocks[i])
            gather->blocks[i] = memcpy((char *)job->user_blocks.at + i * bytes, gather->blocks[i], bytes);
    hot_leave(matrices_hot(users), worker_slot(worker));
    job->task.run = rank_users;
    if (gather->missed_count) {
        router_defer(worker, job->call);
        gather_fetch(gather);
        if (!gather_arrived(gather))
            return;
    }
    rank_users(&job->task, worker);
}

/* ---- the request ---- */

/* application/json, whatever its parameters: JSON is UTF-8, and the parser holds it to that. */
static bool is_json(const char *content_type)
{
    static const char type[] = "application/json";
    const size_t len = sizeof type - 1;
    return content_type && strncasecmp(content_type, type, len) == 0 &&
           (content_type[len] == '\0' || strchr("; \t", content_type[len]));
}

static int parse(struct rank_job *job, const struct http_request *request, struct err *err)
{
    const struct config *config = job->service->config;
    const struct rank_limits limits = {
        .candidates_max = (size_t)config->rank.candidates_max, .users_max = (size_t)config->rank.users_max};
    if (strcmp(request->method, "POST") == 0)
        return rank_request_parse_json(
            &job->request, &job->arena, &limits, request->body, request->body_len, err);
    return rank_request_parse_query(&job->request, &job->arena, &limits, request->query, err);
}

/* What is refused before anything is parsed; 0 if nothing. */
static unsigned refuse(const struct http_request *request, const char **message)
{
    const bool post = strcmp(request->method, "POST") == 0;
    if (post && !request->framed) {
        *message = "a Content-Length or a chunked body is expected";
        return 411;
    }
    if (post && !is_json(request->content_type)) {
        *message = "Content-Type: application/json is expected";
        return 415;
    }
    return 0;
}

/* What a loop does itself keeps its other connections waiting: no more than about a tenth of a millisecond of scoring,
 * which is 64 candidates in float32, 128 in bfloat16 and 256 in int8 with m 32, n 4 and d 512. */
enum { SHORT_BYTES = 4096, SHORT_CANDIDATES = 256 };
static const size_t SHORT_WORK =
    (size_t)32 * 64 * 16 * 1024; /* bytes of contents, once for each row of a user */

static bool is_short(const struct rank_job *job)
{
    const struct rank_request *request = &job->request;
    const struct live_generation *generation = job->generation;
    const size_t pairs = request->user_count * request->candidate_count;
    return !request->whole_catalogue && !request->explain && !request->titles &&
           request->candidate_count <= SHORT_CANDIDATES &&
           pairs * generation->manifest.m * scorer_content_bytes(generation->scorer) <= SHORT_WORK;
}

static void begin(struct rank_job *job, struct http_call *call, struct service *service)
{
    job->service = service;
    job->call = call;
    job->deadline_ns = overload_deadline_ns(service->config, call);
    job->generation = NULL;
    job->catalogue = NULL;
    job->result = (struct rank_result){0};
    job->gather = job->explained = (struct gather){0};
    job->details = NULL;
    job->err = (struct err)ERR_INIT;
    job->best_of = 0;
    atomic_store_explicit(&job->rescored, 0, memory_order_relaxed);
    for (size_t i = 0; i < STAGES; i++)
        atomic_store_explicit(&job->stage_ns[i], 0, memory_order_relaxed);
}

static void run_call(struct pool_task *task, struct worker *worker);

static void hand_over(struct http_call *call, struct worker *loop)
{
    if (overload_before_queue(loop, call)) {
        router_answer(loop, call);
        return;
    }
    router_defer(loop, call);
    call->task.run = run_call;
    pool_put(loop->service->worker_pool, &call->task);
}

static void run_call(struct pool_task *task, struct worker *worker)
{
    struct http_call *call = POOL_OWNER(task, struct http_call, task);
    struct err err = ERR_INIT;
    const char *message = "out of memory";
    if (!worker_is_loop(worker) && overload_after_queue(worker, call)) {
        router_answer(worker, call);
        return;
    }
    const unsigned status = refuse(&call->request, &message);
    struct rank_job *job = status ? NULL : rank_job_take(worker);
    if (!job) {
        http_fail(&call->response, &call->request, status ? status : 500, message);
        router_answer(worker, call);
        return;
    }
    begin(job, call, worker->service);
    const uint64_t start = clock_ns();
    const int code = parse(job, &call->request, &err);
    rank_stage(job, STAGE_PARSE, start);
    job->generation = code < 0 ? NULL : live_acquire(worker->service->live);
    job->result.generation = job->generation;
    if (code == 0 && !job->generation)
        err_set(&err, ERR_UNAVAILABLE, "no verified generation is in memory");
    if (err.code < 0) {
        rank_fail(job, &err);
        rank_finish(job, worker);
        return;
    }
    if (worker_is_loop(worker) && !is_short(job)) { /* reading it again costs less than moving the job */
        live_release(job->generation);
        rank_job_give(job, worker);
        hand_over(call, worker);
        return;
    }
    find_users(job, worker);
}

void rank_call(struct http_call *call, struct worker *loop)
{
    const struct http_request *request = &call->request;
    if (request->body_len <= SHORT_BYTES && (!request->query || strlen(request->query) <= SHORT_BYTES))
        run_call(&call->task, loop);
    else
        hand_over(call, loop);
}
