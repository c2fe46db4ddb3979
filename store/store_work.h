/* A queue of work in a store, for one who has much to do and any number of helpers, on any machines:
 *
 *     store_work_open(link, job, &err);                  who has the work, and holds the writers' lock
 *     store_work_add(link, job, unit, len, &err);        as often as needed
 *     store_work_results(link, job, &untaken, take_result, &ctx, &err);    now and then, until each unit has its result
 *     store_work_close(link, job, &err);
 *
 *     store_work_job(link, &job, &err);                  who helps: is it work that I can do?
 *     store_work_take(link, "host-1", 30000, take_unit, &ctx, &err);
 *     store_work_keep(link, "host-1", place, &err);      now and then while working on it
 *     store_work_done(link, place, result, len, &err);
 *
 * A unit whose taker is silent for too long goes to another. So a unit may be done twice, by one who was slow and one who
 * took over, and must do no harm then; its result is given once. Redis alone has such a queue (streams and a consumer
 * group do it): its keys are {P}:work, {P}:work:done and {P}:work:job.
 *
 * Units and results are bytes to the store. Codes are as in store.h; ERR_NOT_FOUND: there is no queue, or none any more;
 * ERR_INVALID: this kind of store has none.
 */
#ifndef EMBSUM_STORE_STORE_WORK_H
#define EMBSUM_STORE_STORE_WORK_H

#include "store/store.h"

/* ---- who has the work ----
 *
 * The job's text, which no other job has, says whose the queue is: one who was stopped for longer than his lock lasts does
 * not touch his successor's. ERR_NOT_FOUND then, as where there is none.
 */

/* An empty queue for this job (its text must not be empty), whatever another has left there. */
int store_work_open(struct store_link *link, const char *job, struct err *err);

/* Take the queue away, if it is this job's; NULL: whose ever it is. There may be none, or no queues at all: that is 0, too. */
int store_work_close(struct store_link *link, const char *job, struct err *err);

/* A call that fails with ERR_UNAVAILABLE may have added the unit. */
int store_work_add(struct store_link *link, const char *job, const void *unit, size_t len, struct err *err);

/* *untaken = the units that nobody has taken yet. fn is called with each result that has come, once; twice where a call
 * failed before. A non-zero return ends the call, which returns it. */
typedef int store_work_result_fn(void *ctx, const void *result, size_t len);
int store_work_results(struct store_link *link, const char *job, size_t *untaken, store_work_result_fn *fn,
    void *ctx, struct err *err);

struct store_work_state {
    size_t units;    /* that have no result yet */
    size_t taken;    /* of these */
    int64_t idle_ms; /* since one of them, of the oldest 1000, was taken or kept last; -1: none is taken */
};
int store_work_look(struct store_link *link, const char *job, struct store_work_state *out, struct err *err);

/* ---- who helps ---- */

/* *job is malloc'ed and ends with a NUL. */
int store_work_job(struct store_link *link, char **job, struct err *err);

struct store_unit {
    char place[STORE_CURSOR_MAX]; /* what the store calls it */
    uint64_t deliveries;          /* how often it was taken, this time included */
    const void *data;             /* valid during the call */
    size_t len;
};

/* A unit that nobody has taken, else one that was taken or kept last more than idle_ms ago and has no result (which may be
 * noticed an eighth of that time late); fn is not called if there is neither. It is taken by the name of `taker`. Returns what fn returns. */
typedef int store_work_unit_fn(void *ctx, const struct store_unit *unit);
int store_work_take(struct store_link *link, const char *taker, int idle_ms, store_work_unit_fn *fn,
    void *ctx, struct err *err);

/* The taker still works on the unit: the time after which another may take it begins anew. ERR_NOT_FOUND: another has it, or
 * nobody wants it any more. */
int store_work_keep(struct store_link *link, const char *taker, const char *place, struct err *err);

/* The unit has its result. ERR_NOT_FOUND: it had one before, or the queue is another. */
int store_work_done(
    struct store_link *link, const char *place, const void *result, size_t len, struct err *err);

#endif
