/* The contract of store/store.h for the lock, the table of generations and dropping, run over every backend. */
#include "tests/lib/stores.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the lock ---- */

static void test_lock(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    struct store_link *other = NULL;
    uint64_t first = 0, second = 0, third = 0, untouched = 77;
    ok(store_connect(&other, f->store, &err));
    ok(store_lock(f->link, 60000, &first, &err));
    assert_true(first > 0);
    assert_int_equal(store_lock(other, 60000, &untouched, &err), -ERR_BUSY);
    assert_non_null(strstr(err.message, "holds the lock"));
    assert_int_equal(store_lock(f->link, 60000, &untouched, &err), -ERR_BUSY); /* not even for its holder */
    assert_true(untouched == 77);
    ok(store_renew(f->link, first, 60000, &err));
    assert_int_equal(store_lock(other, 60000, &untouched, &err), -ERR_BUSY);
    assert_int_equal(store_unlock(other, first + 1, &err), -ERR_FENCED);
    assert_int_equal(store_lock(other, 60000, &untouched, &err), -ERR_BUSY);
    ok(store_unlock(f->link, first, &err));
    ok(store_unlock(f->link, first, &err)); /* again, as after a lost reply */
    ok(store_lock(other, 60000, &second, &err));
    assert_true(second > first);
    assert_int_equal(store_renew(f->link, first, 60000, &err), -ERR_FENCED);
    assert_int_equal(store_unlock(f->link, first, &err), -ERR_FENCED);
    assert_int_equal(store_lock(f->link, 60000, &untouched, &err), -ERR_BUSY);
    ok(store_unlock(other, second, &err));
    ok(store_lock(f->link, 60000, &third, &err));
    assert_true(third > second);
    store_disconnect(other);
}

static void test_lock_expires(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    uint64_t first = 0, second = 0;
    ok(store_lock(f->link, 50, &first, &err));
    test_sleep_ms(80);
    long long start;
    do { /* a replica's answer may take a second once, and with it the renewal as long as the lock lasts */
        start = test_now_ms();
        ok(store_renew(f->link, first, 400, &err)); /* late, but nobody came between */
    } while (test_now_ms() - start > 200);
    assert_int_equal(store_lock(f->link, 1000, &second, &err), -ERR_BUSY);
    test_sleep_ms(450);
    ok(store_lock(f->link, 60000, &second, &err));
    assert_true(second > first);
    assert_int_equal(store_renew(f->link, first, 60000, &err), -ERR_FENCED);
    assert_non_null(strstr(err.message, "taken over"));
}

struct racer {
    struct store *store;
    uint64_t token;
    int rc;
};

static void *race(void *arg)
{
    struct racer *const racer = arg;
    struct store_link *link = NULL;
    racer->rc = store_connect(&link, racer->store, NULL);
    if (racer->rc == 0)
        racer->rc = store_lock(link, 60000, &racer->token, NULL);
    store_disconnect(link);
    return NULL;
}

static void test_lock_race(void **state)
{
    struct test_store *const f = *state;
    enum { RACERS = 8 };
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    int winners = 0;
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){f->store, 0, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        winners += racers[i].rc == 0;
        assert_true(racers[i].rc == 0 || racers[i].rc == -ERR_BUSY);
    }
    assert_int_equal(winners, 1);
}

/* ---- the table ---- */

static void test_commit(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    struct store_generation *rows = NULL;
    size_t count = 99;
    uint64_t token = 0, newer = 0;
    assert_live(f->link, NULL);
    ok(store_generations(f->link, &rows, &count, &err));
    assert_int_equal(count, 0);
    free(rows);
    assert_int_equal(store_commit(f->link, 0, NULL, 0, "g1", &err), -ERR_FENCED);
    assert_int_equal(store_commit(f->link, 1, NULL, 0, "g1", &err), -ERR_FENCED); /* never handed out */
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation first[] = {{"g2", STORE_BUILDING, token}, {"g1", STORE_LIVE, token}};
    ok(store_commit(f->link, token, first, 2, "g1", &err));
    assert_live(f->link, "g1");
    ok(store_generations(f->link, &rows, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].name, "g1");
    assert_int_equal(rows[0].state, STORE_LIVE);
    assert_string_equal(rows[1].name, "g2");
    assert_int_equal(rows[1].state, STORE_BUILDING);
    assert_true(rows[0].token == token && rows[1].token == token);
    free(rows);
    const struct store_generation ready = {"g2", STORE_READY, token};
    ok(store_commit(f->link, token, &ready, 1, NULL, &err));
    assert_live(f->link, "g1");
    assert_int_equal(state_of(f->link, "g2", NULL), STORE_READY);

    /* After a newer writer, nothing of the old one's commit is done. */
    ok(store_unlock(f->link, token, &err));
    ok(store_commit(f->link, token, &ready, 1, NULL, &err)); /* its token is still the newest */
    ok(store_lock(f->link, 60000, &newer, &err));
    const struct store_generation late[] = {{"g1", STORE_RETIRED, token}, {"g2", STORE_LIVE, token}};
    assert_int_equal(store_commit(f->link, token, late, 2, "g2", &err), -ERR_FENCED);
    assert_int_equal(store_commit(f->link, newer + 1, late, 2, "g2", &err), -ERR_FENCED);
    assert_live(f->link, "g1");
    assert_int_equal(state_of(f->link, "g1", NULL), STORE_LIVE);
    assert_int_equal(state_of(f->link, "g2", NULL), STORE_READY);
}

static void test_drop(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    static char long_id[ID_MAX + 1];
    memset(long_id, 'L', ID_MAX);
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation rows[] = {{"many", STORE_READY, token}, {"many2", STORE_LIVE, token}};
    ok(store_commit(f->link, token, rows, 2, "many2", &err));
    put_many(f->link, "many", 2500);
    put_text(f->link, "many", STORE_USER, long_id, "");
    put_text(f->link, "many", STORE_USER, "", "");
    put_text(f->link, "many", STORE_SUMMARY, "U", "");
    put_text(f->link, "many", STORE_MANIFEST, "", "{}");
    put_text(f->link, "many", STORE_SCORE_PROJ, "", "");
    put_text(f->link, "many2", STORE_USER, "U", "stays");
    const struct store_change change = {STORE_USER, id_of("U")};
    ok(store_changes_append(f->link, "many", &change, 1, &err));
    ok(store_changes_append(f->link, "many2", &change, 1, &err));

    assert_int_equal(store_drop(f->link, token, "many2", &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "live"));
    assert_int_equal(store_drop(f->link, token + 1, "many", &err), -ERR_FENCED);
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 2500);
    ok(store_drop(f->link, token, "many", &err));
    ok(store_drop(f->link, token, "many", &err));
    assert_int_equal(state_of(f->link, "many", NULL), -1);
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 0);
    assert_int_equal(scan_count(f->link, "many", STORE_USER), 0);
    assert_int_equal(scan_count(f->link, "many", STORE_SUMMARY), 0);
    assert_value(f->link, "many", STORE_MANIFEST, "", NULL);
    assert_value(f->link, "many", STORE_SCORE_PROJ, "", NULL);
    char cursor[STORE_CURSOR_MAX] = "", other[STORE_CURSOR_MAX] = "";
    assert_changes(f->link, "many", cursor, 10, "");
    assert_changes(f->link, "many2", other, 10, "uU ");
    assert_value(f->link, "many2", STORE_USER, "U", "stays");
    assert_int_equal(state_of(f->link, "many2", NULL), STORE_LIVE);
    /* Keys without a row, as a crash can leave them, go too. */
    put_text(f->link, "many", STORE_USER, "U", "");
    ok(store_drop(f->link, token, "many", &err));
    assert_int_equal(scan_count(f->link, "many", STORE_USER), 0);
    assert_int_equal(state_of(f->link, "many", NULL), -1);
}

/* ---- readers beside a writer ---- */

#define SWITCHES 40
#define VALUES 120

struct reader {
    struct store *store;
    atomic_bool *stop;
    size_t reads, generations;
    const char *failure;
};

struct expected {
    const char *generation;
    bool wrong;
};

static int check_value(void *ctx, size_t index, const void *data, size_t len)
{
    struct expected *const expected = ctx;
    (void)index;
    expected->wrong |=
        !data || len != strlen(expected->generation) || memcmp(data, expected->generation, len) != 0;
    return 0;
}

/* All values of the live generation are there and are its own, however often it changes. */
static void *read_on(void *arg)
{
    struct reader *const reader = arg;
    char live[STORE_GENERATION_MAX], before[STORE_GENERATION_MAX] = "", names[VALUES][8];
    struct store_id ids[VALUES];
    struct store_link *link = NULL;
    if (store_connect(&link, reader->store, NULL) < 0)
        reader->failure = "connect";
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        ids[i] = id_of(names[i]);
    }
    while (!reader->failure && !atomic_load(reader->stop)) {
        struct expected expected = {live, false};
        if (store_live(link, live, NULL) < 0)
            reader->failure = "live";
        else if (store_get(link, live, STORE_CONTENT, ids, VALUES, check_value, &expected, NULL) < 0)
            reader->failure = "get";
        else if (expected.wrong)
            reader->failure = "a value is missing or of another generation";
        reader->reads++;
        reader->generations += strcmp(before, live) != 0;
        memcpy(before, live, sizeof before);
    }
    store_disconnect(link);
    return NULL;
}

static void write_generation(struct test_store *f, uint64_t token, int number)
{
    char name[16], before[16], names[VALUES][8];
    struct store_entry entries[VALUES];
    struct err err = ERR_INIT;
    snprintf(name, sizeof name, "g%03d", number);
    snprintf(before, sizeof before, "g%03d", number - 1);
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        entries[i] = (struct store_entry){id_of(names[i]), name, strlen(name)};
    }
    ok(store_put(f->link, name, STORE_CONTENT, entries, VALUES, &err));
    struct store_generation rows[] = {{"", STORE_LIVE, token}, {"", STORE_RETIRED, token}};
    memcpy(rows[0].name, name, sizeof name);
    memcpy(rows[1].name, before, sizeof before);
    ok(store_commit(f->link, token, rows, number ? 2 : 1, name, &err));
}

static void test_readers_beside_writer(void **state)
{
    struct test_store *const f = *state;
    enum { READERS = 2 };
    struct store *const store = test_store_open(f->prefix, true);
    atomic_bool stop = false;
    struct reader readers[READERS];
    pthread_t threads[READERS];
    struct err err = ERR_INIT;
    uint64_t token = 0;
    ok(store_lock(f->link, 600000, &token, &err));
    write_generation(f, token, 0);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){store, &stop, 0, 0, NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (int i = 1; i < SWITCHES; i++) {
        write_generation(f, token, i);
        test_sleep_ms(3);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        if (readers[i].failure)
            fail_msg("reader %d: %s", i, readers[i].failure);
        assert_true(readers[i].generations > 1);
    }
    store_close(store);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_lock),
        store_test(test_lock_expires),
        store_test(test_lock_race),
        store_test(test_commit),
        store_test(test_drop),
        store_test(test_readers_beside_writer),
    };
    return test_group("lock and table", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
