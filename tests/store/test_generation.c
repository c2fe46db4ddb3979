/* The life of generations, run over every backend: writing, publishing, going back, fencing, verification. */
#include "store/generation.h"
#include "store/lease.h"
#include "tests/lib/stores.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { M = 3, N = 2, D = 5, USERS = 7, CONTENTS = 11 };

static const struct test_world *world;

struct fixture {
    struct store *store;
    struct store_link *link;
};

static int setup(void **state)
{
    struct fixture *const f = calloc(1, sizeof *f);
    f->store = test_store_open(world, NULL, false);
    assert_int_equal(store_connect(&f->link, f->store, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *const f = *state;
    store_disconnect(f->link);
    store_close(f->store);
    free(f);
    return 0;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

#define ok(call) check_ok(call, #call, &err, __LINE__)
static void check_ok(int rc, const char *call, const struct err *err, int line)
{
    if (rc != 0)
        fail_msg("line %d: %s returned %d: %s", line, call, rc, err->message);
}

/* ---- writing a small generation ---- */

static float value_at(enum blob_kind kind, size_t number, size_t i)
{
    return (kind == BLOB_USER ? 0.5f : -0.5f) + (float)number * 0.5f + (float)i * 0.25f;
}

static void put(
    struct generation_writer *writer, enum blob_kind kind, const char *id, size_t number, size_t rows)
{
    float matrix[M * D + N * D + D * D];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < rows * D; i++)
        matrix[i] = value_at(kind, number, i);
    ok(generation_put_matrix(writer, kind, id, strlen(id), 1000 + number, matrix, rows, D, &err));
}

static void put_all(struct generation_writer *writer)
{
    char id[16];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < USERS; i++) {
        snprintf(id, sizeof id, i ? "U%zu" : "", i); /* the first is the default user */
        put(writer, BLOB_USER, id, i, M);
        ok(generation_put_summary(writer, id, strlen(id), "likes tests", 11, &err));
    }
    for (size_t i = 0; i < CONTENTS; i++) {
        snprintf(id, sizeof id, "N%zu", i);
        put(writer, BLOB_CONTENT, id, i, N);
    }
    put(writer, BLOB_SCORE_PROJ, "", 0, D);
}

static struct manifest dimensions(void)
{
    return (struct manifest){.m = M, .n = N, .d = D};
}

/* Write and finish one; publish it if asked. */
static void make(struct store *store, enum blob_dtype dtype, bool publish, char name[STORE_GENERATION_MAX])
{
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    ok(generation_begin(&writer, store, dtype, &err));
    put_all(writer);
    ok(generation_finish(writer, &manifest, &err));
    if (publish)
        ok(generation_publish(writer, &err));
    snprintf(name, STORE_GENERATION_MAX, "%s", generation_name(writer));
    generation_end(writer);
}

/* ---- looking ---- */

static int state_of(struct store_link *link, const char *name, uint64_t *token)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    int state = -1;
    struct err err = ERR_INIT;
    ok(store_generations(link, &rows, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0) {
            state = (int)rows[i].state;
            if (token)
                *token = rows[i].token;
        }
    free(rows);
    return state;
}

static void assert_live(struct store_link *link, const char *name)
{
    char live[STORE_GENERATION_MAX];
    struct err err = ERR_INIT;
    ok(store_live(link, live, &err));
    assert_string_equal(live, name);
    assert_int_equal(state_of(link, name, NULL), STORE_LIVE);
}

static int count_id(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    ++*(size_t *)ctx;
    return 0;
}

static size_t key_count(struct store_link *link, const char *generation)
{
    static const enum store_kind kinds[] = {STORE_USER, STORE_CONTENT, STORE_SUMMARY};
    size_t count = 0;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < 3; i++)
        ok(store_scan(link, generation, kinds[i], count_id, &count, &err));
    return count;
}

struct decoded {
    struct blob_spec spec;
    float matrix[D * D];
    enum blob_reason reason;
};

static int decode(void *ctx, size_t index, const void *data, size_t len)
{
    struct decoded *const decoded = ctx;
    (void)index;
    assert_non_null(data);
    decoded->reason = blob_decode(decoded->matrix, &decoded->spec, data, len);
    return 0;
}

/* ---- a writer's life ---- */

static void test_writer(void **state)
{
    struct fixture *const f = *state;
    struct generation_writer *writer = NULL, *second = NULL;
    struct manifest manifest = dimensions(), read;
    struct err err = ERR_INIT;
    char first[STORE_GENERATION_MAX];
    make(f->store, BLOB_F32, true, first);
    assert_live(f->link, first);

    ok(generation_begin(&writer, f->store, BLOB_BF16, &err));
    const char *const name = generation_name(writer);
    assert_int_equal(strlen(name), strlen("20261124T030000Z-9f3c2a1b"));
    assert_int_equal(state_of(f->link, name, NULL), STORE_BUILDING);
    assert_int_equal(generation_begin(&second, f->store, BLOB_F32, &err), -ERR_BUSY);
    assert_int_equal(generation_promote(f->store, first, &err), -ERR_BUSY);
    put_all(writer);
    assert_int_equal(generation_publish(writer, &err), -ERR_INVALID);
    ok(generation_finish(writer, &manifest, &err));
    assert_int_equal(state_of(f->link, name, NULL), STORE_READY);
    assert_live(f->link, first);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_INVALID);
    assert_int_equal(generation_put_summary(writer, "U", 1, "", 0, &err), -ERR_INVALID);
    ok(generation_publish(writer, &err));
    assert_live(f->link, name);
    assert_int_equal(state_of(f->link, first, NULL), STORE_RETIRED);
    ok(generation_publish(writer, &err)); /* again, as after a lost reply */
    assert_live(f->link, name);

    ok(manifest_get(&read, f->link, name, &err));
    assert_int_equal(read.m, M);
    assert_int_equal(read.n, N);
    assert_int_equal(read.d, D);
    assert_int_equal(read.users, USERS);
    assert_int_equal(read.contents, CONTENTS);
    assert_int_equal(read.dtype, BLOB_BF16);
    assert_string_equal(read.previous, first);
    assert_true(time(NULL) - read.created < 60);
    assert_int_equal(manifest.users, USERS); /* filled in for the caller too */

    struct decoded decoded = {{BLOB_CONTENT, BLOB_F32, N, D, name, "N3", 2}, {0}, BLOB_BAD_MAGIC};
    const struct store_id id = {"N3", 2};
    ok(store_get(f->link, name, STORE_CONTENT, &id, 1, decode, &decoded, &err));
    assert_int_equal(decoded.reason, BLOB_OK);
    for (size_t i = 0; i < N * D; i++)
        assert_true(decoded.matrix[i] == value_at(BLOB_CONTENT, 3, i)); /* all are exact in bfloat16 */
    assert_int_equal(key_count(f->link, name), 2 * USERS + CONTENTS);
    generation_end(writer);
    generation_end(NULL);
    assert_int_equal(key_count(f->link, first), 2 * USERS + CONTENTS);
}

static void test_not_found(void **state)
{
    struct fixture *const f = *state;
    struct manifest manifest;
    struct generation_check check;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX] = "untouched";
    assert_int_equal(manifest_get(&manifest, f->link, "g", &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "generation g"));
    assert_int_equal(generation_verify(&check, f->link, "g", NULL, NULL, &err), -ERR_NOT_FOUND);
    assert_int_equal(generation_promote(f->store, "g", &err), -ERR_NOT_FOUND);
    assert_int_equal(generation_drop(f->store, "g", &err), -ERR_NOT_FOUND);
    assert_int_equal(generation_rollback(f->store, name, &err), -ERR_NOT_FOUND);
    assert_string_equal(name, "untouched");
    ok(generation_prune(f->store, 0, &err));
}

/* More than one buffer, and one value larger than a buffer. */
static void test_large(void **state)
{
    struct fixture *const f = *state;
    enum { ROWS = 64, COLS = 512, COUNT = 100, BIG = 1600 };
    struct generation_writer *writer = NULL;
    struct manifest manifest = {.m = ROWS, .n = 1, .d = COLS};
    struct generation_check check;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX], id[16];
    float *const matrix = calloc(BIG * BIG, sizeof *matrix);
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    for (size_t i = 0; i < COUNT; i++) {
        matrix[i] = (float)i;
        snprintf(id, sizeof id, "U%zu", i);
        ok(generation_put_matrix(writer, BLOB_USER, id, strlen(id), 0, matrix, ROWS, COLS, &err));
        ok(generation_put_matrix(writer, BLOB_CONTENT, id, strlen(id), 0, matrix, 1, COLS, &err));
    }
    ok(generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 0, matrix, COLS, COLS, &err));
    ok(generation_finish(writer, &manifest, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    generation_end(writer);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    assert_int_equal(check.users, COUNT);
    assert_int_equal(
        check.bytes, COUNT * (64 + 4 * ROWS * COLS) + COUNT * (64 + 4 * COLS) + 64 + 4 * COLS * COLS);

    manifest = (struct manifest){.m = 1, .n = 1, .d = BIG}; /* a W_s of 10 MB */
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    ok(generation_put_matrix(writer, BLOB_USER, "U", 1, 0, matrix, 1, BIG, &err));
    ok(generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 0, matrix, BIG, BIG, &err));
    ok(generation_put_matrix(writer, BLOB_CONTENT, "N", 1, 0, matrix, 1, BIG, &err));
    ok(generation_finish(writer, &manifest, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    generation_end(writer);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    free(matrix);
}

/* Everything that a writer refuses; the generation then goes with its writer. */
static void test_refusals(void **state)
{
    struct fixture *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    const float one[M * D] = {1}, bad[M * D] = {0, __builtin_nanf("")};
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    put(writer, BLOB_USER, "U1", 1, M);
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "U2", 2, 0, one, 1, D, &err), -ERR_INVALID);
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "U2", 2, 0, one, D, M, &err), -ERR_INVALID);
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "U 2", 3, 0, one, M, D, &err), -ERR_INVALID);
    assert_int_equal(generation_put_matrix(writer, BLOB_CONTENT, "", 0, 0, one, N, D, &err), -ERR_INVALID);
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "U2", 2, 0, bad, M, D, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "U2"));
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "U2", 2, 0, one, 0, D, &err), -ERR_INVALID);
    assert_int_equal(
        generation_put_matrix(writer, BLOB_SCORE_PROJ, "W", 1, 0, one, 1, 1, &err), -ERR_INVALID);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "W_s"));
    put(writer, BLOB_SCORE_PROJ, "", 0, D);
    assert_int_equal(generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 0, one, 1, 1, &err), -ERR_INVALID);
    manifest.m = M + 1;
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_INVALID);
    manifest.m = M;
    manifest.d = D + 1;
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_INVALID);
    manifest.d = D;
    snprintf(manifest.model_sha256, sizeof manifest.model_sha256, "no hash");
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_CORRUPT);
    assert_int_equal(state_of(f->link, name, NULL), STORE_BUILDING);
    generation_end(writer);
    assert_int_equal(state_of(f->link, name, NULL), -1);
    assert_int_equal(key_count(f->link, name), 0);
}

static void test_put_twice(void **state)
{
    struct fixture *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    put_all(writer);
    put(writer, BLOB_CONTENT, "N1", 1, N);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "12 contents were put, the store holds 11"));
    generation_end(writer);
}

/* ---- killed and fenced writers ---- */

static void test_abandoned(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    char live[STORE_GENERATION_MAX], next[STORE_GENERATION_MAX];
    uint64_t token = 0;
    make(f->store, BLOB_F32, true, live);
    /* What a writer leaves that is killed while it builds, its lock's time over. */
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation row = {"20200101T000000Z-00000000", STORE_BUILDING, token};
    const struct store_entry entry = {{"U1", 2}, "x", 1};
    ok(store_commit(f->link, token, &row, 1, NULL, &err));
    ok(store_put(f->link, row.name, STORE_USER, &entry, 1, &err));
    ok(store_unlock(f->link, token, &err));
    assert_int_equal(generation_promote(f->store, row.name, &err), -ERR_INVALID);
    assert_live(f->link, live);
    make(f->store, BLOB_F32, false, next);
    assert_int_equal(state_of(f->link, row.name, NULL), -1);
    assert_int_equal(key_count(f->link, row.name), 0);
    assert_live(f->link, live);
    assert_int_equal(state_of(f->link, next, NULL), STORE_READY);
}

static void test_fenced(void **state)
{
    struct fixture *const f = *state;
    struct generation_writer *writer = NULL, *second = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char live[STORE_GENERATION_MAX], lost[STORE_GENERATION_MAX];
    uint64_t token = 0;
    make(f->store, BLOB_F32, true, live);
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(lost, sizeof lost, "%s", generation_name(writer));
    put_all(writer);
    /* Its lock goes as if it had slept past its time, and another writer comes. */
    assert_int_equal(state_of(f->link, lost, &token), STORE_BUILDING);
    ok(store_unlock(f->link, token, &err));
    ok(generation_begin(&second, f->store, BLOB_F32, &err));
    assert_int_equal(state_of(f->link, lost, NULL), -1);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_FENCED);
    assert_int_equal(state_of(f->link, lost, NULL), -1);
    assert_live(f->link, live);
    generation_end(writer);
    put_all(second);
    manifest = dimensions();
    ok(generation_finish(second, &manifest, &err));
    ok(generation_publish(second, &err));
    assert_live(f->link, generation_name(second));
    generation_end(second);
}

/* One that finished, slept, and wakes up to publish after a newer one was published. */
static void test_late_publish(void **state)
{
    struct fixture *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char newer[STORE_GENERATION_MAX];
    uint64_t token = 0;
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    put_all(writer);
    ok(generation_finish(writer, &manifest, &err));
    assert_int_equal(state_of(f->link, generation_name(writer), &token), STORE_READY);
    ok(store_unlock(f->link, token, &err));
    make(f->store, BLOB_F32, true, newer);
    assert_int_equal(generation_publish(writer, &err), -ERR_FENCED);
    assert_live(f->link, newer);
    assert_int_equal(state_of(f->link, generation_name(writer), NULL), STORE_READY);
    generation_end(writer);
}

static void test_lease(void **state)
{
    struct fixture *const f = *state;
    struct lease *lease = NULL;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    ok(lease_take(&lease, f->store, 300, &err));
    for (int i = 0; i < 6; i++) {
        sleep_ms(100);
        assert_int_equal(store_lock(f->link, 60000, &token, &err), -ERR_BUSY);
        ok(lease_check(lease, &err));
    }
    ok(store_unlock(f->link, lease_token(lease), &err));
    ok(store_lock(f->link, 60000, &token, &err));
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) {
        sleep_ms(20);
        rc = lease_check(lease, &err);
    }
    assert_int_equal(rc, -ERR_FENCED);
    lease_give(lease);
    assert_int_equal(
        lease_take(&lease, f->store, 300, &err), -ERR_BUSY); /* the other's lock was left alone */
    ok(store_unlock(f->link, token, &err));
    ok(lease_take(&lease, f->store, 300, &err));
    lease_give(lease);
    ok(lease_take(&lease, f->store, 300, &err));
    lease_give(lease);
}

/* ---- operators ---- */

static void test_operators(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    char names[5][STORE_GENERATION_MAX], back[STORE_GENERATION_MAX];
    make(f->store, BLOB_F32, true, names[0]);
    assert_int_equal(generation_rollback(f->store, back, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, names[0]));
    make(f->store, BLOB_F32, true, names[1]);
    make(f->store, BLOB_F32, false, names[2]);
    assert_live(f->link, names[1]);

    ok(generation_rollback(f->store, back, &err));
    assert_string_equal(back, names[0]);
    assert_live(f->link, names[0]);
    assert_int_equal(state_of(f->link, names[1], NULL), STORE_RETIRED);
    ok(generation_promote(f->store, names[2], &err));
    assert_live(f->link, names[2]);
    assert_int_equal(state_of(f->link, names[0], NULL), STORE_RETIRED);
    ok(generation_promote(f->store, names[2], &err)); /* live already */
    assert_live(f->link, names[2]);
    ok(generation_promote(f->store, names[1], &err));
    ok(generation_promote(f->store, names[2], &err));
    assert_int_equal(generation_drop(f->store, names[2], &err), -ERR_INVALID);
    ok(generation_drop(f->store, names[1], &err));
    assert_int_equal(state_of(f->link, names[1], NULL), -1);
    assert_int_equal(key_count(f->link, names[1]), 0);
    assert_int_equal(generation_rollback(f->store, back, &err), -ERR_NOT_FOUND); /* to the dropped one */
    assert_non_null(strstr(err.message, names[1]));
    assert_live(f->link, names[2]);
}

/* Names carry the second of their making alone, so that the order of several made at once is by chance: the
 * test gives its own. */
static void test_prune(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation rows[] = {{"g1", STORE_RETIRED, token}, {"g2", STORE_RETIRED, token},
        {"g3", STORE_READY, token}, {"g4", STORE_RETIRED, token}, {"g5", STORE_LIVE, token},
        {"g6", STORE_RETIRED, token}};
    const struct store_entry entry = {{"U1", 2}, "x", 1};
    for (size_t i = 0; i < 6; i++)
        ok(store_put(f->link, rows[i].name, STORE_USER, &entry, 1, &err));
    ok(store_commit(f->link, token, rows, 6, "g5", &err));
    ok(store_unlock(f->link, token, &err));
    ok(generation_prune(f->store, 4, &err));
    assert_int_equal(state_of(f->link, "g1", NULL), STORE_RETIRED);
    ok(generation_prune(f->store, 2, &err));
    assert_int_equal(state_of(f->link, "g1", NULL), -1);
    assert_int_equal(state_of(f->link, "g2", NULL), -1);
    assert_int_equal(key_count(f->link, "g2"), 0);
    assert_int_equal(state_of(f->link, "g4", NULL), STORE_RETIRED);
    assert_int_equal(state_of(f->link, "g6", NULL), STORE_RETIRED);
    ok(generation_prune(f->store, 0, &err));
    assert_int_equal(state_of(f->link, "g6", NULL), -1);
    assert_int_equal(state_of(f->link, "g3", NULL), STORE_READY);
    assert_int_equal(key_count(f->link, "g3"), 1);
    assert_live(f->link, "g5");
    assert_int_equal(key_count(f->link, "g5"), 1);
}

/* ---- verification ---- */

struct complaints {
    char text[1024]; /* "c N1 owner;" */
};

static void complain(void *ctx, enum store_kind kind, const char *id, const char *reason)
{
    struct complaints *const complaints = ctx;
    const size_t used = strlen(complaints->text);
    snprintf(complaints->text + used, sizeof complaints->text - used, "%c %s %s;", (char)kind, id, reason);
}

static void assert_verdict(struct store_link *link, const char *name, size_t bad, const char *complaint)
{
    struct complaints complaints = {""};
    struct generation_check check = {0};
    struct err err = ERR_INIT;
    const int rc = generation_verify(&check, link, name, complain, &complaints, &err);
    if (bad == 0)
        check_ok(rc, "generation_verify", &err, __LINE__);
    else
        assert_int_equal(rc, -ERR_CORRUPT);
    assert_int_equal(check.bad, bad);
    if (!strstr(complaints.text, complaint))
        fail_msg("\"%s\" is not among \"%s\"", complaint, complaints.text);
}

static int keep(void *ctx, size_t index, const void *data, size_t len)
{
    struct store_entry *const entry = ctx;
    (void)index;
    assert_non_null(data);
    void *const copy = malloc(len);
    memcpy(copy, data, len);
    entry->data = copy;
    entry->len = len;
    return 0;
}

/* Put the value of one id under another, one byte changed if asked. */
static void copy_value(struct store_link *link, const char *name, enum store_kind kind, const char *from,
    const char *to, bool damage)
{
    const struct store_id id = {from, strlen(from)};
    struct store_entry entry = {{to, strlen(to)}, NULL, 0};
    struct err err = ERR_INIT;
    ok(store_get(link, name, kind, &id, 1, keep, &entry, &err));
    unsigned char *const data = (unsigned char *)(uintptr_t)entry.data;
    if (damage)
        data[entry.len / 2 + 20] ^= 1;
    ok(store_put(link, name, kind, &entry, 1, &err));
    free(data);
}

static void test_verify(void **state)
{
    struct fixture *const f = *state;
    struct generation_check check;
    struct manifest manifest;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    make(f->store, BLOB_F16, true, name);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    assert_int_equal(check.users, USERS);
    assert_int_equal(check.contents, CONTENTS);
    assert_int_equal(check.bad, 0);
    assert_int_equal(check.bytes, USERS * (64 + 2 * M * D) + CONTENTS * (64 + 2 * N * D) + 64 + 2 * D * D);
    assert_verdict(f->link, name, 0, "");

    copy_value(f->link, name, STORE_CONTENT, "N1", "N2", false);
    assert_verdict(f->link, name, 1, "c N2 owner;");
    copy_value(f->link, name, STORE_USER, "U1", "U1", true);
    assert_verdict(f->link, name, 2, "u U1 check;");
    copy_value(f->link, name, STORE_USER, "", "", true);
    assert_verdict(f->link, name, 3, "u  check;");
    copy_value(f->link, name, STORE_SCORE_PROJ, "", "", true);
    assert_verdict(f->link, name, 4, "w  check;");
    const struct store_entry empty = {{"N3", 2}, "", 0};
    ok(store_put(f->link, name, STORE_CONTENT, &empty, 1, &err));
    assert_verdict(f->link, name, 5, "c N3 length;");

    /* A key too few: the manifest counts one more than there are. */
    ok(manifest_get(&manifest, f->link, name, &err));
    manifest.contents++;
    char *const json = manifest_dump(&manifest);
    const struct store_entry entry = {{"", 0}, json, strlen(json)};
    ok(store_put(f->link, name, STORE_MANIFEST, &entry, 1, &err));
    free(json);
    assert_verdict(f->link, name, 6, "c  count;");
    assert_int_equal(generation_verify(&check, f->link, name, NULL, NULL, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "11 of 12 contents"));
}

static void test_verify_no_score_proj(void **state)
{
    struct fixture *const f = *state;
    struct manifest manifest = {.m = M, .n = N, .d = D};
    struct err err = ERR_INIT;
    char *const json = manifest_dump(&manifest);
    const struct store_entry entry = {{"", 0}, json, strlen(json)};
    ok(store_put(f->link, "g", STORE_MANIFEST, &entry, 1, &err));
    free(json);
    assert_verdict(f->link, "g", 1, "w  missing;");
}

static void test_damaged_manifest(void **state)
{
    struct fixture *const f = *state;
    struct manifest manifest;
    struct err err = ERR_INIT;
    const struct store_entry entry = {{"", 0}, "{\"m\": 1}", 8};
    ok(store_put(f->link, "g", STORE_MANIFEST, &entry, 1, &err));
    assert_int_equal(manifest_get(&manifest, f->link, "g", &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "generation g: manifest: \"n\" is missing"));
}

static int run(const struct test_world *current)
{
    char name[64];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abandoned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fenced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_publish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(test_operators, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prune, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify_no_score_proj, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_manifest, setup, teardown),
    };
    world = current;
    snprintf(name, sizeof name, "generation, %s", world->name);
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return test_worlds(run);
}
