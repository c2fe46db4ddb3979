/* The shadow's sums in Redis: a hash, whose fields are the sums' names, and "live" is what was compared with. */
#include "store/store_redis_cluster_int.h"

#include <inttypes.h>
#include <string.h>

/* KEYS: generations, the hash. ARGV: the generation, the live one, then field, number, field, number, ... 0: nobody knows the
 * generation, or it is going. */
static const char add_script[] =
    "local row = redis.call('HGET', KEYS[1], ARGV[1])\n"
    "if not row or string.sub(row, 1, 9) == 'building ' then return 0 end\n"
    "if redis.call('HGET', KEYS[2], 'live') ~= ARGV[2] then\n"
    "  redis.call('DEL', KEYS[2])\n"
    "  redis.call('HSET', KEYS[2], 'live', ARGV[2])\n"
    "end\n"
    "for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end\n"
    "return 1\n";

struct step {
    const char *generation;
    const struct store_shadow *more;
    struct store_shadow *out;
};

static int run(struct store_link *link, redis_step_fn *fn, struct step *step, struct err *err)
{
    const bool cluster = ((const struct redis_store *)link->store)->seeds.count;
    return cluster ? cluster_on_global(link, fn, step, err) : fn((struct redis_link *)link, step, err);
}

static int add_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    char hash[STORE_GENERATION_MAX + sizeof ":shadow"], number[24];
    const char *const keys[] = {"generations", hash};
    long long known = 0;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    snprintf(hash, sizeof hash, "%s:shadow", step->generation);
    redis_eval(link, add_script, keys, 2, 2 + 2 * STORE_SHADOW_SUMS);
    redis_arg_text(link, step->generation);
    redis_arg_text(link, step->more->live);
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++) {
        snprintf(number, sizeof number, "%" PRId64, step->more->sums[i]);
        redis_arg_text(link, store_shadow_name((enum store_shadow_sum)i));
        redis_arg_text(link, number);
    }
    rc = redis_eval_number(link, &known, err);
    return rc == 0 && !known ? store_err_unknown(err, step->generation) : rc;
}

int redis_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err)
{
    return run(link, add_step, &(struct step){.generation = generation, .more = more}, err);
}

/* A field that nobody knows is a later version's. */
static bool take(struct store_shadow *out, const redisReply *field, const redisReply *value)
{
    if (strcmp(field->str, "live") == 0) {
        if (!store_name_valid(value->str, value->len))
            return false;
        memcpy(out->live, value->str, value->len + 1);
        return true;
    }
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++)
        if (strcmp(field->str, store_shadow_name((enum store_shadow_sum)i)) == 0)
            return store_shadow_parse(&out->sums[i], value->str, value->len);
    return true;
}

static int get_step(struct redis_link *link, void *ctx, struct err *err)
{
    const struct step *const step = ctx;
    struct store_shadow found = {0};
    struct store_key key;
    redisReply *reply = NULL;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    store_key_shadow(&key, link->base.store, step->generation);
    redis_command(link, 2, "HGETALL");
    redis_arg_key(link, &key);
    rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements % 2 == 0;
    for (size_t i = 0; good && i < reply->elements; i++)
        good = reply->element[i]->type == REDIS_REPLY_STRING;
    if (!good)
        return redis_unexpected(link, reply, "HGETALL", err);
    redis_succeed(link);
    for (size_t i = 0; good && i < reply->elements; i += 2)
        good = take(&found, reply->element[i], reply->element[i + 1]);
    freeReplyObject(reply);
    if (!good)
        return store_err_shadow(err, step->generation);
    *step->out = found;
    return 0;
}

int redis_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err)
{
    return run(link, get_step, &(struct step){.generation = generation, .out = out}, err);
}
