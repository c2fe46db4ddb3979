#include "batch/encode_farm.h"

#include "batch/entry_id.h"
#include "batch/farm_job.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/unit.h"
#include "core/array.h"
#include "store/store_work.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    CONTENT_TOKENS = 8192, /* of a unit of contents */
    USER_TOKENS = 32768,   /* of a unit of users, which are one batch: the decoder wants large ones */
    USER_MOST = 64,
    USER_LEAST = 8,    /* where fewer are left: the last units are small, so that workers end together */
    SHARES = 8,        /* of what is left that a unit is */
    UNTAKEN_MOST = 64, /* units in the queue that nobody has taken: what all workers begin in one POLL_MS */
    POLL_MS = 50,
    PATIENCE_S = 60, /* with a store that does not answer */
    TELL_S = 10,
    NOBODY_S = 20
};

struct waiting {
    size_t count; /* of its entities; 0: it has its result */
    bool users;
};

struct run {
    const struct workspace *workspace;
    const struct farm *farm;
    struct store_link *link;
    struct encode_done *done;
    uint64_t job;
    char *text;            /* of the job */
    struct waiting *units; /* by their numbers */
    size_t unit_count, unit_size, waiting, untaken;
    size_t contents, users; /* that are in units: places in the request's lists */
    struct unit_bytes bytes;
    struct encode_item *items; /* of the entity that is being put */
    int32_t *tokens;
    size_t item_size, token_size, token_count;
    struct workspace_scratch scratch;
    struct progress progress;
    double heard, told, failed; /* progress_now(): last result, last word about it, first failure; 0: none */
    struct err *err;
};

/* ---- units ---- */

/* run->items and run->tokens = those of an item, or of those that a user is made of. */
static int gather_items(struct run *run, const uint32_t *items, size_t count, struct err *err)
{
    const size_t most = text_item_max(&run->workspace->model->config);
    int result = array_grow(&run->items, &run->item_size, count + 1, sizeof *run->items, err);
    if (result == 0)
        result = array_grow(&run->tokens, &run->token_size, (count + 1) * most, sizeof *run->tokens, err);
    run->token_count = 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct encode_item *const item = &run->items[i];
        item->ids = run->tokens + run->token_count;
        result = workspace_tokens(
            run->workspace, items[i], run->tokens + run->token_count, &item->count, &run->scratch, err);
        if (result == 0)
            run->token_count += item->count;
    }
    return result;
}

static int gather(struct run *run, struct unit_entity *entity, bool users, uint32_t index, struct err *err)
{
    const struct workspace *w = run->workspace;
    const struct id_map *ids = users ? &w->histories.users : &w->news.ids;
    size_t count = 1;
    const uint32_t *items = users ? workspace_window(w, index, &count) : &index;
    const int result = gather_items(run, items, count, err);
    *entity = (struct unit_entity){.id = entry_id(ids, index),
        .inputs = users ? workspace_user_inputs(w, index) : workspace_content_inputs(w, index),
        .items = run->items,
        .item_count = count};
    return result;
}

static struct unit_head head_of(const struct run *run, bool users)
{
    const struct model_config *c = &run->workspace->model->config;
    struct unit_head head = {.kind = users ? BLOB_USER : BLOB_CONTENT,
        .dtype = run->farm->dtype,
        .told = generation_mode(run->farm->writer) == GENERATION_INSIDE,
        .wide = c->vocab_size > UINT16_MAX,
        .job = run->job,
        .settings = run->workspace->model_hash,
        .number = (uint32_t)run->unit_count,
        .rows = users ? model_m(c) : model_n(c),
        .cols = c->d_model};
    strcpy(head.generation, generation_name(run->farm->writer));
    return head;
}

static uint32_t index_at(const uint32_t *list, size_t place)
{
    return list ? list[place] : (uint32_t)place;
}

/* Put the next entries whose tokens fit a unit, at least one, into run->bytes; *next moves behind them. */
static int fill(struct run *run, bool users, size_t *next, struct err *err)
{
    const struct encode_request *request = run->farm->request;
    const uint32_t *list = users ? request->users : request->contents;
    const size_t total = users ? request->user_count : request->content_count,
                 budget = users ? USER_TOKENS : CONTENT_TOKENS, first = *next,
                 share = (total - first) / SHARES,
                 most = !users               ? SIZE_MAX
                        : share > USER_MOST  ? USER_MOST
                        : share < USER_LEAST ? USER_LEAST
                                             : share;
    const struct unit_head head = head_of(run, users);
    size_t tokens = 0;
    int result = unit_begin(&run->bytes, &head, err);
    while (result == 0 && *next < total && *next - first < most) {
        struct unit_entity entity;
        result = gather(run, &entity, users, index_at(list, *next), err);
        tokens += run->token_count;
        if (result < 0 || (tokens > budget && *next > first))
            break;
        result = unit_put(&run->bytes, &entity, err);
        ++*next;
    }
    unit_seal(&run->bytes);
    return result;
}

/* A unit that may or may not have been added is added again: it is counted by its number. */
static int add_unit(struct run *run, struct err *err)
{
    const bool users = run->contents == run->farm->request->content_count;
    size_t *const place = users ? &run->users : &run->contents;
    size_t next = *place;
    int result = fill(run, users, &next, err);
    if (result == 0)
        result = array_grow(&run->units, &run->unit_size, run->unit_count + 1, sizeof *run->units, err);
    if (result == 0)
        result = store_work_add(run->link, run->text, run->bytes.at, run->bytes.used, err);
    if (result < 0)
        return result;
    run->units[run->unit_count++] = (struct waiting){next - *place, users};
    run->waiting++;
    run->untaken++;
    *place = next;
    return 0;
}

static bool all_added(const struct run *run)
{
    return run->contents == run->farm->request->content_count && run->users == run->farm->request->user_count;
}

/* ---- results ---- */

static int count_result(struct run *run, const struct unit_result *result)
{
    struct waiting *const unit = &run->units[result->number];
    const enum blob_kind kind = unit->users ? BLOB_USER : BLOB_CONTENT;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < result->refused_count; i++)
        rc = run->farm->refused(
            run->farm->ctx, kind, &result->refused[i].id, result->refused[i].why, run->err);
    *(unit->users ? &run->done->users : &run->done->contents) += unit->count;
    run->done->tokens += result->tokens;
    progress_add(&run->progress, unit->count);
    unit->count = 0;
    run->waiting--;
    run->heard = progress_now();
    return rc;
}

/* Each unit counts once. What is of another job, or no result at all, is nobody's. */
static int take_result(void *ctx, const void *data, size_t len)
{
    struct run *const run = ctx;
    struct unit_result result;
    int rc = unit_result_read(&result, data, len, run->err);
    if (rc < 0)
        return rc == -ERR_CORRUPT ? 0 : rc;
    if (result.job == run->job && result.number < run->unit_count && run->units[result.number].count)
        rc = count_result(run, &result);
    unit_result_done(&result);
    return rc;
}

/* Now and then while nothing comes: is anybody there, and is everything there? */
static int look(struct run *run, struct err *err)
{
    const double now = progress_now();
    struct store_work_state state;
    if (now < run->heard + TELL_S || now < run->told + TELL_S)
        return 0;
    run->told = now;
    int result = store_work_look(run->link, run->text, &state, err);
    const size_t before = run->waiting;
    if (result == 0)
        result = store_work_results(run->link, run->text, &run->untaken, take_result, run, err);
    if (result < 0 || run->waiting < before)
        return result;
    if (state.units < run->waiting)
        return err_set(err, ERR_NOT_FOUND, "the store has lost units of work; the next refresh goes on");
    if (now >= run->heard + NOBODY_S && (state.idle_ms < 0 || state.idle_ms >= 1000 * NOBODY_S))
        progress_tell(&run->progress,
            "no worker has taken a unit for %.0f s: start `embsum worker --model ... --store ...`",
            now - run->heard);
    return 0;
}

/* ---- the job ---- */

static int step(struct run *run, struct err *err)
{
    int result = generation_flush(run->farm->writer, err); /* another writer may have taken over */
    while (result == 0 && !all_added(run) && run->untaken < UNTAKEN_MOST)
        result = add_unit(run, err);
    const size_t before = run->waiting;
    if (result == 0)
        result = store_work_results(run->link, run->text, &run->untaken, take_result, run, err);
    if (result == 0)
        result = look(run, err);
    if (result == 0 && run->waiting == before)
        poll(NULL, 0, POLL_MS);
    return result;
}

/* A store that is away for a moment, because another node has become the master, say, is waited for. */
static int be_patient(struct run *run, int result)
{
    const double now = progress_now();
    if (result != -ERR_UNAVAILABLE) {
        run->failed = 0;
        return result;
    }
    if (!run->failed)
        run->failed = now;
    poll(NULL, 0, POLL_MS);
    return now < run->failed + PATIENCE_S ? 0 : result;
}

static int run_job(struct run *run, struct err *err)
{
    const double until = run->farm->request->until;
    int result = 0;
    while (result == 0 && (run->waiting || !all_added(run))) {
        if (stop_asked())
            return err_set(err, ERR_UNAVAILABLE, "stopped by a signal");
        run->done->in_time = until <= 0 || progress_now() < until;
        if (!run->done->in_time)
            return 0;
        result = be_patient(run, step(run, err));
    }
    return result;
}

static int open_queue(struct run *run, struct err *err)
{
    struct farm_job job = {.settings = run->workspace->model_hash,
        .dtype = run->workspace->dtype,
        .silent_ms = run->farm->silent_ms};
    if (getrandom(&run->job, sizeof run->job, 0) != (ssize_t)sizeof run->job)
        return err_errno(err, "number a job");
    job.number = run->job;
    strcpy(job.model_sha256, run->workspace->model_sha256);
    strcpy(job.generation, generation_name(run->farm->writer));
    run->text = farm_job_write(&job);
    return run->text ? store_work_open(run->link, run->text, err) : err_set(err, ERR_NOMEM, "out of memory");
}

/* All that is to change is told to the writer beforehand, so that no change is lost with a worker and with us. */
static int entrust(struct run *run, struct err *err)
{
    const struct encode_request *request = run->farm->request;
    const struct workspace *w = run->workspace;
    const size_t count = request->content_count + request->user_count;
    struct store_change *changes = malloc((count + 1) * sizeof *changes);
    if (!changes)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const bool user = i >= request->content_count;
        const uint32_t index =
            user ? index_at(request->users, i - request->content_count) : index_at(request->contents, i);
        const struct id_map *ids = user ? &w->histories.users : &w->news.ids;
        changes[i] = (struct store_change){user ? STORE_USER : STORE_CONTENT, entry_id(ids, index)};
    }
    const int result = generation_entrust(run->farm->writer, changes, count, err);
    free(changes);
    return result;
}

int encode_farm(struct encode_done *done, const struct workspace *workspace, struct store_link *link,
    const struct farm *farm, struct err *err)
{
    struct run run = {.workspace = workspace, .farm = farm, .link = link, .done = done, .err = err};
    const size_t total = farm->request->content_count + farm->request->user_count;
    *done = (struct encode_done){.in_time = true};
    if (!total)
        return 0;
    int result = entrust(&run, err);
    if (result == 0)
        result = open_queue(&run, err);
    if (result == 0) {
        progress_begin(&run.progress, "contents and users", total, farm->request->quiet);
        run.heard = progress_now();
        result = run_job(&run, err);
        if (result == 0)
            progress_end(&run.progress);
        store_work_close(link, run.text, NULL);
    }
    free(run.text);
    free(run.units);
    free(run.bytes.at);
    free(run.items);
    free(run.tokens);
    workspace_scratch_done(&run.scratch);
    return result;
}
