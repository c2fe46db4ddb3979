/* What the files of the Redis backends share: a connection to one server, commands and replies.
 *
 * One Redis, or the master that sentinels name: a link is one connection. With sentinels each connection begins with
 * the question where the master is. A cluster has a connection to each node, see store_redis_cluster_int.h.
 *
 * hiredis parses the replies; the socket is ours. Its blocking calls count their timeout anew with every
 * read, so that a server which sends a byte now and then holds a caller for ever; and they write without
 * MSG_NOSIGNAL. Here every answer has a deadline as a whole, and whatever goes wrong on a connection, a late
 * answer above all, ends that connection: the next request cannot be given the answer to this one.
 */
#ifndef EMBSUM_STORE_STORE_REDIS_INT_H
#define EMBSUM_STORE_STORE_REDIS_INT_H

#include "store/store_int.h"

#include <hiredis/hiredis.h>
#include <stdatomic.h>
#include <sys/un.h>

struct redis_address {
    bool local;                                              /* a unix socket */
    char host[256], port[8];                                 /* if not local */
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path]; /* if local */
    char user[128];                                          /* "" is the default user */
    int database;
};

/* When something is to be done by, and how long that was when it began, which messages tell. */
struct redis_deadline {
    int64_t at_ms;
    int ms;
};

struct redis_addresses {
    struct redis_address *at; /* malloc'ed */
    size_t count;
};

/* What a node of a cluster says in place of an answer. Nothing has been done then. */
struct redis_redirect {
    enum {
        REDIS_STAY,     /* it says no such thing */
        REDIS_MOVED,    /* the slot belongs to another node */
        REDIS_ASK,      /* the slot is on its way there: ask it this once */
        REDIS_TRYAGAIN, /* the keys of one command are here and there meanwhile */
        REDIS_DOWN      /* the cluster takes no commands */
    } kind;
    unsigned slot;
    char host[256], port[8]; /* of the other node; no host: that of the node that says so */
};

struct redis_store {
    struct store base;
    struct redis_address address; /* with sentinels its user and database alone: they tell the rest */
    struct redis_addresses sentinels;
    struct redis_addresses seeds; /* nodes of a cluster; none: it is no cluster */
    char master[64];              /* what the sentinels call it; "": there are none */
    atomic_size_t sentinel_first; /* the one that answered last */
    bool replicated;              /* a write is done when a replica has it, see redis_confirm() */
    char *password;               /* NULL: none */
    int connect_timeout_ms, command_timeout_ms, retry_min_ms, retry_max_ms;
    atomic_int_fast64_t well_ms; /* when any of the links has had an answer */
};

#define REDIS_KINDS 9

struct redis_link {
    struct store_link base;
    struct redis_store *store;
    struct redis_address address;
    int fd; /* -1: not connected */
    redisReader *reader;
    redisReplyObjectFunctions functions; /* the reader's */
    char *out;                           /* commands not yet sent: out[out_sent..out_used) */
    size_t out_sent, out_used, out_size;
    bool out_failed; /* memory was short while a command was written */
    char in[65536];  /* what one recv brought; here, because a stack's buffer would be zeroed each time */
    int retry_ms;    /* the last pause between attempts, 0 after a success */
    int64_t failed_ms, retry_at_ms;
    char why[160]; /* the last failure, told while no attempt is due */
    uint64_t random;
    /* Of a node of a cluster. */
    struct redis_deadline
        until;   /* for connecting and for the first answer of a call; at_ms 0: the usual ones */
    bool asking; /* each command follows an ASKING */
    struct redis_redirect redirect;  /* why the last call failed, if that was why */
    size_t value_bytes[REDIS_KINDS]; /* of the largest value of a kind in its last chunk */
};

/* store_redis_url.c. Neither message shows the URL, which may hold a secret in the wrong place. */
int redis_parse_tcp(struct redis_address *out, const char *text, struct err *err);
int redis_parse_unix(struct redis_address *out, const char *text, struct err *err);
/* host:port,host:port/name[?db=N&user=NAME]; out has the user and the database. On failure nothing is allocated. */
int redis_parse_sentinel(struct redis_address *out, struct redis_addresses *sentinels, char master[64],
    const char *text, struct err *err);

/* host:port,host:port; out has the user. On failure nothing is allocated. */
int redis_parse_cluster(
    struct redis_address *out, struct redis_addresses *seeds, const char *text, struct err *err);

/* ---- store_redis_slot.c ---- */

#define REDIS_SLOTS 16384

/* Where a key is in a cluster: CRC16 (XMODEM) of what stands between its first { and the next }, or of all of it. */
unsigned redis_slot(const char *key, size_t len);

/* False if the text of an error reply is no redirection. */
bool redis_redirect_parse(struct redis_redirect *out, const char *error);

/* ---- store_redis_socket.c ---- */

int64_t redis_now_ms(void); /* CLOCK_MONOTONIC */

struct redis_deadline redis_deadline_in(int ms);
/* Half of what is left is for one of several to try. */
struct redis_deadline redis_deadline_half(struct redis_deadline deadline);

/* A connected, non-blocking socket, or the negative errno: -ETIMEDOUT or -EAGAIN when the deadline has passed. What the
 * resolver has to say, if it is its fault, goes to *resolver_says. */
int redis_socket_open(const struct redis_address *address, int64_t deadline_ms, const char **resolver_says);

/* ---- store_redis_conn.c ---- */

void redis_link_init(struct redis_link *link, struct redis_store *store, const struct redis_address *address);
void redis_link_done(struct redis_link *link);

/* A number that the links of a fleet do not have in common. */
uint64_t redis_random(struct redis_link *link);

/* Before the first command of a call: connected, authenticated, nothing in flight. ERR_UNAVAILABLE at once
 * while the back-off has not passed. */
int redis_begin(struct redis_link *link, struct err *err);

/* Write a command of count arguments, then each of them. They leave with the next redis_reply. */
void redis_command(struct redis_link *link, size_t count, const char *name);
void redis_arg(struct redis_link *link, const void *data, size_t len);
void redis_arg_text(struct redis_link *link, const char *text);
void redis_arg_key(struct redis_link *link, const struct store_key *key);
void redis_arg_number(struct redis_link *link, uint64_t number);

/* The next reply in order, which the caller frees; it is no error reply. Anything else ends the connection
 * and is ERR_UNAVAILABLE (ERR_CORRUPT for WRONGTYPE). */
int redis_reply(struct redis_link *link, redisReply **out, struct err *err);

/* The next reply, which may be an error one, and what becomes of the call after that: the end of the connection, unless it
 * is a cluster's redirection, which is in link->redirect then. Frees the reply. */
int redis_reply_any(
    struct redis_link *link, redisReply **out, struct redis_deadline deadline, struct err *err);
int redis_refuse(struct redis_link *link, redisReply *reply, struct err *err);

/* Send what has been written and goes without waiting, while somebody else is waited for. */
int redis_flush(struct redis_link *link, struct err *err);

/* A reply of a type that the command does not have: the connection can no longer be trusted. Frees it. */
int redis_unexpected(struct redis_link *link, redisReply *reply, const char *command, struct err *err);

/* All replies of a call have come: the link is healthy, back-off begins anew. */
void redis_succeed(struct redis_link *link);

/* The connection is over, and so is the call: ERR_UNAVAILABLE. why may be the reader's own text, which ends here too. */
int redis_fail(struct redis_link *link, struct err *err, enum store_fault fault, const char *why);

/* What connecting consists of, for those who ask a server before there is a link: the connection, then AUTH and SELECT.
 * Until the deadline, as are the answers that redis_reply_until() waits for. */
int redis_dial(struct redis_link *link, struct redis_deadline deadline, struct err *err);
int redis_greet(struct redis_link *link, struct redis_deadline deadline, struct err *err);
int redis_reply_until(
    struct redis_link *link, redisReply **out, struct redis_deadline deadline, struct err *err);

/* A connection's reader of replies. False: no memory. */
bool redis_reader_open(struct redis_link *link);

void redis_disconnect(struct redis_link *link);

/* ---- store_redis_sentinel.c ---- */

/* Set link->address to where the sentinels say that the master is. */
int redis_sentinel_find(struct redis_link *link, struct redis_deadline deadline, struct err *err);

/* Do most of the sentinels say that the master is where the link is connected to? Asked before each step that a token
 * guards: a master that was deposed and does not know it has its clients, but no majority. */
int redis_sentinel_confirm(struct redis_link *link, struct err *err);

/* ---- store_redis_replica.c ---- */

/* Is it a master that we are connected to? */
int redis_check_role(struct redis_link *link, struct redis_deadline deadline, struct err *err);

/* What this connection has written is on a replica, or there is none, or this is no store->replicated. Else it is
 * ERR_UNAVAILABLE and the end of the connection: the next one may lead to another master. */
int redis_confirm(struct redis_link *link, struct err *err);

/* ---- store_redis.c ---- */

/* A store like the one wanted, whose addresses it takes over, and options. */
int redis_store_open(struct store **out, const struct redis_store *wanted,
    const struct store_options *options, struct err *err);
void redis_store_close(struct store *store);
int redis_ping(struct store_link *link, struct err *err);

/* ---- store_redis_table.c ---- */

void redis_arg_global(struct redis_link *link, const char *what); /* the key {P}:what */
/* Begin a call of a script on keys {P}:...; its arguments (args of them) follow. */
void redis_eval(
    struct redis_link *link, const char *script, const char *const *keys, size_t key_count, size_t args);
/* The integer that a script returns. */
int redis_eval_number(struct redis_link *link, long long *result, struct err *err);

int redis_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err);
int redis_generations(struct store_link *link, struct store_rows *rows, struct err *err);
int redis_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err);
int redis_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err);
int redis_unlock(struct store_link *link, uint64_t token, struct err *err);
int redis_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err);
int redis_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err);

/* The steps of a drop that concern its row: before its keys go it says building, afterwards it is gone. */
int redis_drop_begin(struct redis_link *link, uint64_t token, const char *generation, struct err *err);
int redis_drop_end(struct redis_link *link, uint64_t token, const char *generation, struct err *err);

/* ---- store_redis_data.c ---- */

/* The element for a kind. */
size_t *redis_value_bytes(size_t bytes[REDIS_KINDS], enum store_kind kind);

/* One step of a walk over the keys that begin with base: at most some hundreds of them, some perhaps for the
 * second time. The cursor begins as "0" and is "0" again after the last step. keys is the reply's array. */
#define REDIS_CURSOR_MAX 24
int redis_scan_step(struct redis_link *link, const struct store_key *base, char cursor[REDIS_CURSOR_MAX],
    redisReply **out, struct err *err);

/* Tell the ids behind base that are not in `seen`, until all are told (*whole), fn ends it, or, after a step at least, the time
 * has come. */
int redis_scan_until(struct redis_link *link, const struct store_key *base, struct id_map *seen,
    int64_t until_ms, store_id_fn *fn, void *ctx, bool *whole, struct err *err);

int redis_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err);
int redis_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err);
int redis_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err);
/* Write the command that reads a head. */
void redis_write_head(struct redis_link *link, const struct store_key *key, size_t bytes);
int redis_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err);

/* count commands, which write writes one by one; each answer is of the type expected. */
typedef void redis_write_fn(struct redis_link *link, const void *ctx, size_t index);
int redis_write_all(struct redis_link *link, size_t count, redis_write_fn *write, const void *ctx,
    int expected, const char *command, struct err *err);

/* ---- store_redis_stream.c ---- */

/* Is the reply an array of at most so many entries? Each is an array of its place, which is shorter than STORE_CURSOR_MAX,
 * and its fields, name and value in turn. */
bool redis_is_entries(const redisReply *reply, size_t most);
/* The first place behind one. False: it is none. */
bool redis_next_place(char out[STORE_CURSOR_MAX], const char *place);

/* Write the command that appends a change, or a click. */
void redis_write_change(
    struct redis_link *link, const struct store_key *stream, const struct store_change *change);
void redis_write_click(
    struct redis_link *link, const struct store_key *stream, const struct store_click *click);

int redis_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err);
int redis_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err);
int redis_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err);
int redis_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err);
int redis_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err);
int redis_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err);
int redis_clicks_trim(struct store_link *link, const char *cursor, struct err *err);

/* ---- store_redis_work.c ---- */

/* What is done on the one node that has the keys {P}:... May be called again where a cluster redirects it. */
typedef int redis_step_fn(struct redis_link *link, void *ctx, struct err *err);

extern const struct store_work_backend redis_work;

/* ---- store_redis_inspect.c ---- */

extern const struct store_inspect_backend redis_inspect;
/* Add what the server says of itself. */
int redis_inspect_server(struct redis_link *link, struct store_inspection *out, struct err *err);
/* Who holds the lock; ctx is the struct store_inspection. */
int redis_inspect_lock(struct redis_link *link, void *ctx, struct err *err);
/* Write a key that goes by itself, and take it away. */
int redis_probe_step(struct redis_link *link, void *ctx, struct err *err);

/* ---- store_redis_shadow.c: on the one node that has the keys {P}:..., as is the queue of work ---- */

int redis_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err);
int redis_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err);

#endif
