#include "store/store_work.h"

#include "store/store_int.h"

static int check(const struct store_link *link, struct err *err)
{
    const int rc = store_check_writable(link, err);
    if (rc < 0 || link->store->backend->work)
        return rc;
    return err_set(err, ERR_INVALID, "work is shared through a Redis store; an embedded one has no queue");
}

int store_work_open(struct store_link *link, const char *job, struct err *err)
{
    int rc = check(link, err);
    if (rc == 0 && !*job)
        rc = err_set(err, ERR_INVALID, "a job's text is not empty");
    return rc < 0 ? rc : link->store->backend->work->open(link, job, err);
}

int store_work_close(struct store_link *link, const char *job, struct err *err)
{
    if (!link->store->backend->work)
        return 0;
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->close(link, job ? job : "", err);
}

int store_work_add(struct store_link *link, const char *job, const void *unit, size_t len, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->add(link, job, unit, len, err);
}

int store_work_results(struct store_link *link, const char *job, size_t *untaken, store_work_result_fn *fn,
    void *ctx, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->results(link, job, untaken, fn, ctx, err);
}

int store_work_look(struct store_link *link, const char *job, struct store_work_state *out, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->look(link, job, out, err);
}

int store_work_job(struct store_link *link, char **job, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->job(link, job, err);
}

int store_work_take(struct store_link *link, const char *taker, int idle_ms, store_work_unit_fn *fn,
    void *ctx, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->take(link, taker, idle_ms, fn, ctx, err);
}

int store_work_keep(struct store_link *link, const char *taker, const char *place, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->keep(link, taker, place, err);
}

int store_work_done(
    struct store_link *link, const char *place, const void *result, size_t len, struct err *err)
{
    const int rc = check(link, err);
    return rc < 0 ? rc : link->store->backend->work->done(link, place, result, len, err);
}
