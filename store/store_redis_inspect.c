/* What a Redis says of itself: INFO, and of its configuration what INFO does not have. A user who may not ask is no failure
 * here: what is not known is told as such. */
#include "store/store_redis_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_MS "5000" /* how long the probe's key stays where its deletion does not arrive */

/* ---- answers that may be refusals ---- */

/* The next reply; NULL, and the command is noted, if this user, or this service, does not allow it. */
static int answer(struct redis_link *link, redisReply **out, const char *command, struct store_inspection *it,
    struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply_any(link, &reply, redis_deadline_in(link->store->command_timeout_ms), err);
    *out = NULL;
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_ERROR) {
        *out = reply;
        return 0;
    }
    if (strncmp(reply->str, "NOPERM", 6) != 0 && strncmp(reply->str, "ERR unknown", 11) != 0)
        return redis_refuse(link, reply, err);
    freeReplyObject(reply);
    if (!*it->refused)
        snprintf(it->refused, sizeof it->refused, "%s", command);
    return 0;
}

/* The value of a line "name:value" of INFO; NULL: there is none. */
static const char *find(const char *info, const char *name, size_t *len)
{
    const size_t name_len = strlen(name);
    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_len) == 0 && line[name_len] == ':') {
            *len = strcspn(line + name_len + 1, "\r\n");
            return line + name_len + 1;
        }
    }
    return NULL;
}

static uint64_t number(const char *info, const char *name)
{
    size_t len = 0;
    const char *const text = find(info, name, &len);
    return text ? strtoull(text, NULL, 10) : 0;
}

static bool is(const char *info, const char *name, const char *value)
{
    size_t len = 0;
    const char *const text = find(info, name, &len);
    return text && strlen(value) == len && memcmp(text, value, len) == 0;
}

static void word(char *out, size_t size, const char *info, const char *name)
{
    size_t len = 0;
    const char *const text = find(info, name, &len);
    snprintf(out, size, "%.*s", (int)(len < size ? len : size - 1), text ? text : "");
}

/* "db0:keys=123,expires=0,..." */
static uint64_t count_keys(const char *info, int database)
{
    char name[24];
    size_t len = 0;
    snprintf(name, sizeof name, "db%d", database);
    const char *const text = find(info, name, &len);
    return text && strncmp(text, "keys=", 5) == 0 ? strtoull(text + 5, NULL, 10) : 0;
}

/* ---- one server ---- */

/* Keys are spread evenly, so the fullest master of a cluster is what limits it: room is that of one of them until the end. */
static void add_memory(struct store_inspection *it, const char *info)
{
    const uint64_t used = number(info, "used_memory"), limit = number(info, "maxmemory"),
                   room = limit == 0     ? UINT64_MAX
                          : limit > used ? limit - used
                                         : 0;
    const bool first = it->masters == 1;
    it->used += used;
    it->machine += number(info, "total_system_memory");
    it->limit = limit && (first || it->limit) ? it->limit + limit : 0;
    it->room = first || room < it->room ? room : it->room;
}

static void add_info(struct store_inspection *it, const char *info, int database)
{
    char policy[sizeof it->policy];
    const size_t replicas = (size_t)number(info, "connected_slaves");
    const uint64_t clients = number(info, "connected_clients"), clock_us = number(info, "server_time_usec");
    if (it->masters == 1) {
        snprintf(it->server, sizeof it->server, "Redis ");
        word(it->server + 6, sizeof it->server - 6, info, "redis_version");
        word(it->role, sizeof it->role, info, "role");
        it->clock = (int64_t)(clock_us / 1000000);
        it->replicas = replicas;
    }
    word(policy, sizeof policy, info, "maxmemory_policy");
    if (it->masters == 1 || strcmp(policy, "noeviction") != 0)
        memcpy(it->policy, policy, sizeof policy);
    add_memory(it, info);
    it->keys += count_keys(info, database);
    it->evicted += number(info, "evicted_keys");
    it->replicas = replicas < it->replicas ? replicas : it->replicas;
    it->save_failed |= is(info, "rdb_last_bgsave_status", "err") || is(info, "aof_last_write_status", "err");
    if (clients >= it->clients) {
        it->clients = clients;
        it->clients_max = number(info, "maxclients");
    }
}

/* reply: of CONFIG GET save, or NULL. */
static void add_persistence(struct store_inspection *it, const char *info, const redisReply *reply)
{
    const bool told = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                      reply->element[1]->type == REDIS_REPLY_STRING;
    const char *const what = is(info, "aof_enabled", "1") ? "append-only file"
                             : !told                      ? ""
                             : reply->element[1]->len     ? "snapshots"
                                                          : "none";
    if (it->masters == 1 || strcmp(what, "none") == 0)
        snprintf(it->persistence, sizeof it->persistence, "%s", what);
}

int redis_inspect_server(struct redis_link *link, struct store_inspection *it, struct err *err)
{
    redisReply *info = NULL, *save = NULL;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    redis_command(link, 1, "INFO");
    rc = answer(link, &info, "INFO", it, err);
    if (rc == 0 && info && info->type != REDIS_REPLY_STRING)
        return redis_unexpected(link, info, "INFO", err);
    if (rc == 0) {
        redis_command(link, 3, "CONFIG");
        redis_arg_text(link, "GET");
        redis_arg_text(link, "save");
        rc = answer(link, &save, "CONFIG GET", it, err);
    }
    if (rc == 0) {
        redis_succeed(link);
        it->in_memory = true;
        it->replicated = link->store->replicated;
        it->masters++;
        if (!info)
            it->room = UINT64_MAX;
        else
            add_info(it, info->str, link->address.database);
        if (info)
            add_persistence(it, info->str, save);
    }
    freeReplyObject(info);
    freeReplyObject(save);
    return rc;
}

int redis_inspect_lock(struct redis_link *link, void *ctx, struct err *err)
{
    struct store_inspection *const it = ctx;
    redisReply *holder = NULL, *left = NULL;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    redis_command(link, 2, "GET");
    redis_arg_global(link, "lock");
    rc = redis_reply(link, &holder, err);
    if (rc == 0) {
        redis_command(link, 2, "PTTL");
        redis_arg_global(link, "lock");
        rc = redis_reply(link, &left, err);
    }
    if (rc == 0 && holder->type == REDIS_REPLY_STRING && left->type == REDIS_REPLY_INTEGER) {
        store_number_parse(&it->lock, holder->str, holder->len);
        it->lock_ms = left->integer < 0 ? -1 : left->integer;
    }
    if (rc == 0)
        redis_succeed(link);
    freeReplyObject(holder);
    freeReplyObject(left);
    return rc;
}

/* ---- writing ---- */

static int expect(struct redis_link *link, int type, const char *command, struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply(link, &reply, err);
    if (rc == 0 && reply->type != type)
        return redis_unexpected(link, reply, command, err);
    freeReplyObject(reply);
    return rc;
}

int redis_probe_step(struct redis_link *link, void *ctx, struct err *err)
{
    char what[40];
    (void)ctx;
    int rc = redis_begin(link, err);
    if (rc < 0)
        return rc;
    snprintf(what, sizeof what, "doctor:%012" PRIx64, redis_random(link));
    redis_command(link, 5, "SET");
    redis_arg_global(link, what);
    redis_arg_text(link, "");
    redis_arg_text(link, "PX");
    redis_arg_text(link, PROBE_MS);
    rc = expect(link, REDIS_REPLY_STATUS, "SET", err);
    if (rc == 0) {
        redis_command(link, 2, "DEL");
        redis_arg_global(link, what);
        rc = expect(link, REDIS_REPLY_INTEGER, "DEL", err);
    }
    if (rc == 0)
        redis_succeed(link);
    else
        link->retry_at_ms = 0; /* a refusal says nothing about the next call */
    return rc;
}

/* ---- a single Redis, and the master that sentinels name ---- */

static int inspect(struct store_link *link, struct store_inspection *out, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    const int rc = redis_inspect_server(self, out, err);
    return rc < 0 ? rc : redis_inspect_lock(self, out, err);
}

static int probe(struct store_link *link, struct err *err)
{
    return redis_probe_step((struct redis_link *)link, NULL, err);
}

static int sample(struct store_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    struct id_map seen = {0};
    struct store_key base;
    store_key_kind(&base, link->store, generation, kind);
    const int rc = redis_scan_until((struct redis_link *)link, &base, &seen, until_ms, fn, ctx, whole, err);
    id_map_done(&seen);
    return rc;
}

const struct store_inspect_backend redis_inspect = {inspect, probe, sample};
