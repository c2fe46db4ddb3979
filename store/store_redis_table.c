/* The writers' lock, the generations table and the live pointer in Redis. Whatever compares the token is a
 * script, so that nothing comes between the comparison and the writing. All keys of a script share the tag
 * {P}. */
#include "store/store_redis_int.h"

#include <string.h>

/* A replica that becomes the master may not have had the newest token: the next one would be the same number. Where there
 * are replicas, tokens therefore grow by a step that is left to chance. */
#define STEP_MAX (1 << 20)

/* ---- scripts ---- */

/* KEYS: lock, token, generations. ARGV: ttl, step. The new token, or who holds the lock and for how long. A token is above
 * all that the table shows, too: somebody may have lost the token's key, or set it back. Numbers below 2^53 are exact. */
static const char lock_script[] =
    "local left = redis.call('PTTL', KEYS[1])\n"
    "if left ~= -2 then\n"
    "  return {redis.call('GET', KEYS[1]) or '', left}\n"
    "end\n"
    "for _, row in ipairs(redis.call('HVALS', KEYS[3])) do\n"
    "  local shown = string.match(row, '%d+$')\n"
    "  if shown and tonumber(shown) > tonumber(redis.call('GET', KEYS[2]) or '0') then\n"
    "    redis.call('SET', KEYS[2], shown)\n"
    "  end\n"
    "end\n"
    "redis.call('INCRBY', KEYS[2], ARGV[2])\n"
    "local token = redis.call('GET', KEYS[2])\n"
    "redis.call('SET', KEYS[1], token, 'PX', ARGV[1])\n"
    "return token\n";

/* KEYS: token, lock. ARGV: token, ttl. 0 if fenced. */
static const char renew_script[] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                                   "redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])\n"
                                   "return 1\n";

/* KEYS: token, lock. ARGV: token. 0 if fenced. */
static const char unlock_script[] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                                    "redis.call('DEL', KEYS[2])\n"
                                    "return 1\n";

/* KEYS: token, generations, live. ARGV: token, live or '', then name, row, name, row, ... 0 if fenced. */
static const char commit_script[] =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
    "for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end\n"
    "if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2]) end\n"
    "return 1\n";

/* KEYS: token, generations, live. ARGV: token, name, its new row or '' to delete it. 0 if fenced, -1 if the
 * generation is live. */
static const char drop_script[] = "if redis.call('GET', KEYS[3]) == ARGV[2] then return -1 end\n"
                                  "if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 1 end\n"
                                  "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                                  "if ARGV[3] == '' then\n"
                                  "  redis.call('HDEL', KEYS[2], ARGV[2])\n"
                                  "else\n"
                                  "  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])\n"
                                  "end\n"
                                  "return 1\n";

void redis_arg_global(struct redis_link *link, const char *what)
{
    struct store_key key;
    store_key_global(&key, link->base.store, what);
    redis_arg_key(link, &key);
}

/* Before whatever compares the token. */
static int begin_guarded(struct redis_link *link, struct err *err)
{
    const int rc = redis_begin(link, err);
    return rc == 0 && link->store->sentinels.count ? redis_sentinel_confirm(link, err) : rc;
}

void redis_eval(
    struct redis_link *link, const char *script, const char *const *keys, size_t key_count, size_t args)
{
    redis_command(link, 3 + key_count + args, "EVAL");
    redis_arg_text(link, script);
    redis_arg_number(link, key_count);
    for (size_t i = 0; i < key_count; i++)
        redis_arg_global(link, keys[i]);
}

static const char *const lease_keys[] = {"token", "lock"};
static const char *const table_keys[] = {"token", "generations", "live"};

int redis_eval_number(struct redis_link *link, long long *result, struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER)
        return redis_unexpected(link, reply, "EVAL", err);
    *result = reply->integer;
    freeReplyObject(reply);
    redis_succeed(link);
    return 0;
}

static int expect_not_fenced(struct redis_link *link, uint64_t token, struct err *err)
{
    long long result = 0;
    const int rc = redis_eval_number(link, &result, err);
    if (rc < 0)
        return rc;
    return result == 1 ? redis_confirm(link, err) : store_err_fenced(err, token);
}

/* ---- reading ---- */

int redis_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    redisReply *reply = NULL;
    int rc = redis_begin(self, err);
    if (rc < 0)
        return rc;
    redis_command(self, 2, "GET");
    redis_arg_global(self, "live");
    rc = redis_reply(self, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_NIL)
        return redis_unexpected(self, reply, "GET", err);
    redis_succeed(self);
    rc = reply->type == REDIS_REPLY_NIL
             ? store_err_no_live(err)
             : store_name_copy(name, reply->str, reply->len, "the live pointer", err);
    freeReplyObject(reply);
    return rc;
}

int redis_generations(struct store_link *link, struct store_rows *rows, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    redisReply *reply = NULL;
    int rc = redis_begin(self, err);
    if (rc < 0)
        return rc;
    redis_command(self, 2, "HGETALL");
    redis_arg_global(self, "generations");
    rc = redis_reply(self, &reply, err);
    if (rc < 0)
        return rc;
    bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements % 2 == 0;
    for (size_t i = 0; good && i < reply->elements; i++)
        good = reply->element[i]->type == REDIS_REPLY_STRING;
    if (!good)
        return redis_unexpected(self, reply, "HGETALL", err);
    redis_succeed(self);
    for (size_t i = 0; rc == 0 && i < reply->elements; i += 2) {
        const redisReply *const name = reply->element[i], *const row = reply->element[i + 1];
        rc = store_rows_add(rows, name->str, name->len, row->str, row->len, err);
    }
    freeReplyObject(reply);
    return rc;
}

/* ---- the lock ---- */

static int busy(const redisReply *reply, struct err *err)
{
    uint64_t holder = 0;
    store_number_parse(&holder, reply->element[0]->str, reply->element[0]->len);
    return store_err_busy(err, holder, reply->element[1]->integer);
}

int redis_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err)
{
    static const char *const keys[] = {"lock", "token", "generations"};
    struct redis_link *const self = (struct redis_link *)link;
    redisReply *reply = NULL;
    uint64_t next = 0;
    int rc = begin_guarded(self, err);
    if (rc < 0)
        return rc;
    redis_eval(self, lock_script, keys, 3, 2);
    redis_arg_number(self, (uint64_t)ttl_ms);
    redis_arg_number(self, self->store->replicated ? 1 + redis_random(self) % STEP_MAX : 1);
    rc = redis_reply(self, &reply, err);
    if (rc < 0)
        return rc;
    const bool taken = reply->type == REDIS_REPLY_STRING && store_number_parse(&next, reply->str, reply->len),
               held = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                      reply->element[0]->type == REDIS_REPLY_STRING &&
                      reply->element[1]->type == REDIS_REPLY_INTEGER;
    if (!taken && !held)
        return redis_unexpected(self, reply, "EVAL", err);
    redis_succeed(self);
    rc = taken ? redis_confirm(self, err) : busy(reply, err);
    freeReplyObject(reply);
    if (rc == 0)
        *token = next;
    else if (taken) {
        self->retry_at_ms = 0; /* nobody knows of it, and it would keep all out */
        redis_unlock(link, next, NULL);
    }
    return rc;
}

int redis_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    const int rc = begin_guarded(self, err);
    if (rc < 0)
        return rc;
    redis_eval(self, renew_script, lease_keys, 2, 2);
    redis_arg_number(self, token);
    redis_arg_number(self, (uint64_t)ttl_ms);
    return expect_not_fenced(self, token, err);
}

int redis_unlock(struct store_link *link, uint64_t token, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    const int rc = begin_guarded(self, err);
    if (rc < 0)
        return rc;
    redis_eval(self, unlock_script, lease_keys, 2, 1);
    redis_arg_number(self, token);
    return expect_not_fenced(self, token, err);
}

/* ---- the table ---- */

int redis_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    const int rc = begin_guarded(self, err);
    if (rc < 0)
        return rc;
    redis_eval(self, commit_script, table_keys, 3, 2 + 2 * count);
    redis_arg_number(self, token);
    redis_arg_text(self, live ? live : "");
    for (size_t i = 0; i < count; i++) {
        char row[STORE_ROW_MAX];
        store_row_format(row, &rows[i]);
        redis_arg_text(self, rows[i].name);
        redis_arg_text(self, row);
    }
    return expect_not_fenced(self, token, err);
}

/* ---- dropping ---- */

/* Change the row of a generation that is not live; row "" deletes it. */
static int drop_row(
    struct redis_link *link, uint64_t token, const char *generation, const char *row, struct err *err)
{
    long long result = 0;
    redis_eval(link, drop_script, table_keys, 3, 3);
    redis_arg_number(link, token);
    redis_arg_text(link, generation);
    redis_arg_text(link, row);
    const int rc = redis_eval_number(link, &result, err);
    if (rc < 0)
        return rc;
    return result == 1    ? redis_confirm(link, err)
           : result == -1 ? store_err_live(err, generation)
                          : store_err_fenced(err, token);
}

/* Memory is given back in the background of the server, not while it should answer others. */
static int unlink_keys(struct redis_link *link, const redisReply *keys, struct err *err)
{
    redisReply *reply = NULL;
    if (!keys->elements)
        return 0;
    redis_command(link, 1 + keys->elements, "UNLINK");
    for (size_t i = 0; i < keys->elements; i++)
        redis_arg(link, keys->element[i]->str, keys->element[i]->len);
    const int rc = redis_reply(link, &reply, err);
    if (rc == 0 && reply->type != REDIS_REPLY_INTEGER)
        return redis_unexpected(link, reply, "UNLINK", err);
    freeReplyObject(reply);
    return rc;
}

static int unlink_all(struct redis_link *link, const struct store_key *base, struct err *err)
{
    char cursor[REDIS_CURSOR_MAX] = "0";
    int rc;
    do {
        redisReply *reply = NULL;
        rc = redis_scan_step(link, base, cursor, &reply, err);
        if (rc == 0)
            rc = unlink_keys(link, reply->element[1], err);
        freeReplyObject(reply);
    } while (rc == 0 && strcmp(cursor, "0") != 0);
    return rc;
}

/* A generation whose keys are going is marked as building first: nobody makes it live, and the next writer
 * drops the rest if this one dies. */
int redis_drop_begin(struct redis_link *link, uint64_t token, const char *generation, struct err *err)
{
    const struct store_generation mark = {.state = STORE_BUILDING, .token = token};
    char row[STORE_ROW_MAX];
    store_row_format(row, &mark);
    const int rc = begin_guarded(link, err);
    return rc == 0 ? drop_row(link, token, generation, row, err) : rc;
}

int redis_drop_end(struct redis_link *link, uint64_t token, const char *generation, struct err *err)
{
    const int rc = begin_guarded(link, err);
    return rc == 0 ? drop_row(link, token, generation, "", err) : rc;
}

int redis_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    struct store_key keys, changes, shadow;
    store_key_generation(&keys, link->store, generation);
    store_key_changes(&changes, link->store, generation);
    store_key_shadow(&shadow, link->store, generation);
    int rc = redis_drop_begin(self, token, generation, err);
    if (rc == 0)
        rc = unlink_all(self, &keys, err);
    if (rc == 0) {
        redisReply stream = {.type = REDIS_REPLY_STRING, .str = changes.text, .len = changes.len};
        redisReply sums = {.type = REDIS_REPLY_STRING, .str = shadow.text, .len = shadow.len};
        redisReply *both[] = {&stream, &sums};
        rc = unlink_keys(self, &(redisReply){.elements = 2, .element = both}, err);
    }
    return rc == 0 ? redis_drop_end(self, token, generation, err) : rc;
}
