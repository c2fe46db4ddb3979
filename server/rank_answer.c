#include "server/rank_answer.h"

#include "core/score.h"
#include "server/worker.h"

/* ---- explanations ---- */

/* Where the numbers of an explanation are kept; one set for all items of an answer. */
struct explainer {
    size_t m, n, d;
    double *weights, *similarities; /* m x n */
    struct store_id *ids;           /* of a chunk of hits */
    const float **blocks;           /* of the same; NULL: gone meanwhile */
    struct top_hit pairs[RANK_EXPLAIN_PAIRS];
};

static int explainer_init(
    struct explainer *explainer, struct worker *worker, const struct rank_result *result, struct err *err)
{
    const struct manifest *manifest = &result->generation->manifest;
    size_t items = 0;
    for (size_t u = 0; u < result->user_count; u++)
        items += result->tops[u].count;
    if (items > RANK_EXPLAIN_MAX)
        return err_set(err, ERR_INVALID,
            "explain: %zu items would have to be explained; at most %d are allowed, lower top_k", items,
            RANK_EXPLAIN_MAX);
    *explainer = (struct explainer){.m = manifest->m, .n = manifest->n, .d = manifest->d};
    struct arena *arena = &worker->arena;
    explainer->weights = arena_array(arena, manifest->m * manifest->n, sizeof(double));
    explainer->similarities = arena_array(arena, manifest->m * manifest->n, sizeof(double));
    explainer->ids = arena_array(arena, items, sizeof *explainer->ids);
    explainer->blocks = arena_array(arena, items, sizeof *explainer->blocks);
    if (!explainer->weights || !explainer->similarities || !explainer->ids || !explainer->blocks)
        return err_set(err, ERR_NOMEM, "no memory for the explanations");
    return 0;
}

/* The blocks of count hits, at most contents_chunk() of them, into explainer->blocks. */
static int find_blocks(struct explainer *explainer, struct worker *worker, const struct rank_result *result,
    const struct top_hit *hits, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        explainer->ids[i] = result->candidates[hits[i].index];
        explainer->blocks[i] = NULL;
    }
    const int code = contents_gather(worker, result->generation, explainer->ids, count, false, err);
    const struct contents *contents = &worker->contents;
    for (size_t i = 0; code == 0 && i < contents->count; i++)
        explainer->blocks[contents->index[i]] = contents->blocks + i * 2 * explainer->n * explainer->d;
    return code;
}

static void write_matrix(struct writer *w, const char *key, const double *values, size_t m, size_t n)
{
    writer_key(w, key);
    writer_open(w, '[');
    for (size_t i = 0; i < m; i++) {
        writer_open(w, '[');
        for (size_t j = 0; j < n; j++)
            writer_float(w, (float)values[i * n + j]);
        writer_close(w, ']');
    }
    writer_close(w, ']');
}

static void write_explanation(
    struct writer *w, struct explainer *explainer, const float *matrix, const float *block)
{
    const size_t m = explainer->m, n = explainer->n, d = explainer->d;
    score_plain(explainer->weights, explainer->similarities, matrix, block, block + n * d, m, n, d);
    write_matrix(w, "weights", explainer->weights, m, n);
    write_matrix(w, "similarities", explainer->similarities, m, n);
    const size_t k = m * n < RANK_EXPLAIN_PAIRS ? m * n : RANK_EXPLAIN_PAIRS;
    struct top top = {.hits = explainer->pairs, .k = k};
    for (size_t i = 0; i < m * n; i++)
        top_add(&top, (float)explainer->weights[i], (uint32_t)i);
    top_sort(&top);
    writer_key(w, "top_pairs");
    writer_open(w, '[');
    for (size_t i = 0; i < top.count; i++) {
        const size_t pair = top.hits[i].index;
        writer_open(w, '{');
        writer_key(w, "user_code");
        writer_uint(w, pair / n);
        writer_key(w, "content_code");
        writer_uint(w, pair % n);
        writer_key(w, "weight");
        writer_float(w, top.hits[i].score);
        writer_key(w, "similarity");
        writer_float(w, (float)explainer->similarities[pair]);
        writer_close(w, '}');
    }
    writer_close(w, ']');
}

/* ---- the answer ---- */

static void write_hit(struct writer *w, const struct rank_result *result, const struct top_hit *hit)
{
    const struct store_id *id = &result->candidates[hit->index];
    writer_key(w, "id");
    writer_string(w, id->id, id->len);
    writer_key(w, "score");
    writer_float(w, hit->score);
}

static int write_ranking(struct writer *w, struct worker *worker, struct explainer *explainer,
    const struct rank_result *result, size_t u, struct err *err)
{
    const struct top *top = &result->tops[u];
    const size_t chunk = contents_chunk(result->generation);
    writer_key(w, "ranking");
    writer_open(w, '[');
    for (size_t i = 0; i < top->count; i++) {
        if (explainer && i % chunk == 0) {
            const size_t left = top->count - i, count = left < chunk ? left : chunk;
            const int code = find_blocks(explainer, worker, result, top->hits + i, count, err);
            if (code < 0)
                return code;
        }
        writer_open(w, '{');
        write_hit(w, result, &top->hits[i]);
        if (explainer && explainer->blocks[i % chunk])
            write_explanation(w, explainer, result->users[u].matrix, explainer->blocks[i % chunk]);
        writer_close(w, '}');
    }
    writer_close(w, ']');
    return 0;
}

static void write_missing(
    struct writer *w, const struct rank_request *request, const struct rank_result *result)
{
    static const char *const reasons[METRICS_MISSING] = {
        [METRICS_NOT_FOUND] = "not_found",
        [METRICS_CORRUPT] = "corrupt",
        [METRICS_UNAVAILABLE] = "unavailable",
    };
    writer_key(w, "missing");
    writer_open(w, '[');
    for (size_t i = 0; i < result->missing_listed; i++) {
        const struct store_id *id = &result->candidates[result->missing[i].index];
        writer_open(w, '{');
        writer_key(w, "id");
        writer_string(w, id->id, id->len);
        writer_key(w, "reason");
        writer_text(w, reasons[result->missing[i].reason]);
        writer_close(w, '}');
    }
    writer_close(w, ']');
    if (request->whole_catalogue) {
        writer_key(w, "missing_count");
        writer_uint(w, result->missing_count);
    }
}

/* "degraded" is there only if something is. */
static void write_degraded(struct writer *w, bool store_failed, bool user_corrupt)
{
    if (!store_failed && !user_corrupt)
        return;
    writer_key(w, "degraded");
    writer_open(w, '[');
    if (store_failed)
        writer_text(w, "store_unavailable");
    if (user_corrupt)
        writer_text(w, "user_corrupt");
    writer_close(w, ']');
}

static void write_user(struct writer *w, const struct user *user)
{
    writer_key(w, "user");
    writer_string(w, user->id.id, user->id.len);
}

static void write_status(struct writer *w, const struct user *user)
{
    writer_key(w, "user_status");
    writer_text(w, user_status_name(user->status));
}

static int write_results(struct writer *w, struct worker *worker, struct explainer *explainer,
    const struct rank_result *result, struct err *err)
{
    writer_key(w, "results");
    writer_open(w, '[');
    for (size_t u = 0; u < result->user_count; u++) {
        const struct user *user = &result->users[u];
        writer_open(w, '{');
        write_user(w, user);
        write_status(w, user);
        write_degraded(w, user->status == USER_UNAVAILABLE, user->corrupt);
        const int code = write_ranking(w, worker, explainer, result, u, err);
        if (code < 0)
            return code;
        writer_close(w, '}');
    }
    writer_close(w, ']');
    return 0;
}

int rank_answer_write(struct writer *w, struct worker *worker, const struct rank_request *request,
    const struct rank_result *result, struct err *err)
{
    struct explainer explainer;
    int code = request->explain ? explainer_init(&explainer, worker, result, err) : 0;
    if (code < 0)
        return code;
    struct explainer *use = request->explain ? &explainer : NULL;
    writer_open(w, '{');
    if (!request->several)
        write_user(w, &result->users[0]);
    writer_key(w, "generation");
    writer_text(w, result->generation->name);
    if (request->several) {
        write_degraded(w, result->store_failed, false);
        code = write_results(w, worker, use, result, err);
    } else {
        write_status(w, &result->users[0]);
        write_degraded(w, result->store_failed, result->users[0].corrupt);
        code = write_ranking(w, worker, use, result, 0, err);
    }
    write_missing(w, request, result);
    writer_close(w, '}');
    return code;
}
