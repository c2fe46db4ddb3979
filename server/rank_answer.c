#include "server/rank_answer.h"

#include "core/score.h"
#include "server/arena.h"
#include "server/details.h"
#include "server/live.h"

/* ---- titles ---- */

/* Of candidate c among the details. */
static size_t detail_of(const struct rank_result *result, uint32_t c)
{
    size_t low = 0, high = result->detailed_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (result->detailed[middle] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void write_title(struct writer *w, struct store_id title)
{
    if (!title.len)
        return;
    writer_key(w, "title");
    writer_string(w, title.id, title.len);
}

static void write_titled(
    struct writer *w, const struct rank_result *result, const struct store_id *id, const struct top_hit *hit)
{
    writer_open(w, '{');
    writer_key(w, "id");
    writer_string(w, id->id, id->len);
    writer_key(w, "score");
    writer_float(w, hit->score);
    write_title(w, details_title(result->details, detail_of(result, hit->index)));
    writer_close(w, '}');
}

/* ---- explanations ---- */

/* Where the numbers of an explanation are kept; one set for all items of an answer. */
struct explainer {
    const struct scorer *scorer;
    size_t m, n, d;
    float *a, *b, *gate;            /* m x d, n x d, n x d: the numbers that were scored */
    double *weights, *similarities; /* m x n */
    const void *const *blocks;      /* of the next hit */
    const struct details *details;
    const struct why *user, *content; /* of the pair in hand */
    struct top_hit pairs[RANK_EXPLAIN_PAIRS];
};

static int explainer_init(
    struct explainer *explainer, struct arena *arena, const struct rank_result *result, struct err *err)
{
    const struct manifest *manifest = &result->generation->manifest;
    const size_t m = manifest->m, n = manifest->n, d = manifest->d;
    *explainer = (struct explainer){
        .scorer = result->generation->scorer,
        .m = m,
        .n = n,
        .d = d,
        .a = arena_array(arena, m, d * sizeof(float)),
        .b = arena_array(arena, n, d * sizeof(float)),
        .gate = arena_array(arena, n, d * sizeof(float)),
        .weights = arena_array(arena, m, n * sizeof(double)),
        .similarities = arena_array(arena, m, n * sizeof(double)),
        .blocks = result->explained,
        .details = result->details,
    };
    if (!explainer->a || !explainer->b || !explainer->gate || !explainer->weights || !explainer->similarities)
        return err_set(err, ERR_NOMEM, "no memory for the explanations");
    return 0;
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

/* The rows of Z that a code of the user looks at; "" is the summary's state. */
static void write_items(struct writer *w, const struct explainer *explainer, size_t code)
{
    const struct why *why = explainer->user;
    if (why->code_count != explainer->m)
        return;
    writer_key(w, "items");
    writer_open(w, '[');
    for (size_t i = why->first[code]; i < why->first[code + 1]; i++) {
        const struct why_look *look = &why->looks[i];
        writer_open(w, '{');
        writer_key(w, "id");
        writer_string(w, look->name, look->len);
        write_title(w, details_item_title(explainer->details, look->name, look->len));
        writer_key(w, "weight");
        writer_float(w, look->weight);
        writer_close(w, '}');
    }
    writer_close(w, ']');
}

static void write_tokens(struct writer *w, const struct explainer *explainer, size_t code)
{
    const struct why *why = explainer->content;
    if (why->code_count != explainer->n)
        return;
    writer_key(w, "tokens");
    writer_open(w, '[');
    for (size_t i = why->first[code]; i < why->first[code + 1]; i++) {
        writer_open(w, '{');
        writer_key(w, "text");
        writer_string(w, why->looks[i].name, why->looks[i].len);
        writer_key(w, "weight");
        writer_float(w, why->looks[i].weight);
        writer_close(w, '}');
    }
    writer_close(w, ']');
}

static void write_explanation(struct writer *w, struct explainer *explainer, const void *block)
{
    const size_t m = explainer->m, n = explainer->n, d = explainer->d;
    scorer_unpack_content(explainer->scorer, explainer->b, explainer->gate, block);
    score_plain(
        explainer->weights, explainer->similarities, explainer->a, explainer->b, explainer->gate, m, n, d);
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
        write_items(w, explainer, pair / n);
        write_tokens(w, explainer, pair % n);
        writer_close(w, '}');
    }
    writer_close(w, ']');
}

/* ---- the answer ---- */

static void write_explained(struct writer *w, struct explainer *explainer, const struct rank_result *result,
    const struct store_id *id, const struct top_hit *hit)
{
    const void *block = *explainer->blocks++;
    const size_t detail = detail_of(result, hit->index);
    explainer->content = details_content_why(result->details, detail);
    writer_open(w, '{');
    writer_key(w, "id");
    writer_string(w, id->id, id->len);
    writer_key(w, "score");
    writer_float(w, hit->score);
    write_title(w, details_title(result->details, detail));
    if (block)
        write_explanation(w, explainer, block);
    writer_close(w, '}');
}

static void write_ranking(
    struct writer *w, struct explainer *explainer, const struct rank_result *result, size_t u)
{
    const struct top *top = &result->tops[u];
    if (explainer)
        explainer->user = details_user_why(result->details, u);
    if (explainer && result->users[u].matrix)
        scorer_unpack_user(explainer->scorer, explainer->a, result->users[u].matrix);
    writer_key(w, "ranking");
    writer_open(w, '[');
    for (size_t i = 0; i < top->count; i++) {
        const struct store_id *id = &result->candidates[top->hits[i].index];
        if (explainer)
            write_explained(w, explainer, result, id, &top->hits[i]);
        else if (result->details)
            write_titled(w, result, id, &top->hits[i]);
        else
            writer_hit(w, id->id, id->len, top->hits[i].score);
    }
    writer_close(w, ']');
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

static void write_user(struct writer *w, const struct rank_user *user)
{
    writer_key(w, "user");
    writer_string(w, user->id.id, user->id.len);
}

const char *rank_user_status_name(enum user_status status)
{
    static const char *const names[] = {
        [USER_PRESENT] = "present",
        [USER_DEFAULT] = "default",
        [USER_NOT_FOUND] = "not_found",
        [USER_CORRUPT] = "corrupt",
        [USER_UNAVAILABLE] = "unavailable",
    };
    return names[status];
}

static void write_status(struct writer *w, const struct rank_user *user)
{
    writer_key(w, "user_status");
    writer_text(w, rank_user_status_name(user->status));
}

static void write_results(struct writer *w, struct explainer *explainer, const struct rank_result *result)
{
    writer_key(w, "results");
    writer_open(w, '[');
    for (size_t u = 0; u < result->user_count; u++) {
        const struct rank_user *user = &result->users[u];
        writer_open(w, '{');
        write_user(w, user);
        write_status(w, user);
        write_degraded(w, user->status == USER_UNAVAILABLE, user->corrupt);
        write_ranking(w, explainer, result, u);
        writer_close(w, '}');
    }
    writer_close(w, ']');
}

int rank_answer_write(struct writer *w, struct arena *arena, const struct rank_request *request,
    const struct rank_result *result, struct err *err)
{
    struct explainer explainer, *use = NULL;
    if (request->explain) {
        const int code = explainer_init(&explainer, arena, result, err);
        if (code < 0)
            return code;
        use = &explainer;
    }
    writer_open(w, '{');
    if (!request->several)
        write_user(w, &result->users[0]);
    writer_key(w, "generation");
    writer_text(w, result->generation->name);
    if (request->several) {
        write_degraded(w, result->store_failed, false);
        write_results(w, use, result);
    } else {
        write_status(w, &result->users[0]);
        write_degraded(w, result->store_failed, result->users[0].corrupt);
        write_ranking(w, use, result, 0);
    }
    write_missing(w, request, result);
    writer_close(w, '}');
    return 0;
}
