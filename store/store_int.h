/* What store.c shares with the backends: the table of functions that a backend fills, the text of keys and
 * of rows. Arguments reach a backend checked; it makes its keys with store_key_* alone, so that an operator
 * finds the same names with redis-cli and with mdb_dump.
 */
#ifndef EMBSUM_STORE_STORE_INT_H
#define EMBSUM_STORE_STORE_INT_H

#include "core/id.h"
#include "store/store.h"
#include "store/store_inspect.h"
#include "store/store_work.h"

#define STORE_PREFIX_MAX 64 /* with the NUL */
#define STORE_KEY_MAX (STORE_PREFIX_MAX + STORE_GENERATION_MAX + 16 + ID_MAX)

struct store {
    const struct store_backend *backend;
    char prefix[STORE_PREFIX_MAX];
    bool read_only;
};

struct store_link {
    struct store *store;
    enum store_fault fault; /* of the last call that failed with ERR_UNAVAILABLE */
};

/* ---- rows of the generations table: the value is "ready 17", state and token ---- */

#define STORE_ROW_MAX 40

struct store_rows {
    struct store_generation *at;
    size_t count, size;
};

void store_row_format(char out[STORE_ROW_MAX], const struct store_generation *row);
/* Parse and append one row. ERR_CORRUPT names the generation whose row is damaged. */
int store_rows_add(struct store_rows *rows, const char *name, size_t name_len, const char *value, size_t len,
    struct err *err);

/* A decimal number without sign, blank or leading zero. */
bool store_number_parse(uint64_t *out, const char *text, size_t len);

/* Is text[0..len) a word of the alphabet of generations and prefixes, 1 to 63 bytes of [A-Za-z0-9._-]? No
 * colon, so that no generation's keys lie below another's; nothing that SCAN's MATCH takes for a pattern. */
bool store_name_valid(const char *text, size_t len);
/* Copy a name that came out of the store. ERR_CORRUPT if it is none; what says where it stood. */
int store_name_copy(
    char out[STORE_GENERATION_MAX], const char *text, size_t len, const char *what, struct err *err);

/* May an entry of the stream of changes be of this kind? */
static inline bool store_kind_changes(int kind)
{
    return kind == STORE_USER || kind == STORE_CONTENT || kind == STORE_CATEGORY;
}

/* A click of these two; of two empty ones if either is none. */
struct store_click store_click_of(struct store_id user, struct store_id item);

/* Is a generation of this row one that may be ranked on? What is building may be going. */
bool store_row_complete(const char *row, size_t len);

/* A sum of a generation's shadow: a decimal number, perhaps negative. */
bool store_shadow_parse(int64_t *out, const char *text, size_t len);

/* ---- keys ---- */

struct store_key {
    size_t len;
    char text[STORE_KEY_MAX];
};

void store_key_global(struct store_key *key, const struct store *store, const char *what); /* {P}:what */
void store_key_changes(struct store_key *key, const struct store *store, const char *generation);
void store_key_shadow(struct store_key *key, const struct store *store, const char *generation);
/* What all keys of a generation begin with, but for its changes. */
void store_key_generation(struct store_key *key, const struct store *store, const char *generation);
/* The key of a manifest or W_s; of the other kinds what their keys begin with, "P:<gen>:u:". */
void store_key_kind(
    struct store_key *key, const struct store *store, const char *generation, enum store_kind kind);
/* Put text behind a key. */
void store_key_append(struct store_key *key, const char *text, size_t len);

/* ---- a backend ---- */

/* The functions of store_work.h, which says what each does. close has "" for whose ever queue it is. */
struct store_work_backend {
    int (*open)(struct store_link *link, const char *job, struct err *err);
    int (*close)(struct store_link *link, const char *job, struct err *err);
    int (*add)(struct store_link *link, const char *job, const void *unit, size_t len, struct err *err);
    int (*results)(struct store_link *link, const char *job, size_t *untaken, store_work_result_fn *fn,
        void *ctx, struct err *err);
    int (*look)(struct store_link *link, const char *job, struct store_work_state *out, struct err *err);
    int (*job)(struct store_link *link, char **job, struct err *err);
    int (*take)(struct store_link *link, const char *taker, int idle_ms, store_work_unit_fn *fn, void *ctx,
        struct err *err);
    int (*keep)(struct store_link *link, const char *taker, const char *place, struct err *err);
    int (*done)(struct store_link *link, const char *place, const void *result, size_t len, struct err *err);
};

/* The functions of store_inspect.h, which says what each does. */
struct store_inspect_backend {
    int (*inspect)(struct store_link *link, struct store_inspection *out, struct err *err);
    int (*probe)(struct store_link *link, struct err *err);
    int (*sample)(struct store_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
        store_id_fn *fn, void *ctx, bool *whole, struct err *err);
};

struct store_backend {
    /* address is the URL behind its scheme; out->backend, prefix and read_only are filled in by the caller.
     */
    int (*open)(
        struct store **out, const char *address, const struct store_options *options, struct err *err);
    void (*close)(struct store *store);
    int (*connect)(struct store_link **out, struct store *store, struct err *err);
    void (*disconnect)(struct store_link *link);
    int (*ping)(struct store_link *link, struct err *err);
    int (*live)(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err);
    int (*generations)(struct store_link *link, struct store_rows *rows, struct err *err);
    /* head: so many bytes of each value, and an empty one is none; 0: all of it */
    int (*stream)(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
        store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err);
    int (*scan)(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
        void *ctx, struct err *err);
    int (*put)(struct store_link *link, const char *generation, enum store_kind kind,
        const struct store_entry *entries, size_t count, struct err *err);
    int (*remove)(struct store_link *link, const char *generation, enum store_kind kind,
        const struct store_id *ids, size_t count, struct err *err);
    int (*lock)(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err);
    int (*renew)(struct store_link *link, uint64_t token, int ttl_ms, struct err *err);
    int (*unlock)(struct store_link *link, uint64_t token, struct err *err);
    int (*commit)(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
        const char *live, struct err *err);
    int (*drop)(struct store_link *link, uint64_t token, const char *generation, struct err *err);
    int (*changes_append)(struct store_link *link, const char *generation, const struct store_change *changes,
        size_t count, struct err *err);
    int (*changes_read)(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
        size_t max, store_change_fn *fn, void *ctx, struct err *err);
    int (*changes_end)(
        struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err);
    int (*changes_trim)(struct store_link *link, const char *generation, size_t keep, struct err *err);
    int (*clicks_append)(
        struct store_link *link, const struct store_click *clicks, size_t count, struct err *err);
    int (*clicks_read)(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
        void *ctx, struct err *err);
    int (*clicks_trim)(struct store_link *link, const char *cursor, struct err *err);
    int (*shadow_add)(
        struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err);
    /* *out comes zeroed */
    int (*shadow_get)(
        struct store_link *link, const char *generation, struct store_shadow *out, struct err *err);
    const struct store_work_backend *work; /* NULL: it has no queues */
    const struct store_inspect_backend *inspect;
};

extern const struct store_backend store_lmdb;
extern const struct store_backend store_redis_tcp, store_redis_unix, store_redis_sentinel,
    store_redis_cluster;

/* What the door checks. A generation's name is none of STORE_SHARED. */
int store_check_generation(const char *name, struct err *err);
int store_check_writable(const struct store_link *link, struct err *err);
int store_check_scan(const char *generation, enum store_kind kind, struct err *err);

int64_t store_now_ms(void); /* CLOCK_MONOTONIC */

/* The refusals that all backends word alike. */
int store_err_fenced(struct err *err, uint64_t token);
int store_err_busy(struct err *err, uint64_t holder, int64_t left_ms); /* left_ms < 0: it has no end */
int store_err_live(struct err *err, const char *generation);
int store_err_no_live(struct err *err);
int store_err_cursor(struct err *err, const char *cursor);
int store_err_trimmed(struct err *err, const char *generation);
int store_err_unknown(struct err *err, const char *generation);
int store_err_shadow(struct err *err, const char *generation);

#endif
