#include "batch/refresh.h"

#include "batch/encode_farm.h"
#include "batch/entry_id.h"
#include "batch/explain.h"
#include "batch/progress.h"
#include "batch/refresh_plan.h"
#include "batch/session_cache.h"
#include "batch/stop.h"
#include "batch/titles.h"
#include "store/store_work.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct run {
    struct workspace *workspace;
    const struct refresh_options *options;
    struct refresh_done *done;
    struct store *store;
    struct store_link *link;
    struct generation_writer *writer;
    struct fold_done folded;
    struct refresh_plan plan;
    bool some;      /* the plan is of some users alone */
    double flushed; /* progress_now() */
    struct news_text text;
};

/* ---- what is encoded goes to the writer ---- */

/* Inside a live generation nobody waits for a buffer to fill. */
static int flush_in_time(struct run *run, struct err *err)
{
    if (generation_mode(run->writer) != GENERATION_INSIDE || progress_now() < run->flushed + 1)
        return 0;
    run->flushed = progress_now();
    return generation_flush(run->writer, err);
}

static size_t allowed(const struct run *run)
{
    const struct tsv_limit *limit = &run->options->max_bad;
    return limit->rows + (run->plan.content_count + run->plan.user_count) * limit->per_million / 1000000;
}

/* A matrix that no reader would take is left out; what is stored of the same id stays, and if there is nothing, there will
 * be one less. */
static int leave_out(
    struct run *run, enum blob_kind kind, const struct store_id *id, const char *why, struct err *err)
{
    const struct model_config *c = &run->workspace->model->config;
    const bool user = kind == BLOB_USER;
    uint64_t inputs = 0;
    progress_say(
        false, "%s %.*s is left as it was: %s", user ? "user" : "content", (int)id->len, id->id, why);
    int result =
        generation_inputs(run->writer, kind, id, 1, user ? model_m(c) : model_n(c), c->d_model, &inputs, err);
    if (result == 0 && !inputs)
        --*(user ? &run->plan.all_users : &run->plan.all_contents);
    if (result == 0 && !user) { /* the title stays with the matrix */
        const ptrdiff_t index = id_map_find(&run->workspace->news.ids, id->id, id->len);
        if (index >= 0)
            run->plan.title_changed[index] = false;
    }
    if (result == 0 && ++run->done->refused > allowed(run))
        result = err_set(err, ERR_INVALID,
            "%zu matrices are not fit to be stored, more than --max-bad allows", run->done->refused);
    return result;
}

static int refused(
    struct run *run, enum blob_kind kind, const char *id, size_t len, int result, struct err *err)
{
    struct err why = *err;
    return result == -ERR_INVALID ? leave_out(run, kind, &(struct store_id){id, len}, why.message, err)
                                  : result;
}

static int refused_elsewhere(
    void *ctx, enum blob_kind kind, const struct store_id *id, const char *why, struct err *err)
{
    return leave_out(ctx, kind, id, why, err);
}

static int put_title(struct run *run, size_t index, struct err *err)
{
    if (!run->plan.title_changed[index])
        return 0;
    run->plan.title_changed[index] = false;
    return titles_put(run->writer, &run->text, &run->workspace->news, index, err);
}

/* A matrix and the texts that belong to it, of which each may be NULL, in one flush. */
static int put_entry(struct run *run, enum blob_kind kind, const struct store_id *id, uint64_t inputs,
    const float *matrix, const char *summary, const char *why, struct err *err)
{
    const struct model_config *c = &run->workspace->model->config;
    const size_t rows = kind == BLOB_USER ? model_m(c) : model_n(c), d = c->d_model;
    const size_t bytes = blob_size(run->options->dtype, rows, d) + (summary ? strlen(summary) : 0) +
                         (why ? strlen(why) : 0) + 4 * (id->len + 2) + STORE_TITLE_MAX;
    int result = generation_together(run->writer, 4, bytes, err);
    if (result < 0)
        return result;
    result = generation_put_matrix(run->writer, kind, id->id, id->len, inputs, matrix, rows, d, err);
    if (result < 0)
        return refused(run, kind, id->id, id->len, result, err);
    if (summary)
        result = generation_put_summary(run->writer, id->id, id->len, summary, strlen(summary), err);
    if (result == 0 && why)
        result = generation_put_why(run->writer, kind, id->id, id->len, why, strlen(why), err);
    return result;
}

static int put_content(void *ctx, size_t index, uint64_t inputs, const float *b,
    const struct encode_weights *weights, struct err *err)
{
    struct run *run = ctx;
    const struct store_id id = entry_id(&run->workspace->news.ids, index);
    char *why = NULL;
    int result = weights ? explain_content(&why, run->workspace, weights, err) : 0;
    if (result == 0)
        result = put_entry(run, BLOB_CONTENT, &id, inputs, b, NULL, why, err);
    if (result == 0)
        result = put_title(run, index, err);
    free(why);
    return result < 0 ? result : flush_in_time(run, err);
}

static int put_user(void *ctx, size_t index, uint64_t inputs, const float *a, const struct encode_user *user,
    const struct encode_weights *weights, struct err *err)
{
    struct run *run = ctx;
    const struct workspace *w = run->workspace;
    const struct store_id id = entry_id(&w->histories.users, index);
    char *text = NULL, *why = NULL;
    int result = tokenizer_decode(w->tokenizer, user->summary, user->summary_count, &text, err);
    if (result == 0 && weights)
        result = explain_user(&why, w, index, weights, err);
    if (result == 0)
        result = put_entry(run, BLOB_USER, &id, inputs, a, text, why, err);
    free(text);
    free(why);
    return result < 0 ? result : flush_in_time(run, err);
}

/* ---- the steps ---- */

static struct manifest manifest_of(const struct run *run)
{
    const struct workspace *w = run->workspace;
    const struct model_config *c = &w->model->config;
    struct manifest manifest = {.m = model_m(c),
        .n = model_n(c),
        .d = c->d_model,
        .dtype = run->options->dtype,
        .settings = workspace_settings(w),
        .refreshed = time(NULL)};
    memcpy(manifest.model_sha256, w->model_sha256, sizeof manifest.model_sha256);
    return manifest;
}

static int begin(struct run *run, struct err *err)
{
    const struct manifest manifest = manifest_of(run);
    struct refresh_done *done = run->done;
    int result = store_connect(&run->link, run->store, err);
    if (result == 0 && run->options->workers) { /* rather now than with a generation begun */
        struct store_work_state state;
        result = store_work_look(run->link, "", &state, err);
        result = result == -ERR_NOT_FOUND ? 0 : result;
    }
    if (result == 0)
        result = generation_resume(&run->writer, run->store, &manifest,
            run->options->full         ? GENERATION_ANEW
            : run->options->no_promote ? GENERATION_APART
                                       : GENERATION_ANY,
            err);
    if (result == 0) /* what one that was killed has left to its workers */
        result = store_work_close(run->link, NULL, err);
    if (result < 0)
        return result;
    strcpy(done->generation, generation_name(run->writer));
    done->inside = generation_mode(run->writer) == GENERATION_INSIDE;
    done->state = !done->inside                                                   ? "building"
                  : strcmp(done->generation, generation_beside(run->writer)) == 0 ? "live"
                                                                                  : "ready";
    static const char *const how[] = {"is new", "goes on", "is refreshed"};
    progress_say(
        run->options->quiet, "generation %s %s", done->generation, how[generation_mode(run->writer)]);
    return 0;
}

/* Inside a generation what is stored goes; a new one may be smaller than what it is to replace. */
static int check_counts(struct run *run, struct err *err)
{
    const struct refresh_plan *plan = &run->plan;
    const struct gate_limits *limits = &run->options->limits;
    const char *live = generation_beside(run->writer);
    size_t users = plan->stored_users, users_gone = plan->gone_users.count;
    size_t contents = plan->stored_contents, contents_gone = plan->gone_contents.count;
    struct manifest before;
    if (!run->done->inside && *live && manifest_get(&before, run->link, live, NULL) == 0) {
        users = before.users;
        users_gone = users > plan->all_users ? users - plan->all_users : 0;
        contents = before.contents;
        contents_gone = contents > plan->all_contents ? contents - plan->all_contents : 0;
    }
    int result = gate_shrink(limits, "users", users, users_gone, err);
    if (result == 0)
        result = gate_shrink(limits, "contents", contents, contents_gone, err);
    return result;
}

static int expect(struct run *run, struct err *err)
{
    const struct refresh_plan *plan = &run->plan;
    const struct generation_turnover turnover = {.users = plan->all_users,
        .users_gone = plan->gone_users.count,
        .contents = plan->all_contents,
        .contents_gone = plan->gone_contents.count,
        .uncounted = run->some};
    run->done->users = plan->all_users;
    run->done->contents = plan->all_contents;
    return generation_expect(run->writer, &turnover, err);
}

static int put_small(struct run *run, struct err *err)
{
    const struct workspace *w = run->workspace;
    const size_t d = w->model->config.d_model;
    int result = 0;
    if (!run->done->inside)
        result = generation_put_matrix(
            run->writer, BLOB_SCORE_PROJ, "", 0, workspace_settings(w), w->model->score_proj, d, d, err);
    if (result == 0)
        result =
            categories_put(&run->plan.categories, &w->news.ids, run->plan.category_changed, run->writer, err);
    return result;
}

/* NULL where there is none, or where it cannot be used: what it saves is time. */
static struct session_cache *open_cache(const struct run *run)
{
    const struct refresh_options *options = run->options;
    const struct model_config *c = &run->workspace->model->config;
    const struct session_cache_options cache = {options->cache, options->cache_bytes,
        run->workspace->model_hash,
        c->d_model * (run->workspace->dtype == LINEAR_F32 ? sizeof(float) : sizeof(uint16_t)), c->sos_id,
        model_session_size(c)};
    struct session_cache *opened = NULL;
    struct err err = ERR_INIT;
    if (options->cache && run->plan.user_count && session_cache_open(&opened, &cache, &err) < 0)
        progress_say(false, "without the cache of sessions: %s", err.message);
    return opened;
}

static int encode_here(
    struct encode_done *encoded, struct run *run, struct encode_request *request, struct err *err)
{
    struct session_cache *cache = open_cache(run);
    const struct encode_cache hooks = {session_cache_get, session_cache_put, cache};
    const struct encode_sink sink = {put_content, put_user, run};
    request->cache = cache ? &hooks : NULL;
    const int result = encode_job(encoded, run->workspace, &sink, request, err);
    session_cache_close(cache);
    return result;
}

static int encode(struct run *run, struct err *err)
{
    struct encode_request request = {.contents = run->plan.contents,
        .content_count = run->plan.content_count,
        .users = run->plan.users,
        .user_count = run->plan.user_count,
        .threads = run->options->threads,
        .until = run->options->until,
        .quiet = run->options->quiet,
        .weights = run->workspace->explain};
    const struct farm farm = {
        &request, run->writer, run->options->dtype, run->options->silent_ms, refused_elsewhere, run};
    struct encode_done encoded;
    const int result = run->options->workers ? encode_farm(&encoded, run->workspace, run->link, &farm, err)
                                             : encode_here(&encoded, run, &request, err);
    run->done->encoded_contents = encoded.contents;
    run->done->encoded_users = encoded.users;
    run->done->tokens = encoded.tokens;
    run->done->complete = result == 0 && encoded.in_time;
    return result;
}

/* What has not come with its matrix: workers' contents, and those whose title alone is new. */
static int put_titles(struct run *run, struct err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && run->plan.title_changed && i < run->workspace->news.ids.count; i++)
        result = put_title(run, i, err);
    return result;
}

static int delete_ids(struct run *run, enum store_kind kind, const struct id_map *gone, struct err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < gone->count; i++)
        result = generation_delete(run->writer, kind, id_map_get(gone, i), gone->length[i], err);
    return result;
}

static int delete_gone(struct run *run, struct err *err)
{
    const struct refresh_plan *plan = &run->plan;
    int result = delete_ids(run, STORE_CATEGORY, &plan->gone_categories, err);
    if (result == 0)
        result = delete_ids(run, STORE_CONTENT, &plan->gone_contents, err);
    if (result == 0)
        result = delete_ids(run, STORE_USER, &plan->gone_users, err);
    if (result == 0)
        result = delete_ids(run, STORE_WHY, &plan->gone_whys, err);
    if (result == 0)
        result = histories_delete(&run->folded.gone, run->link, err);
    if (result == 0) {
        run->done->deleted_users = plan->gone_users.count;
        run->done->deleted_contents = plan->gone_contents.count;
    }
    return result;
}

/* Inside a generation its own model made every matrix; what is new is compared with what is live. */
static int pass_gate(struct run *run, struct err *err)
{
    struct gate_profile before, after;
    const char *live = generation_beside(run->writer);
    if (run->done->inside)
        return 0;
    const int measured = *live ? gate_measure(&before, run->link, live, err) : -ERR_NOT_FOUND;
    if (measured < 0 && measured != -ERR_NOT_FOUND && measured != -ERR_CORRUPT)
        return measured; /* a generation that is damaged is all the more to be replaced */
    int result = gate_measure(&after, run->link, run->done->generation, err);
    if (result == 0)
        result = gate_compare(&run->options->limits, measured == 0 ? &before : NULL, &after, err);
    return result;
}

static int finish(struct run *run, struct err *err)
{
    struct manifest manifest = manifest_of(run);
    int result = generation_finish(run->writer, &manifest, err);
    if (result < 0)
        return result;
    result = pass_gate(run, err);
    if (result < 0)
        return err_place(err, "generation %s is not made live: ", run->done->generation);
    result =
        run->options->no_promote ? generation_keep(run->writer, err) : generation_publish(run->writer, err);
    if (result == 0)
        run->done->state = run->options->no_promote ? "ready" : "live";
    return result;
}

/* What the clicks make of the histories, and then what there is to do. */
static int plan(struct run *run, struct err *err)
{
    const struct refresh_options *options = run->options;
    struct workspace *w = run->workspace;
    const struct manifest *stored = generation_manifest(run->writer);
    /* Where a new generation is to be filled, or an unfinished run has left it open how many there are, some do not do. */
    run->some = options->source == FOLD_CLICKS && run->done->inside && stored->users == stored->users_least &&
                stored->contents == stored->contents_least;
    const struct fold_options fold = {
        options->source == FOLD_CLICKS && !run->some ? FOLD_STORE : options->source, options->touched,
        options->forget};
    const struct histories_ids ids = histories_ids(&w->histories);
    if (options->forget && id_map_find(&w->histories.users, options->forget, strlen(options->forget)) >= 0)
        return err_set(err, ERR_INVALID,
            "user %s is in the behaviours file, which would bring the history back", options->forget);
    int result =
        gate_coverage(&options->limits, ids.all, ids.missing, err); /* of a file; before it is taken in */
    if (result == 0)
        result = histories_fold(&run->folded, &w->histories, &w->news, &fold, run->link, err);
    run->done->clicks = run->folded.clicks;
    run->done->malformed_clicks = run->folded.malformed;
    if (result == 0 && run->some)
        result = refresh_plan_users(&run->plan, w, &run->folded.users, run->writer, err);
    else if (result == 0)
        result = refresh_plan_make(&run->plan, w, run->writer, run->link, options->quiet, err);
    return result;
}

static int work(struct run *run, struct err *err)
{
    int result = plan(run, err);
    if (result < 0)
        return result;
    if (!run->some)
        result = check_counts(run, err);
    if (result == 0)
        result = expect(run, err);
    if (result == 0)
        result = put_small(run, err);
    if (result == 0)
        result = encode(run, err);
    if (result == 0 && run->done->refused)
        result = expect(run, err);
    if (result == 0 && run->done->complete)
        result = put_titles(run, err);
    if (result == 0 && run->done->complete)
        result = delete_gone(run, err);
    if (result == 0 && run->done->complete)
        result = finish(run, err);
    else if (generation_flush(run->writer, result == 0 ? err : NULL) < 0 && result == 0)
        result = err->code; /* what was encoded before the end came is kept */
    refresh_plan_done(&run->plan);
    return result;
}

int refresh_run(struct refresh_done *done, struct workspace *workspace, struct store *store,
    const struct refresh_options *options, struct err *err)
{
    struct run run = {.workspace = workspace, .options = options, .done = done, .store = store};
    const double start = progress_now();
    *done = (struct refresh_done){.state = ""};
    int result = begin(&run, err);
    if (result == 0)
        result = work(&run, err);
    fold_done_free(&run.folded);
    news_text_done(&run.text);
    generation_end(run.writer);
    store_disconnect(run.link);
    done->complete = done->complete && result == 0;
    done->seconds = progress_now() - start;
    /* What there is serves already: what is left behind is no failure of this run, but is told. */
    struct err why = ERR_INIT;
    if (done->complete && !options->no_promote && !done->inside &&
        generation_prune(store, (size_t)options->keep, &why) < 0)
        progress_say(false, "old generations were not removed: %s", why.message);
    return result;
}
