/* The life of generations, run over every backend: writing, publishing, going back, fencing. */
#include "store/lease.h"
#include "tests/lib/generations.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- looking ---- */

static size_t key_count(struct store_link *link, const char *generation)
{
    return scan_count(link, generation, STORE_USER) + scan_count(link, generation, STORE_CONTENT) +
           scan_count(link, generation, STORE_SUMMARY) + scan_count(link, generation, STORE_CATEGORY);
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
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL, *second = NULL;
    struct manifest manifest = dimensions(), read;
    struct err err = ERR_INIT;
    char first[STORE_GENERATION_MAX];
    make_generation(f->store, BLOB_F32, true, first);
    assert_live(f->link, first);

    ok(generation_begin(&writer, f->store, BLOB_BF16, &err));
    const char *const name = generation_name(writer);
    assert_int_equal(strlen(name), strlen("20261124T030000Z-9f3c2a1b"));
    assert_int_equal(state_of(f->link, name, NULL), STORE_BUILDING);
    assert_int_equal(generation_begin(&second, f->store, BLOB_F32, &err), -ERR_BUSY);
    assert_int_equal(generation_promote(f->store, first, &err), -ERR_BUSY);
    put_generation(writer);
    assert_int_equal(generation_publish(writer, &err), -ERR_INVALID);
    assert_int_equal(generation_keep(writer, &err), -ERR_INVALID);
    ok(generation_finish(writer, &manifest, &err));
    assert_int_equal(state_of(f->link, name, NULL), STORE_BUILDING);
    ok(generation_keep(writer, &err));
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
        assert_true(decoded.matrix[i] == matrix_value(BLOB_CONTENT, 3, i)); /* all are exact in bfloat16 */
    assert_int_equal(key_count(f->link, name), 2 * USERS + CONTENTS);
    generation_end(writer);
    generation_end(NULL);
    assert_int_equal(key_count(f->link, first), 2 * USERS + CONTENTS);
}

static void test_category(void **state)
{
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    const struct store_id ids[] = {id_of("N1"), id_of("N3"), id_of("N0")},
                          bad[] = {id_of("N1"), id_of("a b")};
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    put_generation(writer);
    ok(generation_put_category(writer, "world news", 10, ids, 3, &err));
    ok(generation_put_category(writer, "empty", 5, NULL, 0, &err));
    assert_int_equal(generation_put_category(writer, "", 0, ids, 3, &err), -ERR_INVALID);
    assert_int_equal(generation_put_category(writer, "a\tb", 3, ids, 3, &err), -ERR_INVALID);
    assert_int_equal(generation_put_category(writer, "c", 1, bad, 2, &err), -ERR_INVALID);
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_keep(writer, &err));
    generation_end(writer);
    assert_value(f->link, name, STORE_CATEGORY, "world news", "N1\nN3\nN0\n");
    assert_value(f->link, name, STORE_CATEGORY, "empty", "");
    assert_int_equal(key_count(f->link, name), 2 * USERS + CONTENTS + 2);
    ok(generation_drop(f->store, name, &err));
    assert_int_equal(key_count(f->link, name), 0);

    manifest = dimensions(); /* a category put twice */
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    put_generation(writer);
    ok(generation_put_category(writer, "c", 1, ids, 2, &err));
    ok(generation_put_category(writer, "c", 1, ids, 3, &err));
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "2 categories were put, the store holds 1"));
    generation_end(writer);
}

static void test_not_found(void **state)
{
    struct test_store *const f = *state;
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
    struct test_store *const f = *state;
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
    ok(generation_keep(writer, &err));
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
    ok(generation_keep(writer, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    generation_end(writer);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    free(matrix);
}

/* Everything that a writer refuses; the generation then goes with its writer. */
static void test_refusals(void **state)
{
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    const float one[M * D] = {1}, bad[M * D] = {0, __builtin_nanf("")};
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(name, sizeof name, "%s", generation_name(writer));
    put_matrix(writer, BLOB_USER, "U1", 1, M);
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
    put_matrix(writer, BLOB_SCORE_PROJ, "", 0, D);
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
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    put_generation(writer);
    put_matrix(writer, BLOB_CONTENT, "N1", 1, N);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "12 contents were put, the store holds 11"));
    generation_end(writer);
}

/* ---- killed and fenced writers ---- */

static void test_abandoned(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char live[STORE_GENERATION_MAX], next[STORE_GENERATION_MAX];
    uint64_t token = 0;
    make_generation(f->store, BLOB_F32, true, live);
    /* What a writer leaves that is killed while it builds, its lock's time over. */
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation row = {"20200101T000000Z-00000000", STORE_BUILDING, token};
    const struct store_entry entry = {{"U1", 2}, "x", 1};
    ok(store_commit(f->link, token, &row, 1, NULL, &err));
    ok(store_put(f->link, row.name, STORE_USER, &entry, 1, &err));
    ok(store_unlock(f->link, token, &err));
    assert_int_equal(generation_promote(f->store, row.name, &err), -ERR_INVALID);
    assert_live(f->link, live);
    make_generation(f->store, BLOB_F32, false, next);
    assert_int_equal(state_of(f->link, row.name, NULL), -1);
    assert_int_equal(key_count(f->link, row.name), 0);
    assert_live(f->link, live);
    assert_int_equal(state_of(f->link, next, NULL), STORE_READY);
}

static void test_fenced(void **state)
{
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL, *second = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char live[STORE_GENERATION_MAX], lost[STORE_GENERATION_MAX];
    uint64_t token = 0;
    make_generation(f->store, BLOB_F32, true, live);
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(lost, sizeof lost, "%s", generation_name(writer));
    put_generation(writer);
    /* Its lock goes as if it had slept past its time, and another writer comes. */
    assert_int_equal(state_of(f->link, lost, &token), STORE_BUILDING);
    ok(store_unlock(f->link, token, &err));
    ok(generation_begin(&second, f->store, BLOB_F32, &err));
    assert_int_equal(state_of(f->link, lost, NULL), -1);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_FENCED);
    assert_int_equal(state_of(f->link, lost, NULL), -1);
    assert_live(f->link, live);
    assert_true(key_count(f->link, lost) > 0); /* it wrote before it knew */
    generation_end(writer);
    assert_int_equal(key_count(f->link, lost), 0);
    put_generation(second);
    manifest = dimensions();
    ok(generation_finish(second, &manifest, &err));
    ok(generation_publish(second, &err));
    assert_live(f->link, generation_name(second));
    generation_end(second);
}

/* One that finished, slept, and wakes up to publish after a newer one was published. */
static void test_late_publish(void **state)
{
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char newer[STORE_GENERATION_MAX];
    uint64_t token = 0;
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    put_generation(writer);
    ok(generation_finish(writer, &manifest, &err));
    assert_int_equal(state_of(f->link, generation_name(writer), &token), STORE_BUILDING);
    ok(store_unlock(f->link, token, &err));
    make_generation(f->store, BLOB_F32, true, newer);
    assert_int_equal(generation_publish(writer, &err), -ERR_FENCED);
    assert_int_equal(generation_keep(writer, &err), -ERR_FENCED);
    assert_live(f->link, newer);
    assert_int_equal(state_of(f->link, generation_name(writer), NULL), -1);
    generation_end(writer);
}

/* One that is killed between its last write and the switch leaves what the next one drops, manifest and all. */
static void test_killed_before_switch(void **state)
{
    struct test_store *const f = *state;
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    char live[STORE_GENERATION_MAX], lost[STORE_GENERATION_MAX];
    ok(generation_begin(&writer, f->store, BLOB_F32, &err));
    snprintf(lost, sizeof lost, "%s", generation_name(writer));
    put_generation(writer);
    ok(generation_finish(writer, &manifest, &err));
    assert_int_equal(generation_promote(f->store, lost, &err), -ERR_BUSY);
    uint64_t token = 0;
    assert_int_equal(state_of(f->link, lost, &token), STORE_BUILDING);
    ok(store_unlock(f->link, token, &err)); /* as its lease would end */
    assert_int_equal(generation_promote(f->store, lost, &err), -ERR_INVALID);
    make_generation(f->store, BLOB_F32, true, live);
    assert_int_equal(state_of(f->link, lost, NULL), -1);
    assert_int_equal(key_count(f->link, lost), 0);
    assert_int_equal(manifest_get(&manifest, f->link, lost, &err), -ERR_NOT_FOUND);
    generation_end(writer);
    assert_live(f->link, live);
}

static void test_lease(void **state)
{
    struct test_store *const f = *state;
    struct lease *lease = NULL;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    ok(lease_take(&lease, f->store, 1500, &err));
    for (int i = 0; i < 5;
         i++) { /* past the lease's own length: it is renewed, also on a machine under load */
        test_sleep_ms(400);
        assert_int_equal(store_lock(f->link, 60000, &token, &err), -ERR_BUSY);
        ok(lease_check(lease, &err));
    }
    int rc = 0;
    do { /* the lease may renew itself between the two calls, and then has it back */
        ok(store_unlock(f->link, lease_token(lease), &err));
        rc = store_lock(f->link, 60000, &token, &err);
    } while (rc == -ERR_BUSY);
    assert_int_equal(rc, 0);
    for (int i = 0; i < 400 && rc == 0; i++) {
        test_sleep_ms(20);
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
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char names[5][STORE_GENERATION_MAX], back[STORE_GENERATION_MAX];
    make_generation(f->store, BLOB_F32, true, names[0]);
    assert_int_equal(generation_rollback(f->store, back, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, names[0]));
    make_generation(f->store, BLOB_F32, true, names[1]);
    make_generation(f->store, BLOB_F32, false, names[2]);
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
    struct test_store *const f = *state;
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

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_writer),
        store_test(test_category),
        store_test(test_not_found),
        store_test(test_large),
        store_test(test_refusals),
        store_test(test_put_twice),
        store_test(test_abandoned),
        store_test(test_fenced),
        store_test(test_late_publish),
        store_test(test_killed_before_switch),
        store_test(test_operators),
        store_test(test_prune),
    };
    /* The lease is the same on every store, and takes its time: it waits. */
    const struct CMUnitTest slow[] = {store_test(test_lease)};
    const bool wait = strcmp(world_name, "lmdb") == 0 || strcmp(world_name, "redis tcp") == 0;
    const int failed = test_group("generations", world_name, tests);
    return wait ? failed + test_group("leases", world_name, slow) : failed;
}

int main(void)
{
    return test_worlds(run);
}
