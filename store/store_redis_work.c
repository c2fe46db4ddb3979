/* The queue of work: units are a stream with one consumer group, results another stream. What takes more than one command
 * is a script, so that a unit is never between two states. Nobody blocks in Redis: who finds nothing asks again a little
 * later, under the same deadlines as everything else.
 */
#include "store/store_redis_cluster_int.h"

#include <stdlib.h>
#include <string.h>

#define RESULTS_COUNT 1000 /* of one answer */

/* calm: there for a while after nobody who has a unit was silent for longer than it says. */
static const char *const queue_keys[] = {"work", "work:job", "work:done", "work:calm"};
enum { QUEUE_KEYS = sizeof queue_keys / sizeof *queue_keys };

/* All have these KEYS. ARGV: the job. */
static const char open_script[] = "redis.call('UNLINK', unpack(KEYS))\n"
                                  "redis.call('XGROUP', 'CREATE', KEYS[1], 'workers', '0', 'MKSTREAM')\n"
                                  "redis.call('SET', KEYS[2], ARGV[1])\n"
                                  "return 1\n";

/* ARGV: the job or '' for any. */
static const char close_script[] = "if ARGV[1] == '' or redis.call('GET', KEYS[2]) == ARGV[1] then\n"
                                   "  redis.call('UNLINK', unpack(KEYS))\n"
                                   "end\n"
                                   "return 1\n";

/* ARGV: the job, the unit. 0: the queue is not this job's. */
static const char add_script[] = "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end\n"
                                 "redis.call('XADD', KEYS[1], '*', 'unit', ARGV[2])\n"
                                 "return 1\n";

/* Units that are taken: the one group's, without a walk through them. */
#define PENDING_FUNCTION                                                                                     \
    "local function pending()\n"                                                                             \
    "  local group = redis.call('XINFO', 'GROUPS', KEYS[1])[1]\n"                                            \
    "  for i = 1, #group, 2 do\n"                                                                            \
    "    if group[i] == 'pending' then return group[i + 1] end\n"                                            \
    "  end\n"                                                                                                \
    "end\n"

/* ARGV: the job, how many, and the place that begins what has not been handed over yet; what is before it goes. Gives what
 * nobody has taken, and the entries. */
static const char results_script[] =
    PENDING_FUNCTION "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end\n"
                     "if ARGV[3] ~= '-' then redis.call('XTRIM', KEYS[3], 'MINID', ARGV[3]) end\n"
                     "return {redis.call('XLEN', KEYS[1]) - pending(),\n"
                     "  redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', ARGV[2])}\n";

/* ARGV: taker, milliseconds. 0: there is no queue; 1: there is no unit; else its place, deliveries and fields. XAUTOCLAIM
 * walks through all that is taken, so it comes last, and where it finds nobody silent it is left alone for an eighth of
 * the time. */
static const char take_script[] =
    "if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end\n"
    "local fresh = redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', 1, 'STREAMS', KEYS[1], "
    "'>')\n"
    "if fresh then\n"
    "  local entry = fresh[1][2][1]\n"
    "  return {entry[1], 1, entry[2]}\n"
    "end\n"
    "if redis.call('GET', KEYS[4]) == ARGV[2] then return 1 end\n"
    "local from = '0-0'\n"
    "repeat\n"
    "  local reply = redis.call('XAUTOCLAIM', KEYS[1], 'workers', ARGV[1], ARGV[2], from, 'COUNT', 1)\n"
    "  local entry = reply[2][1]\n"
    "  from = reply[1]\n"
    "  if entry then\n"
    "    local row = redis.call('XPENDING', KEYS[1], 'workers', entry[1], entry[1], 1)[1]\n"
    "    return {entry[1], row[4], entry[2]}\n"
    "  end\n"
    "until from == '0-0'\n"
    "local calm = math.floor(ARGV[2] / 8)\n"
    "if calm > 0 then redis.call('SET', KEYS[4], ARGV[2], 'PX', calm) end\n"
    "return 1\n";

/* ARGV: taker, place. To claim what is one's own begins its idle time anew; JUSTID does not count as a delivery. */
static const char keep_script[] =
    "if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end\n"
    "local row = redis.call('XPENDING', KEYS[1], 'workers', ARGV[2], ARGV[2], 1)[1]\n"
    "if not row or row[2] ~= ARGV[1] then return 0 end\n"
    "redis.call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, ARGV[2], 'JUSTID')\n"
    "return 1\n";

/* ARGV: place, result. A unit that is pending here is acknowledged once, whoever does it. */
static const char done_script[] =
    "if redis.call('XACK', KEYS[1], 'workers', ARGV[1]) == 0 then return 0 end\n"
    "redis.call('XDEL', KEYS[1], ARGV[1])\n"
    "redis.call('XADD', KEYS[3], '*', 'result', ARGV[2])\n"
    "return 1\n";

/* ARGV: the job. Units, those that are taken, the time since the last was. */
static const char look_script[] =
    PENDING_FUNCTION "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end\n"
                     "local rows, idle = redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 1000), -1\n"
                     "for _, row in ipairs(rows) do\n"
                     "  if idle < 0 or row[3] < idle then idle = row[3] end\n"
                     "end\n"
                     "return {redis.call('XLEN', KEYS[1]), pending(), idle}\n";

/* What a step needs, and gives. */
struct step {
    const char *of_job;
    const void *data;
    size_t len;
    const char *name, *place; /* a taker's, a unit's */
    int idle_ms;
    void *ctx;
    store_work_result_fn *result_fn;
    size_t *untaken;
    store_work_unit_fn *unit_fn;
    struct store_work_state *state;
    char **job;
};

static int run(struct store_link *link, redis_step_fn *step, struct step *what, struct err *err)
{
    const bool cluster = ((const struct redis_store *)link->store)->seeds.count;
    return cluster ? cluster_on_global(link, step, what, err) : step((struct redis_link *)link, what, err);
}

static int no_queue(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no such queue of work in the store");
}

/* args: those that follow the job, or all of them where of_job is NULL. */
static int begin_script(
    struct redis_link *link, const char *script, const char *of_job, size_t args, struct err *err)
{
    const int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    redis_eval(link, script, queue_keys, QUEUE_KEYS, (of_job != NULL) + args);
    if (of_job)
        redis_arg_text(link, of_job);
    return 0;
}

/* Its answer, where 0 says that there is no queue. */
static int script_number(struct redis_link *link, struct err *err)
{
    long long number = 0;
    const int rc = redis_eval_number(link, &number, err);
    if (rc < 0)
        return rc;
    return number ? redis_confirm(link, err) : no_queue(err);
}

/* ---- who has the work ---- */

static int open_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    const int rc = begin_script(link, open_script, step->of_job, 0, err);
    return rc == 0 ? script_number(link, err) : rc;
}

static int redis_work_open(struct store_link *link, const char *job, struct err *err)
{
    return run(link, open_step, &(struct step){.of_job = job}, err);
}

static int close_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    const int rc = begin_script(link, close_script, step->of_job, 0, err);
    return rc == 0 ? script_number(link, err) : rc;
}

static int redis_work_close(struct store_link *link, const char *job, struct err *err)
{
    return run(link, close_step, &(struct step){.of_job = job}, err);
}

static int add_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    const int rc = begin_script(link, add_script, step->of_job, 1, err);
    if (rc < 0)
        return rc;
    redis_arg(link, step->data, step->len);
    return script_number(link, err);
}

static int redis_work_add(
    struct store_link *link, const char *job, const void *unit, size_t len, struct err *err)
{
    return run(link, add_step, &(struct step){.of_job = job, .data = unit, .len = len}, err);
}

/* What nobody has taken, and entries, or 0. */
static bool is_results(const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_INTEGER)
        return reply->integer == 0;
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           reply->element[0]->type == REDIS_REPLY_INTEGER && reply->element[0]->integer >= 0 &&
           redis_is_entries(reply->element[1], RESULTS_COUNT);
}

/* Results from a place on; *from moves behind the last of them. What is before it is forgotten by the same command: the
 * stream stays short. */
static int some_results(struct redis_link *link, const struct step *step, char from[STORE_CURSOR_MAX],
    redisReply **out, struct err *err)
{
    redisReply *reply = NULL;
    int rc = begin_script(link, results_script, step->of_job, 2, err);
    if (rc < 0)
        return rc;
    redis_arg_number(link, RESULTS_COUNT);
    redis_arg_text(link, from);
    rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (!is_results(reply))
        return redis_unexpected(link, reply, "EVAL", err);
    redis_succeed(link);
    if (reply->type == REDIS_REPLY_INTEGER) {
        freeReplyObject(reply);
        return no_queue(err);
    }
    const redisReply *const entries = reply->element[1];
    *step->untaken = (size_t)reply->element[0]->integer;
    if (entries->elements)
        redis_next_place(from, entries->element[entries->elements - 1]->element[0]->str);
    *out = reply;
    return 0;
}

static int results_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    char from[STORE_CURSOR_MAX] = "-";
    size_t count;
    int rc;
    do {
        redisReply *reply = NULL;
        rc = some_results(link, step, from, &reply, err);
        count = rc == 0 ? reply->element[1]->elements : 0;
        for (size_t i = 0; rc == 0 && i < count; i++) {
            const redisReply *const fields = reply->element[1]->element[i]->element[1];
            if (fields->elements == 2)
                rc = step->result_fn(step->ctx, fields->element[1]->str, fields->element[1]->len);
        }
        freeReplyObject(reply);
    } while (rc == 0 && count);
    return rc;
}

static int redis_work_results(struct store_link *link, const char *job, size_t *untaken,
    store_work_result_fn *fn, void *ctx, struct err *err)
{
    struct step step = {.of_job = job, .untaken = untaken, .result_fn = fn, .ctx = ctx};
    return run(link, results_step, &step, err);
}

/* A script's answer: a number, or an array of three. */
static int script_array(struct redis_link *link, redisReply **out, struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3))
        return redis_unexpected(link, reply, "EVAL", err);
    *out = reply;
    return 0;
}

static int look_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    redisReply *reply = NULL;
    int rc = begin_script(link, look_script, step->of_job, 0, err);
    if (rc == 0)
        rc = script_array(link, &reply, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < reply->elements; i++)
        if (reply->element[i]->type != REDIS_REPLY_INTEGER)
            return redis_unexpected(link, reply, "EVAL", err);
    redis_succeed(link);
    if (reply->type == REDIS_REPLY_INTEGER)
        rc = no_queue(err);
    else
        *step->state = (struct store_work_state){(size_t)reply->element[0]->integer,
            (size_t)reply->element[1]->integer, reply->element[2]->integer};
    freeReplyObject(reply);
    return rc;
}

static int redis_work_look(
    struct store_link *link, const char *job, struct store_work_state *out, struct err *err)
{
    return run(link, look_step, &(struct step){.of_job = job, .state = out}, err);
}

/* ---- who helps ---- */

static int job_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    redisReply *reply = NULL;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    redis_command(link, 2, "GET");
    redis_arg_global(link, "work:job");
    rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_NIL)
        return redis_unexpected(link, reply, "GET", err);
    redis_succeed(link);
    if (reply->type == REDIS_REPLY_NIL)
        rc = no_queue(err);
    else if (!(*step->job = strndup(reply->str, reply->len)))
        rc = err_set(err, ERR_NOMEM, "out of memory");
    freeReplyObject(reply);
    return rc;
}

static int redis_work_job(struct store_link *link, char **job, struct err *err)
{
    return run(link, job_step, &(struct step){.job = job}, err);
}

/* Place, deliveries, fields. An entry that is none of ours has no data. */
static bool read_unit(struct store_unit *unit, const redisReply *reply)
{
    const redisReply *const place = reply->element[0], *const deliveries = reply->element[1],
                            *const fields = reply->element[2];
    if (place->type != REDIS_REPLY_STRING || place->len >= sizeof unit->place ||
        deliveries->type != REDIS_REPLY_INTEGER || deliveries->integer < 0 ||
        fields->type != REDIS_REPLY_ARRAY)
        return false;
    *unit = (struct store_unit){.deliveries = (uint64_t)deliveries->integer, .data = ""};
    memcpy(unit->place, place->str, place->len);
    if (fields->elements == 2 && fields->element[1]->type == REDIS_REPLY_STRING) {
        unit->data = fields->element[1]->str;
        unit->len = fields->element[1]->len;
    }
    return true;
}

static int take_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    redisReply *reply = NULL;
    struct store_unit unit;
    int rc = begin_script(link, take_script, NULL, 2, err);
    if (rc < 0)
        return rc;
    redis_arg_text(link, step->name);
    redis_arg_number(link, (uint64_t)step->idle_ms);
    rc = script_array(link, &reply, err);
    if (rc < 0)
        return rc;
    const bool none = reply->type == REDIS_REPLY_INTEGER;
    if (!none && !read_unit(&unit, reply))
        return redis_unexpected(link, reply, "EVAL", err);
    redis_succeed(link);
    if (none)
        rc = reply->integer ? 0 : no_queue(err);
    else
        rc = step->unit_fn(step->ctx, &unit);
    freeReplyObject(reply);
    return rc;
}

static int redis_work_take(struct store_link *link, const char *taker, int idle_ms, store_work_unit_fn *fn,
    void *ctx, struct err *err)
{
    struct step step = {.name = taker, .idle_ms = idle_ms, .unit_fn = fn, .ctx = ctx};
    return run(link, take_step, &step, err);
}

static int keep_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    long long kept = 0;
    int rc = begin_script(link, keep_script, NULL, 2, err);
    if (rc < 0)
        return rc;
    redis_arg_text(link, step->name);
    redis_arg_text(link, step->place);
    rc = redis_eval_number(link, &kept, err);
    return rc == 0 && !kept ? no_queue(err) : rc;
}

static int redis_work_keep(struct store_link *link, const char *taker, const char *place, struct err *err)
{
    return run(link, keep_step, &(struct step){.name = taker, .place = place}, err);
}

static int done_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    const int rc = begin_script(link, done_script, NULL, 2, err);
    if (rc < 0)
        return rc;
    redis_arg_text(link, step->place);
    redis_arg(link, step->data, step->len);
    return script_number(link, err);
}

static int redis_work_done(
    struct store_link *link, const char *place, const void *result, size_t len, struct err *err)
{
    return run(link, done_step, &(struct step){.place = place, .data = result, .len = len}, err);
}

const struct store_work_backend redis_work = {
    .open = redis_work_open,
    .close = redis_work_close,
    .add = redis_work_add,
    .results = redis_work_results,
    .look = redis_work_look,
    .job = redis_work_job,
    .take = redis_work_take,
    .keep = redis_work_keep,
    .done = redis_work_done,
};
