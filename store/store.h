/* Matrices by generation, behind one interface, chosen by URL:
 *
 *     lmdb:PATH                          embedded; PATH is a folder, made if it is missing
 *     redis://[user@]host:port/db        redis+unix:PATH  (db by ?db=N)
 *     redis+sentinel://[user@]host:port,host:port/name    the master that these sentinels call by the name (?db=N)
 *     redis+cluster://[user@]host:port,host:port          the cluster that these nodes are of
 *
 *     struct store *store;
 *     struct store_link *link;
 *     store_open(&store, "lmdb:/var/lib/embsum/store", &options, &err);
 *     store_connect(&link, store, &err);
 *     store_get(link, generation, STORE_USER, &id, 1, take_value, &ctx, &err);
 *
 * A struct store is shared by all threads. A struct store_link belongs to one thread: it holds that thread's
 * connection or transaction. Links are closed before their store.
 *
 * Every call returns 0 or a negative enum err_code. ERR_UNAVAILABLE means that the store did not answer
 * inside its deadline, or refused; the link heals itself on a later call (with back-off, which is short where
 * another link of this store has had an answer since), the caller just tries again. A write that returns it may have been done: values, commits and drops may be repeated, changes and
 * clicks may then come twice, and a lock taken without our knowing keeps everybody out until its time is over.
 *
 * A callback may not use the link that calls it. A store does not survive a fork.
 *
 * A generation is one complete set of matrices made by one model. Its keys, P being the prefix:
 *
 *     {P}:live               the live generation's name
 *     {P}:generations        all known ones with state and token
 *     {P}:lock, {P}:token    the writers' lock, the newest token handed out
 *     P:<gen>:manifest       JSON, see store/manifest.h
 *     P:<gen>:w              W_s, blob
 *     P:<gen>:u:<user>       A, blob
 *     P:<gen>:c:<content>    B, blob
 *     P:<gen>:s:<user>       the summary text
 *     P:<gen>:k:<category>   the ids of the category's contents, see store/category.h
 *     P:<gen>:t:<content>    the content's title
 *     P:<gen>:x:u:<user>     what each of the user's codes looks at: {"codes": [[["N5", 0.41], ["", 0.2]], ...]}, the items
 *                            that weigh most for each of the m codes ("" is the summary's state), as one line of JSON
 *     P:<gen>:x:c:<content>  the same of the content's n codes: text pieces of its tokens. Both only where the generation
 *                            was made with explanations
 *     P:<gen>:journal        what a refresh inside the generation has in hand
 *     {P}:<gen>:changes      the stream of changed ids
 *     {P}:<gen>:shadow       how it ranks beside the live one: a hash on Redis, "LIVE SUM SUM ..." on LMDB
 *
 * Outside of generations, so that they outlive each of them:
 *
 *     P:shared:h:<user>      what the user has clicked
 *     {P}:clicks             the stream of clicks that have not been taken into histories
 *     {P}:work, {P}:work:job, {P}:work:done    a queue of work, see store/store_work.h
 */
#ifndef EMBSUM_STORE_STORE_H
#define EMBSUM_STORE_STORE_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_GENERATION_MAX 64 /* bytes of a generation's name, with the NUL */
#define STORE_CURSOR_MAX 48
#define STORE_TITLE_MAX 1024 /* bytes of a title, which is UTF-8 */
#define STORE_SHARED                                                                                         \
    "shared" /* stands for the generation where kind is STORE_HISTORY; no generation has this name */

struct store;
struct store_link;

/* Why a call has failed with ERR_UNAVAILABLE. */
enum store_fault {
    STORE_OTHER,
    STORE_CONNECT,  /* no connection, or none in time */
    STORE_TIMEOUT,  /* no answer in time */
    STORE_IO,       /* the connection broke */
    STORE_LOADING,  /* the server is reading its own files */
    STORE_READONLY, /* it is a replica, and was to write */
    STORE_NOAUTH,   /* it does not let us in */
    STORE_OOM,      /* it has no memory for a write */
    STORE_MISCONF,  /* it cannot save, and takes no writes */
    STORE_PAUSED,   /* nobody was asked: the next attempt is not due yet */
    STORE_FAULTS
};
const char *store_fault_name(enum store_fault fault); /* "other", "connect", ... */

struct store_options {
    const char *prefix;     /* NULL: "embsum"; else 1 to 63 letters, digits, dots, dashes, underscores */
    const char *password;   /* NULL: none; copied */
    int connect_timeout_ms; /* until connected and authenticated; looking up a name comes on top */
    int command_timeout_ms; /* for each answer; a long call takes many, one after the other */
    int retry_min_ms, retry_max_ms; /* back-off between attempts to reconnect */
    bool read_only; /* refuse writes but store_shadow_add (ERR_INVALID), and do not create what is missing */
};

#define STORE_OPTIONS_INIT                                                                                   \
    {                                                                                                        \
        NULL, NULL, 1000, 1000, 50, 2000, false                                                              \
    }

/* The last letter(s) of a key inside a generation. */
enum store_kind {
    STORE_USER = 'u',
    STORE_CONTENT = 'c',
    STORE_SUMMARY = 's',
    STORE_CATEGORY = 'k',
    STORE_TITLE = 't', /* by content */
    STORE_WHY = 'x',   /* by "u:" and a user, "c:" and a content */
    STORE_SCORE_PROJ = 'w',
    STORE_MANIFEST = 'm',
    STORE_JOURNAL = 'j',
    STORE_HISTORY = 'h' /* in STORE_SHARED alone, and nothing else is there */
};

struct store_id {
    const char
        *id; /* empty for STORE_SCORE_PROJ, STORE_MANIFEST and STORE_JOURNAL, and for the default user */
    size_t len;
};

struct store_entry {
    struct store_id id;
    const void *data;
    size_t len;
};

/* What an id of a kind may be: an id (core/id.h), for users and summaries (not for histories) also the empty one, for
 * categories the name of one, for STORE_WHY "u:" and what a user may be or "c:" and what a content may be, for W_s, the
 * manifest and the journal the empty one alone. ERR_INVALID says what is wrong. */
int store_id_check(enum store_kind kind, const char *id, size_t len, struct err *err);

enum store_state { STORE_BUILDING, STORE_READY, STORE_LIVE, STORE_RETIRED };
const char *store_state_name(enum store_state state);

struct store_generation {
    char name[STORE_GENERATION_MAX];
    enum store_state state;
    uint64_t token; /* of the writer that made it */
};

/* options may be NULL. Opening does not need the store to be there: a daemon may start before its Redis, and
 * with read_only before the folder of an embedded store is made. Until then calls return ERR_UNAVAILABLE, or
 * ERR_NOT_FOUND for a folder. NULL may be closed and disconnected. */
int store_open(struct store **out, const char *url, const struct store_options *options, struct err *err);
void store_close(struct store *store);
int store_connect(struct store_link **out, struct store *store, struct err *err);
void store_disconnect(struct store_link *link);
int store_ping(struct store_link *link, struct err *err);

/* Of the link's last call that failed with ERR_UNAVAILABLE. */
enum store_fault store_fault(const struct store_link *link);

/* ---- reading ---- */

/* The live generation's name. ERR_NOT_FOUND if none is live. */
int store_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err);

/* All known generations, oldest name first, in a malloc'ed array that the caller frees. */
int store_generations(struct store_link *link, struct store_generation **out, size_t *count, struct err *err);

/* Called once for each index, in any order; data is NULL where the key is not there, and is valid during the
 * call only. A non-zero return ends the call, which returns it. */
typedef int store_value_fn(void *ctx, size_t index, const void *data, size_t len);

/* Read many keys of one kind. Values that are not there are no error. Ids are checked: ERR_INVALID before the
 * first call of fn. When a call fails after fn was called, what fn got was right all the same. */
int store_get(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, store_value_fn *fn, void *ctx, struct err *err);

/* The same, but only the first `bytes` bytes (at least 1) of each value, all of it where it is shorter: whoever wants a
 * blob's header need not read its matrix. A value that is there but empty counts as one that is not: Redis's GETRANGE
 * does not tell them apart. */
int store_get_head(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, size_t bytes, store_value_fn *fn, void *ctx, struct err *err);

/* store_get for a caller who decides bit by bit what to read: next writes at most `most` ids, which stay as they are until
 * fn has had their values, and returns how many. It is asked before fn gets to work on what has come, so that more is on
 * its way meanwhile. 0 is none for now; the call ends when nothing is left to come. fn is called in the order of the ids,
 * which the index counts. An id that is none ends the call like a failure. */
typedef size_t store_next_fn(void *ctx, struct store_id *ids, size_t most);
int store_stream(struct store_link *link, const char *generation, enum store_kind kind, store_next_fn *next,
    store_value_fn *fn, void *ctx, struct err *err);

/* Each id of a kind (users, contents, summaries, categories, titles, explanations, histories) in a generation, once, in no particular order. An id that was
 * there during the whole call is not left out. A non-zero return of fn ends the call, which returns it. */
typedef int store_id_fn(void *ctx, const char *id, size_t len);
int store_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err);

/* ---- writing ---- */

/* Write values, over those that are there. Each value is written whole or not at all; a call that fails may have
 * written some of them. */
int store_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err);

/* Delete values; one that is not there is no error. A call that fails may have deleted some of them. */
int store_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err);

/* One writer at a time. A lock lasts ttl_ms unless renewed; its token is larger than every token before it.
 * ERR_BUSY if another holds it, ERR_FENCED if ours has passed to another. A lock whose time is over may still be
 * renewed and given back as long as nobody else has taken it. */
int store_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err);
int store_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err);
int store_unlock(struct store_link *link, uint64_t token, struct err *err);

/* In one atomic step, and only if token is the newest that was ever handed out (ERR_FENCED otherwise):
 * set the rows of the generations table and, unless live is NULL, the live pointer. */
int store_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err);

/* Delete all keys of a generation, then its row; one that nobody knows is no error. ERR_INVALID if it is live,
 * ERR_FENCED as above, but not where there is no row: a writer that was paused while another took over may have written
 * into the generation after it was dropped, and clears that away itself. While keys are going the row says building, so that nobody makes the generation live and
 * the next writer drops what a killed one left. Safe to repeat. */
int store_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err);

/* ---- the stream of changed ids inside a generation ---- */

struct store_change {
    enum store_kind kind; /* STORE_USER, STORE_CONTENT or STORE_CATEGORY */
    struct store_id id;
};

/* Append changes in their order. The stream lives as long as its generation. */
int store_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err);

/* Call fn for each change behind the cursor, at most max of them. The cursor moves past each change for which fn
 * returned 0; any other return ends the call, which returns it. "" is the beginning, whatever has been trimmed;
 * ERR_INVALID for text that is no cursor of this store. ERR_NOT_FOUND: changes behind the cursor have been trimmed
 * before they were read (or nobody can tell: on Redis, if the cursor's own change is gone). What was derived from the
 * changes is to be made anew then. */
typedef int store_change_fn(void *ctx, const struct store_change *change);
int store_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err);

/* The cursor behind the last change; "" if there is none. */
int store_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err);

/* Forget the oldest changes, so that the newest `keep` (at least 1) stay. A generation may live for months; those who
 * follow it look every few seconds. */
int store_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err);

/* ---- the shadow: how a generation ranks what another one, the live one, ranks ----
 *
 * Sums of what any number of daemons have compared. They live as long as the generation, and are of one live generation:
 * who adds what was compared with another begins anew.
 */

enum store_shadow_sum {
    STORE_SHADOW_REQUESTS, /* ranked on both */
    STORE_SHADOW_RANKINGS, /* of these, one for each user that they asked for */
    STORE_SHADOW_SHARED,   /* among the 10 best of a ranking, those that both have there */
    STORE_SHADOW_TAUS,     /* rankings that have a tau-b: some ties nothing but */
    STORE_SHADOW_TAU,      /* the sum of these, in millionths */
    STORE_SHADOW_DIFFERENCES, /* rankings whose live scores differ, and by how much the others' scores are off, in standard */
    STORE_SHADOW_DIFFERENCE, /* deviations of the live ones, summed, in millionths */
    STORE_SHADOW_BOTH, /* candidates that both have, that the live one alone has, that the other alone has */
    STORE_SHADOW_LIVE_ALONE,
    STORE_SHADOW_ALONE,
    STORE_SHADOW_SUMS
};

struct store_shadow {
    char live[STORE_GENERATION_MAX]; /* what was compared with; "": nothing was yet */
    int64_t sums[STORE_SHADOW_SUMS];
};
const char *store_shadow_name(enum store_shadow_sum sum); /* "requests", "rankings", ... */

/* Add to a generation's sums, in one atomic step. Allowed also where the store was opened for reading. ERR_NOT_FOUND: there is
 * no such generation, or it is being dropped. Who may not write gets ERR_IO (LMDB) or ERR_UNAVAILABLE (see store_fault).
 * ERR_UNAVAILABLE: it may have been done. */
int store_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err);

/* Zeros where nothing was added. */
int store_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err);

/* ---- the stream of clicks ----
 *
 * Who shows the ranking appends, with store_clicks_append() or, on Redis, by a plain
 *
 *     XADD {embsum}:clicks * user U1 item N5
 *
 * One reader takes the clicks into histories (STORE_HISTORY) and then trims what it has taken, for which Redis has to be 6.2
 * or later. Neither belongs to a generation.
 */

struct store_click {
    struct store_id user, item;
};

/* Append clicks in their order. ERR_INVALID if an id is none, before anything is written. */
int store_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err);

/* As store_changes_read(), but that what has been trimmed is not missed: the reader itself has trimmed it. cursor is the
 * click's own place. An entry that is no click (other fields, in another order, ids that are none) is handed over with
 * both ids empty, so that it can be counted, and does not stop the reading. */
typedef int store_click_fn(void *ctx, const struct store_click *click, const char *cursor);
int store_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err);

/* Forget the clicks up to and including the one at the cursor, which came from store_clicks_read(). What is appended
 * meanwhile stays, and later clicks have later places, even where none is left. "" forgets nothing. */
int store_clicks_trim(struct store_link *link, const char *cursor, struct err *err);

/* The order of two cursors of one stream: negative, 0 or positive, as strcmp's. "" comes first. */
int store_cursor_compare(const char *a, const char *b);

#endif
