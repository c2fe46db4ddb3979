/* Many keys in a cluster: a command for each, sent to its slot's node, at most WINDOW of them under way. Answers are taken in
 * the order asked, from one node at a time; meanwhile the others' gather in the kernel. A node's connection carries its
 * commands in that order, too, so what comes next from it is what is waited for, unless a redirection came between: then an
 * answer is kept until its turn.
 *
 * The time for an answer counts from when it is waited for, and goes on through all of its redirections.
 */
#include "store/store_redis_cluster_int.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW 256 /* commands */
#define WINDOW_MIN 8
#define WINDOW_BYTES ((size_t)4 << 20)       /* of commands, and expected of answers */
#define VALUE_BYTES_FIRST ((size_t)64 << 10) /* expected of a value before the first was seen */

/* One command under way. */
struct flight {
    struct cluster_node *node;
    size_t next;  /* the one behind it on the node's connection, by its place; of the last: any */
    size_t bytes; /* of the command */
    bool asking;  /* the answer to ASKING comes first */
    bool arrived;
    unsigned hops;
    redisReply *reply; /* if arrived; NULL stands for a key of another type, where that is no error */
};

struct traffic {
    struct cluster_link *link;
    /* How many commands more there are, at most `most`; their indices go on from the last. */
    size_t (*more)(void *ctx, size_t first, size_t most);
    void (*key)(const void *ctx, size_t index, struct store_key *key);
    void (*write)(struct redis_link *to, const void *ctx, size_t index, const struct store_key *key);
    /* False: no command of ours has such an answer. */
    bool (*take)(void *ctx, size_t index, const redisReply *reply);
    void *ctx;
    const char *command;
    const int *stopped; /* NULL, or no more is asked for once it is not 0 */
    size_t window;
    bool in_order; /* nothing is sent beside what a redirection holds up */
    bool any_type; /* a key of another type has no value */
    bool touches;  /* it writes */

    struct flight flights[WINDOW]; /* a ring by index */
    size_t taken, sent;            /* indices */
    size_t bytes;
};

/* ---- sending ---- */

static void depart(struct traffic *traffic, struct cluster_node *node, size_t index, bool asking)
{
    struct flight *const flight = &traffic->flights[index % WINDOW];
    struct store_key key;
    const size_t before = node->link.out_used;
    if (asking)
        redis_command(&node->link, 1, "ASKING");
    traffic->key(traffic->ctx, index, &key);
    traffic->write(&node->link, traffic->ctx, index, &key);
    traffic->bytes += node->link.out_used - before - flight->bytes;
    flight->bytes = node->link.out_used - before;
    flight->node = node;
    flight->asking = asking;
    if (node->pending++)
        traffic->flights[node->last].next = index % WINDOW;
    else
        node->first = index % WINDOW;
    node->last = index % WINDOW;
    node->touched |= traffic->touches;
}

/* What there is room for goes to the nodes. */
static int fill(struct traffic *traffic, struct err *err)
{
    struct cluster_link *const link = traffic->link;
    const size_t under_way = traffic->sent - traffic->taken;
    if ((traffic->stopped && *traffic->stopped) || traffic->bytes >= WINDOW_BYTES ||
        under_way > (traffic->in_order ? 0 : traffic->window / 2))
        return 0;
    size_t count = traffic->more(traffic->ctx, traffic->sent, traffic->window - under_way);
    const struct redis_deadline deadline = redis_deadline_in(link->store->connect_timeout_ms);
    for (; count; count--) {
        struct cluster_node *node = NULL;
        struct store_key key;
        traffic->key(traffic->ctx, traffic->sent, &key);
        const int rc = cluster_node_of(&node, link, redis_slot(key.text, key.len), deadline, err);
        if (rc < 0)
            return rc;
        traffic->flights[traffic->sent % WINDOW] = (struct flight){0};
        depart(traffic, node, traffic->sent++, false);
    }
    for (size_t i = 0; i < link->node_count; i++) {
        struct cluster_node *const node = link->nodes[i];
        const int rc = node && node->pending ? redis_flush(&node->link, err) : 0;
        if (rc < 0)
            return cluster_failed(link, node, rc);
    }
    return 0;
}

/* ---- receiving ---- */

/* An error in place of an answer: what the flight does next. */
static int divert(struct traffic *traffic, struct cluster_node *node, struct flight *flight, size_t index,
    redisReply *reply, struct redis_deadline deadline, struct err *err)
{
    const bool asking = flight->asking;
    struct redis_redirect redirect;
    if (traffic->any_type && strncmp(reply->str, "WRONGTYPE", 9) == 0) {
        freeReplyObject(reply);
        flight->arrived = true;
        return 0;
    }
    if (!redis_redirect_parse(&redirect, reply->str))
        return cluster_failed(traffic->link, node, redis_refuse(&node->link, reply, err));
    freeReplyObject(reply);
    const int rc = cluster_follow(&node, traffic->link, node, &redirect, &flight->hops, deadline, err);
    if (rc == 0)
        depart(
            traffic, node, index, redirect.kind == REDIS_ASK || (redirect.kind == REDIS_TRYAGAIN && asking));
    return rc;
}

/* The next answer of a node. */
static int receive(
    struct traffic *traffic, struct cluster_node *node, struct redis_deadline deadline, struct err *err)
{
    struct flight *const flight = &traffic->flights[node->first];
    redisReply *reply = NULL;
    int rc = redis_reply_any(&node->link, &reply, deadline, err);
    if (rc == 0 && flight->asking && reply->type == REDIS_REPLY_STATUS) {
        freeReplyObject(reply);
        rc = redis_reply_any(&node->link, &reply, deadline, err);
    }
    if (rc < 0)
        return cluster_failed(traffic->link, node, rc);
    /* The place of a flight tells its index: less than a ring has been sent since the oldest. */
    const size_t index = traffic->taken + (node->first + WINDOW - traffic->taken % WINDOW) % WINDOW;
    node->first = flight->next;
    node->pending--;
    if (reply->type == REDIS_REPLY_ERROR)
        return divert(traffic, node, flight, index, reply, deadline, err);
    flight->reply = reply;
    flight->arrived = true;
    return 0;
}

/* The oldest command's answer is taken. */
static int take_next(struct traffic *traffic, struct err *err)
{
    const struct redis_deadline deadline = redis_deadline_in(traffic->link->store->command_timeout_ms);
    struct flight *const flight = &traffic->flights[traffic->taken % WINDOW];
    while (!flight->arrived) {
        const int rc = receive(traffic, flight->node, deadline, err);
        if (rc < 0)
            return rc;
    }
    struct cluster_node *const from = flight->node;
    redisReply *const reply = flight->reply;
    flight->reply = NULL;
    const size_t index = traffic->taken++;
    traffic->bytes -= flight->bytes;
    from->link.retry_ms = 0;
    if (!traffic->take(traffic->ctx, index, reply))
        return cluster_failed(
            traffic->link, from, redis_unexpected(&from->link, reply, traffic->command, err));
    freeReplyObject(reply);
    return 0;
}

/* A call has failed: what is still under way must not be taken for the answer to another one, and nothing is to be confirmed. */
static void abandon(struct traffic *traffic)
{
    for (; traffic->taken < traffic->sent; traffic->taken++)
        freeReplyObject(traffic->flights[traffic->taken % WINDOW].reply);
    for (size_t i = 0; i < traffic->link->node_count; i++) {
        struct cluster_node *const node = traffic->link->nodes[i];
        if (!node)
            continue;
        if (node->pending)
            redis_disconnect(&node->link);
        node->pending = 0;
        node->touched = false;
    }
}

static int run(struct traffic *traffic, struct err *err)
{
    int rc = 0;
    traffic->link->busy++;
    while (rc == 0) {
        rc = fill(traffic, err);
        if (rc == 0 && traffic->taken == traffic->sent)
            break;
        if (rc == 0)
            rc = take_next(traffic, err);
    }
    if (rc < 0)
        abandon(traffic);
    traffic->link->busy--;
    return rc;
}

/* ---- reading ---- */

struct reading {
    struct store_key base;
    struct store_id ids[WINDOW]; /* a ring by index */
    size_t head;                 /* so many bytes of each value are read; 0: all */
    size_t largest;
    store_next_fn *next;
    store_value_fn *fn;
    void *ctx;
    int stopped; /* what fn returned */
};

static size_t more_ids(void *ctx, size_t first, size_t most)
{
    struct reading *const reading = ctx;
    struct store_id ids[WINDOW];
    const size_t count = reading->next(reading->ctx, ids, most);
    for (size_t i = 0; i < count; i++)
        reading->ids[(first + i) % WINDOW] = ids[i];
    return count;
}

static void key_of_id(const void *ctx, size_t index, struct store_key *key)
{
    const struct reading *const reading = ctx;
    const struct store_id *const id = &reading->ids[index % WINDOW];
    key->len = 0;
    store_key_append(key, reading->base.text, reading->base.len);
    store_key_append(key, id->id, id->len);
}

static void write_get(struct redis_link *to, const void *ctx, size_t index, const struct store_key *key)
{
    const size_t head = ((const struct reading *)ctx)->head;
    (void)index;
    if (head) {
        redis_write_head(to, key, head);
    } else {
        redis_command(to, 2, "GET");
        redis_arg_key(to, key);
    }
}

static bool take_value(void *ctx, size_t index, const redisReply *reply)
{
    struct reading *const reading = ctx;
    const size_t head = reading->head;
    const bool string = reply && reply->type == REDIS_REPLY_STRING && (!head || reply->len <= head);
    const bool value = string && (!head || reply->len); /* GETRANGE answers nothing to nobody's key */
    if (!string && reply && (head || reply->type != REDIS_REPLY_NIL))
        return false;
    if (value && reply->len > reading->largest)
        reading->largest = reply->len;
    if (!reading->stopped)
        reading->stopped =
            reading->fn(reading->ctx, index, value ? reply->str : NULL, value ? reply->len : 0);
    return true;
}

int cluster_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    size_t *const expected = redis_value_bytes(self->value_bytes, kind);
    const size_t window = WINDOW_BYTES / (head ? head : *expected ? *expected : VALUE_BYTES_FIRST);
    struct reading reading = {.head = head, .next = next, .fn = fn, .ctx = ctx};
    struct traffic traffic = {.link = self,
        .more = more_ids,
        .key = key_of_id,
        .write = write_get,
        .take = take_value,
        .ctx = &reading,
        .command = head ? "GETRANGE" : "GET",
        .stopped = &reading.stopped,
        .window = window < WINDOW_MIN ? WINDOW_MIN
                  : window < WINDOW   ? window
                                      : WINDOW,
        .any_type = true};
    store_key_kind(&reading.base, link->store, generation, kind);
    const int rc = run(&traffic, err);
    if (!head && reading.largest)
        *expected = reading.largest;
    return rc < 0 ? rc : reading.stopped;
}

/* ---- writing ---- */

struct writing {
    const struct store_entry *entries;
    const struct store_change *changes;
    const struct store_click *clicks;
    const struct store_id *ids;
    redisReply *const *keys;
    struct store_key base;
    size_t count;
    int expected; /* type of an answer */
};

static size_t more_of_all(void *ctx, size_t first, size_t most)
{
    const struct writing *const writing = ctx;
    size_t count = 0, bytes = 0;
    for (; count < most && first + count < writing->count && bytes < WINDOW_BYTES; count++)
        bytes += writing->entries ? writing->entries[first + count].len : 0;
    return count;
}

static bool take_expected(void *ctx, size_t index, const redisReply *reply)
{
    (void)index;
    return reply->type == ((const struct writing *)ctx)->expected;
}

static int write_all(
    struct cluster_link *link, struct traffic *traffic, struct writing *writing, struct err *err)
{
    traffic->link = link;
    traffic->more = more_of_all;
    traffic->take = take_expected;
    traffic->ctx = writing;
    traffic->window = WINDOW;
    traffic->touches = true;
    return run(traffic, err);
}

int cluster_confirm(struct cluster_link *link, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < link->node_count; i++) {
        struct cluster_node *const node = link->nodes[i];
        if (!node || !node->touched)
            continue;
        node->touched = false;
        if (rc == 0 && node->link.fd < 0) /* who cannot tell any more has perhaps lost it */
            rc = err_set(err, ERR_UNAVAILABLE, "Redis at %s:%s: the connection was lost behind a write",
                node->link.address.host, node->link.address.port);
        if (rc == 0)
            rc = cluster_failed(link, node, redis_confirm(&node->link, err));
    }
    return rc;
}

static void key_of_entry(const void *ctx, size_t index, struct store_key *key)
{
    const struct writing *const writing = ctx;
    const struct store_id *const id = &writing->entries[index].id;
    *key = writing->base;
    store_key_append(key, id->id, id->len);
}

static void write_set(struct redis_link *to, const void *ctx, size_t index, const struct store_key *key)
{
    const struct store_entry *const entry = &((const struct writing *)ctx)->entries[index];
    redis_command(to, 3, "SET");
    redis_arg_key(to, key);
    redis_arg(to, entry->data, entry->len);
}

int cluster_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct writing writing = {.entries = entries, .count = count, .expected = REDIS_REPLY_STATUS};
    struct traffic traffic = {.key = key_of_entry, .write = write_set, .command = "SET"};
    store_key_kind(&writing.base, link->store, generation, kind);
    const int rc = write_all(self, &traffic, &writing, err);
    return rc < 0 ? rc : cluster_confirm(self, err);
}

static void key_of_stream(const void *ctx, size_t index, struct store_key *key)
{
    (void)index;
    *key = ((const struct writing *)ctx)->base;
}

static void write_entry(struct redis_link *to, const void *ctx, size_t index, const struct store_key *key)
{
    const struct writing *const writing = ctx;
    if (writing->changes)
        redis_write_change(to, key, &writing->changes[index]);
    else
        redis_write_click(to, key, &writing->clicks[index]);
}

static int append(struct cluster_link *link, struct writing *writing, struct err *err)
{
    struct traffic traffic = {
        .key = key_of_stream, .write = write_entry, .command = "XADD", .in_order = true};
    writing->expected = REDIS_REPLY_STRING;
    const int rc = write_all(link, &traffic, writing, err);
    return rc < 0 ? rc : cluster_confirm(link, err);
}

int cluster_changes_append(struct store_link *link, const char *generation,
    const struct store_change *changes, size_t count, struct err *err)
{
    struct writing writing = {.changes = changes, .count = count};
    store_key_changes(&writing.base, link->store, generation);
    return append((struct cluster_link *)link, &writing, err);
}

int cluster_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err)
{
    struct writing writing = {.clicks = clicks, .count = count};
    store_key_global(&writing.base, link->store, "clicks");
    return append((struct cluster_link *)link, &writing, err);
}

/* ---- deleting ---- */

static void key_to_delete(const void *ctx, size_t index, struct store_key *key)
{
    const struct writing *const writing = ctx;
    *key = writing->base;
    if (writing->ids)
        store_key_append(key, writing->ids[index].id, writing->ids[index].len);
    else
        store_key_append(key, writing->keys[index]->str, writing->keys[index]->len);
}

static void write_unlink(struct redis_link *to, const void *ctx, size_t index, const struct store_key *key)
{
    (void)ctx;
    (void)index;
    redis_command(to, 2, "UNLINK");
    redis_arg_key(to, key);
}

static int unlink_all(struct cluster_link *link, struct writing *writing, struct err *err)
{
    struct traffic traffic = {.key = key_to_delete, .write = write_unlink, .command = "UNLINK"};
    writing->expected = REDIS_REPLY_INTEGER;
    return write_all(link, &traffic, writing, err);
}

int cluster_unlink(struct cluster_link *link, redisReply *const *keys, size_t count, struct err *err)
{
    return unlink_all(link, &(struct writing){.keys = keys, .count = count}, err);
}

int cluster_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct writing writing = {.ids = ids, .count = count};
    store_key_kind(&writing.base, link->store, generation, kind);
    const int rc = unlink_all(self, &writing, err);
    return rc < 0 ? rc : cluster_confirm(self, err);
}
