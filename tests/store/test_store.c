/* The contract of store/store.h, run over every backend. Each test has a store under a prefix of its own. */
#include "core/id.h"
#include "tests/lib/stores.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct test_world *world;

struct fixture {
    char prefix[32];
    struct store *store;
    struct store_link *link;
};

static int setup(void **state)
{
    struct fixture *const f = calloc(1, sizeof *f);
    snprintf(f->prefix, sizeof f->prefix, "%s", test_prefix());
    f->store = test_store_open(world, f->prefix, false);
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

/* ---- getting, as copies ---- */

struct copies {
    char **data; /* NULL where there is nothing */
    size_t *len;
    unsigned *calls;
    size_t count;
};

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    struct copies *const copies = ctx;
    assert_true(index < copies->count);
    copies->calls[index]++;
    copies->len[index] = len;
    if (data) {
        copies->data[index] = malloc(len + 1);
        memcpy(copies->data[index], data, len);
        copies->data[index][len] = '\0';
    } else {
        assert_int_equal(len, 0);
    }
    return 0;
}

static struct copies get(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count)
{
    struct copies copies = {calloc(count + 1, sizeof(char *)), calloc(count + 1, sizeof(size_t)),
        calloc(count + 1, sizeof(unsigned)), count};
    struct err err = ERR_INIT;
    ok(store_get(link, generation, kind, ids, count, take, &copies, &err));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(copies.calls[i], 1);
    return copies;
}

static void free_copies(struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++)
        free(copies->data[i]);
    free(copies->data);
    free(copies->len);
    free(copies->calls);
}

static struct store_id id_of(const char *text)
{
    return (struct store_id){text, strlen(text)};
}

/* Is the value under one id the text (NULL: nothing)? */
static void assert_value(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text)
{
    const struct store_id one = id_of(id);
    struct copies copies = get(link, generation, kind, &one, 1);
    if (text) {
        assert_non_null(copies.data[0]);
        assert_string_equal(copies.data[0], text);
    } else {
        assert_null(copies.data[0]);
    }
    free_copies(&copies);
}

static void put_text(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text)
{
    const struct store_entry entry = {id_of(id), text, strlen(text)};
    struct err err = ERR_INIT;
    ok(store_put(link, generation, kind, &entry, 1, &err));
}

/* ---- values ---- */

static void put_get_many(struct fixture *f, size_t count)
{
    struct err err = ERR_INIT;
    char(*const names)[24] = calloc(2 * count + 1, sizeof *names);
    struct store_entry *const entries = calloc(count + 1, sizeof *entries);
    struct store_id *const ids = calloc(2 * count + 1, sizeof *ids);
    for (size_t i = 0; i < 2 * count; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        ids[i] = id_of(names[i]);
        if (i % 2 == 0)
            entries[i / 2] = (struct store_entry){ids[i], names[i], ids[i].len};
    }
    ok(store_put(f->link, "many", STORE_CONTENT, entries, count, &err));
    struct copies copies = get(f->link, "many", STORE_CONTENT, ids, 2 * count); /* every second is missing */
    for (size_t i = 0; i < 2 * count; i++) {
        if (i % 2 == 0)
            assert_string_equal(copies.data[i], names[i]);
        else
            assert_null(copies.data[i]);
    }
    free_copies(&copies);
    free(names);
    free(entries);
    free(ids);
}

static void test_many(void **state)
{
    put_get_many(*state, 0);
    put_get_many(*state, 1);
    put_get_many(*state, 50);
    put_get_many(*state, 125);
    put_get_many(*state, 1000);
}

static void test_kinds_are_apart(void **state)
{
    struct fixture *const f = *state;
    static const enum store_kind kinds[] = {STORE_USER, STORE_CONTENT, STORE_SUMMARY};
    static const char *const values[] = {"a user", "a content", "a summary"};
    for (size_t i = 0; i < 3; i++)
        put_text(f->link, "g1", kinds[i], "X", values[i]);
    put_text(f->link, "g2", STORE_USER, "X", "of another generation");
    put_text(f->link, "g1", STORE_SCORE_PROJ, "", "W_s");
    put_text(f->link, "g1", STORE_MANIFEST, "", "{}");
    put_text(f->link, "g1", STORE_USER, "", "the default user");
    for (size_t i = 0; i < 3; i++)
        assert_value(f->link, "g1", kinds[i], "X", values[i]);
    assert_value(f->link, "g2", STORE_USER, "X", "of another generation");
    assert_value(f->link, "g1", STORE_SCORE_PROJ, "", "W_s");
    assert_value(f->link, "g1", STORE_MANIFEST, "", "{}");
    assert_value(f->link, "g1", STORE_USER, "", "the default user");
    assert_value(f->link, "g1", STORE_SUMMARY, "", NULL);
    assert_value(f->link, "g3", STORE_USER, "X", NULL);
    assert_value(f->link, "g", STORE_USER, "X", NULL);
}

static void test_overwrite(void **state)
{
    struct fixture *const f = *state;
    put_text(f->link, "g", STORE_USER, "U", "first");
    put_text(f->link, "g", STORE_USER, "U", "the second, longer");
    assert_value(f->link, "g", STORE_USER, "U", "the second, longer");
    put_text(f->link, "g", STORE_USER, "U", "");
    assert_value(f->link, "g", STORE_USER, "U", ""); /* empty is there, not missing */
}

/* Values of every byte, of nothing, of a kilobyte, of megabytes; read together in one call. */
static void test_big_values(void **state)
{
    struct fixture *const f = *state;
    static const size_t sizes[] = {0, 1, 1000, 8256, 65600, 1 << 20, 3000000, 7, 65600, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct store_entry entries[COUNT];
    struct store_id ids[COUNT];
    char names[COUNT][8];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < COUNT; i++) {
        unsigned char *const data = malloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++)
            data[k] = (unsigned char)(k * 31 + i + (k >> 8));
        snprintf(names[i], sizeof names[i], "B%zu", i);
        ids[i] = id_of(names[i]);
        entries[i] = (struct store_entry){ids[i], data, sizes[i]};
    }
    ok(store_put(f->link, "big", STORE_USER, entries, COUNT, &err));
    for (int repeat = 0; repeat < 3; repeat++) {
        struct copies copies = get(f->link, "big", STORE_USER, ids, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(copies.len[i], sizes[i]);
            assert_memory_equal(copies.data[i], entries[i].data, sizes[i]);
        }
        free_copies(&copies);
    }
    for (size_t i = 0; i < COUNT; i++)
        free((void *)(uintptr_t)entries[i].data);
}

static int stop_at_three(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    (void)data;
    (void)len;
    return ++*(int *)ctx == 3 ? 33 : 0;
}

/* A callback's value ends the call and is returned; the link is good for the next call. */
static void test_get_stopped(void **state)
{
    struct fixture *const f = *state;
    put_get_many(f, 500);
    struct store_id ids[500];
    int calls = 0;
    for (size_t i = 0; i < 500; i++)
        ids[i] = id_of("N0");
    struct err err = ERR_INIT;
    assert_int_equal(store_get(f->link, "many", STORE_CONTENT, ids, 500, stop_at_three, &calls, &err), 33);
    assert_int_equal(calls, 3);
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

/* ---- ids ---- */

struct seen {
    struct id_map ids;
    size_t calls;
};

static int see(void *ctx, const char *id, size_t len)
{
    struct seen *const seen = ctx;
    seen->calls++;
    assert_true(id_map_add(&seen->ids, id, len, NULL) >= 0);
    return 0;
}

/* Scan, each id once; the caller frees ids. */
static struct seen scan(struct store_link *link, const char *generation, enum store_kind kind)
{
    struct seen seen = {0};
    struct err err = ERR_INIT;
    ok(store_scan(link, generation, kind, see, &seen, &err));
    assert_int_equal(seen.calls, seen.ids.count);
    return seen;
}

static size_t scan_count(struct store_link *link, const char *generation, enum store_kind kind)
{
    struct seen seen = scan(link, generation, kind);
    const size_t count = seen.calls;
    id_map_done(&seen.ids);
    return count;
}

static const char *const odd_ids[] = {"*", "?", "[a]", "a*", "\\", "\\*", "{x}", "a:b", "u:", ":", "%s%n",
    "\"", "'", "$1", "\xC3\xA9t\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "#", "-1", "0", "null",
    "manifest"};
#define ODD_IDS (sizeof odd_ids / sizeof *odd_ids)

static void test_odd_ids(void **state)
{
    struct fixture *const f = *state;
    for (size_t i = 0; i < ODD_IDS; i++)
        put_text(f->link, "odd", STORE_USER, odd_ids[i], odd_ids[i]);
    for (size_t i = 0; i < ODD_IDS; i++)
        assert_value(f->link, "odd", STORE_USER, odd_ids[i], odd_ids[i]);
    struct seen seen = scan(f->link, "odd", STORE_USER);
    assert_int_equal(seen.calls, ODD_IDS);
    for (size_t i = 0; i < ODD_IDS; i++)
        assert_true(id_map_find(&seen.ids, odd_ids[i], strlen(odd_ids[i])) >= 0);
    id_map_done(&seen.ids);
}

/* Ids up to the longest, around every limit that a backend may have; many that differ in one byte. */
static void test_long_ids(void **state)
{
    struct fixture *const f = *state;
    enum { FIRST = 440, COUNT = ID_MAX - FIRST + 1 };
    static char ids[2 * COUNT][ID_MAX + 1];
    for (size_t i = 0; i < 2 * COUNT; i++) {
        const size_t len = FIRST + i / 2;
        memset(ids[i], 'a', len);
        ids[i][len - 1 - i % 2 * 300] = 'Z';
        ids[i][len] = '\0';
        put_text(f->link, "long", STORE_USER, ids[i], ids[i]);
        put_text(f->link, "long", STORE_SUMMARY, ids[i], "");
    }
    for (size_t i = 0; i < 2 * COUNT; i++) {
        assert_value(f->link, "long", STORE_USER, ids[i], ids[i]);
        assert_value(f->link, "long", STORE_SUMMARY, ids[i], "");
        assert_value(f->link, "long", STORE_CONTENT, ids[i], NULL);
        put_text(f->link, "long", STORE_USER, ids[i], "overwritten");
        assert_value(f->link, "long", STORE_USER, ids[i], "overwritten");
    }
    struct seen seen = scan(f->link, "long", STORE_USER);
    assert_int_equal(seen.calls, 2 * COUNT);
    for (size_t i = 0; i < 2 * COUNT; i++)
        assert_true(id_map_find(&seen.ids, ids[i], strlen(ids[i])) >= 0);
    id_map_done(&seen.ids);
}

static void test_scan(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 0);
    put_get_many(f, 5000);
    put_text(f->link, "many", STORE_USER, "N1", "");
    put_text(f->link, "many", STORE_USER, "", "");
    put_text(f->link, "many2", STORE_CONTENT, "other", "");
    put_text(f->link, "man", STORE_CONTENT, "other", "");
    put_text(f->link, "many", STORE_MANIFEST, "", "{}");
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 5000);
    assert_int_equal(scan_count(f->link, "many2", STORE_CONTENT), 1);
    assert_int_equal(scan_count(f->link, "many", STORE_SUMMARY), 0);
    struct seen seen = scan(f->link, "many", STORE_USER);
    assert_int_equal(seen.calls, 2);
    assert_true(id_map_find(&seen.ids, "", 0) >= 0);
    id_map_done(&seen.ids);
    assert_int_equal(store_scan(f->link, "many", STORE_SCORE_PROJ, see, &seen, &err), -ERR_INVALID);
}

static int stop_scan(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    return ++*(int *)ctx == 5 ? -ERR_NOMEM : 0;
}

static void test_scan_stopped(void **state)
{
    struct fixture *const f = *state;
    int calls = 0;
    put_get_many(f, 100);
    assert_int_equal(store_scan(f->link, "many", STORE_CONTENT, stop_scan, &calls, NULL), -ERR_NOMEM);
    assert_int_equal(calls, 5);
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

/* Two prefixes on one store do not see each other, even if one begins like the other. */
static void test_prefixes(void **state)
{
    struct fixture *const f = *state;
    char prefix[64];
    struct err err = ERR_INIT;
    struct store_link *link = NULL;
    char live[STORE_GENERATION_MAX];
    uint64_t token = 0;
    snprintf(prefix, sizeof prefix, "%s.x", f->prefix);
    struct store *const other = test_store_open(world, prefix, false);
    ok(store_connect(&link, other, &err));
    put_text(f->link, "g", STORE_USER, "U", "mine");
    assert_value(link, "g", STORE_USER, "U", NULL);
    assert_int_equal(scan_count(link, "g", STORE_USER), 0);
    ok(store_lock(f->link, 10000, &token, &err));
    const struct store_generation row = {"g", STORE_LIVE, token};
    ok(store_commit(f->link, token, &row, 1, "g", &err));
    assert_int_equal(store_live(link, live, &err), -ERR_NOT_FOUND);
    ok(store_lock(link, 10000, &token, &err));
    ok(store_drop(link, token, "g", &err));
    assert_value(f->link, "g", STORE_USER, "U", "mine");
    store_disconnect(link);
    store_close(other);
}

/* ---- arguments ---- */

static void test_arguments(void **state)
{
    struct fixture *const f = *state;
    static const char *const bad_names[] = {"", "a b", "a:b", "a/b", "a*", "\xC3\xA9",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    static const struct store_id bad_ids[] = {{"a b", 3}, {"a\n", 2}, {"\x7F", 1}, {"a\0b", 3}, {"\xFF", 1}};
    char long_id[ID_MAX + 1];
    struct err err = ERR_INIT;
    memset(long_id, 'a', sizeof long_id);
    const struct store_id good = id_of("X"), empty = {"", 0}, too_long = {long_id, sizeof long_id};
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        const struct store_entry entry = {good, "", 0};
        assert_int_equal(
            store_get(f->link, bad_names[i], STORE_USER, &good, 1, take, NULL, &err), -ERR_INVALID);
        assert_int_equal(store_put(f->link, bad_names[i], STORE_USER, &entry, 1, &err), -ERR_INVALID);
        assert_int_equal(store_drop(f->link, 1, bad_names[i], &err), -ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++) {
        const struct store_entry entry = {bad_ids[i], "", 0};
        const struct store_change change = {STORE_USER, bad_ids[i]};
        assert_int_equal(store_get(f->link, "g", STORE_USER, &bad_ids[i], 1, take, NULL, &err), -ERR_INVALID);
        assert_int_equal(store_put(f->link, "g", STORE_CONTENT, &entry, 1, &err), -ERR_INVALID);
        assert_int_equal(store_changes_append(f->link, "g", &change, 1, &err), -ERR_INVALID);
    }
    assert_int_equal(store_get(f->link, "g", STORE_USER, &too_long, 1, take, NULL, &err), -ERR_INVALID);
    assert_int_equal(store_get(f->link, "g", STORE_CONTENT, &empty, 1, take, NULL, &err), -ERR_INVALID);
    assert_int_equal(store_get(f->link, "g", STORE_SCORE_PROJ, &good, 1, take, NULL, &err), -ERR_INVALID);
    assert_int_equal(store_get(f->link, "g", (enum store_kind)'x', &good, 1, take, NULL, &err), -ERR_INVALID);
    const struct store_change summary = {STORE_SUMMARY, good};
    assert_int_equal(store_changes_append(f->link, "g", &summary, 1, &err), -ERR_INVALID);
    uint64_t token;
    assert_int_equal(store_lock(f->link, 0, &token, &err), -ERR_INVALID);
}

static void test_ping(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    ok(store_ping(f->link, &err));
    ok(store_ping(f->link, &err));
}

static void test_read_only(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    struct store_link *link = NULL;
    uint64_t token = 0;
    put_text(f->link, "g", STORE_USER, "U", "value");
    struct store *const reader = test_store_open(world, f->prefix, true);
    ok(store_connect(&link, reader, &err));
    assert_value(link, "g", STORE_USER, "U", "value");
    assert_int_equal(scan_count(link, "g", STORE_USER), 1);
    const struct store_entry entry = {id_of("U"), "", 0};
    const struct store_change change = {STORE_USER, id_of("U")};
    assert_int_equal(store_put(link, "g", STORE_USER, &entry, 1, &err), -ERR_INVALID);
    assert_int_equal(store_lock(link, 1000, &token, &err), -ERR_INVALID);
    assert_int_equal(store_renew(link, 1, 1000, &err), -ERR_INVALID);
    assert_int_equal(store_unlock(link, 1, &err), -ERR_INVALID);
    assert_int_equal(store_commit(link, 1, NULL, 0, "g", &err), -ERR_INVALID);
    assert_int_equal(store_drop(link, 1, "g", &err), -ERR_INVALID);
    assert_int_equal(store_changes_append(link, "g", &change, 1, &err), -ERR_INVALID);
    put_text(f->link, "g", STORE_USER, "U", "changed");
    assert_value(link, "g", STORE_USER, "U", "changed");
    store_disconnect(link);
    store_close(reader);
}

/* ---- the lock ---- */

static void test_lock(void **state)
{
    struct fixture *const f = *state;
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
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    uint64_t first = 0, second = 0;
    ok(store_lock(f->link, 50, &first, &err));
    sleep_ms(80);
    ok(store_renew(f->link, first, 50, &err)); /* late, but nobody came between */
    assert_int_equal(store_lock(f->link, 1000, &second, &err), -ERR_BUSY);
    sleep_ms(80);
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
    struct fixture *const f = *state;
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

/* The state of a generation, or -1 if the table has none of the name. */
static int state_of(struct store_link *link, const char *name)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    int state = -1;
    struct err err = ERR_INIT;
    ok(store_generations(link, &rows, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            state = (int)rows[i].state;
    free(rows);
    return state;
}

static void assert_live(struct store_link *link, const char *name)
{
    char live[STORE_GENERATION_MAX] = "untouched";
    struct err err = ERR_INIT;
    const int rc = store_live(link, live, &err);
    if (name) {
        check_ok(rc, "store_live", &err, __LINE__);
        assert_string_equal(live, name);
    } else {
        assert_int_equal(rc, -ERR_NOT_FOUND);
        assert_string_equal(live, "untouched");
    }
}

static void test_commit(void **state)
{
    struct fixture *const f = *state;
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
    assert_int_equal(state_of(f->link, "g2"), STORE_READY);

    /* After a newer writer, nothing of the old one's commit is done. */
    ok(store_unlock(f->link, token, &err));
    ok(store_commit(f->link, token, &ready, 1, NULL, &err)); /* its token is still the newest */
    ok(store_lock(f->link, 60000, &newer, &err));
    const struct store_generation late[] = {{"g1", STORE_RETIRED, token}, {"g2", STORE_LIVE, token}};
    assert_int_equal(store_commit(f->link, token, late, 2, "g2", &err), -ERR_FENCED);
    assert_int_equal(store_commit(f->link, newer + 1, late, 2, "g2", &err), -ERR_FENCED);
    assert_live(f->link, "g1");
    assert_int_equal(state_of(f->link, "g1"), STORE_LIVE);
    assert_int_equal(state_of(f->link, "g2"), STORE_READY);
}

/* ---- changes ---- */

struct heard {
    char text[4096]; /* "uU1 cN2 " */
    int left;        /* calls until one fails; negative: none does */
};

static int hear(void *ctx, const struct store_change *change)
{
    struct heard *const heard = ctx;
    if (heard->left == 0)
        return -ERR_NOMEM;
    heard->left--;
    const size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "%c%.*s ", (char)change->kind,
        (int)change->id.len, change->id.id);
    return 0;
}

static void assert_heard(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, const char *text)
{
    struct heard heard = {.left = -1};
    struct err err = ERR_INIT;
    ok(store_changes_read(link, generation, cursor, max, hear, &heard, &err));
    assert_string_equal(heard.text, text);
}

static void test_drop(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    static char long_id[ID_MAX + 1];
    memset(long_id, 'L', ID_MAX);
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation rows[] = {{"many", STORE_READY, token}, {"many2", STORE_LIVE, token}};
    ok(store_commit(f->link, token, rows, 2, "many2", &err));
    put_get_many(f, 2500);
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
    assert_int_equal(state_of(f->link, "many"), -1);
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 0);
    assert_int_equal(scan_count(f->link, "many", STORE_USER), 0);
    assert_int_equal(scan_count(f->link, "many", STORE_SUMMARY), 0);
    assert_value(f->link, "many", STORE_MANIFEST, "", NULL);
    assert_value(f->link, "many", STORE_SCORE_PROJ, "", NULL);
    char cursor[STORE_CURSOR_MAX] = "", other[STORE_CURSOR_MAX] = "";
    assert_heard(f->link, "many", cursor, 10, "");
    assert_heard(f->link, "many2", other, 10, "uU ");
    assert_value(f->link, "many2", STORE_USER, "U", "stays");
    assert_int_equal(state_of(f->link, "many2"), STORE_LIVE);
    /* Keys without a row, as a crash can leave them, go too. */
    put_text(f->link, "many", STORE_USER, "U", "");
    ok(store_drop(f->link, token, "many", &err));
    assert_int_equal(scan_count(f->link, "many", STORE_USER), 0);
    assert_int_equal(state_of(f->link, "many"), -1);
}

static void test_changes(void **state)
{
    struct fixture *const f = *state;
    struct err err = ERR_INIT;
    char start[STORE_CURSOR_MAX] = "", cursor[STORE_CURSOR_MAX] = "";
    const struct store_change changes[] = {{STORE_USER, id_of("U1")}, {STORE_CONTENT, id_of("N1")},
        {STORE_USER, id_of("U1")}, {STORE_USER, id_of("\xC3\xA9*")}, {STORE_CONTENT, id_of("u")}};
    const struct store_change empty = {STORE_USER, {"", 0}};
    assert_heard(f->link, "g", cursor, 10, "");
    assert_string_equal(cursor, "");
    ok(store_changes_append(f->link, "g", changes, 0, &err));
    ok(store_changes_append(f->link, "g", changes, 5, &err));
    ok(store_changes_append(f->link, "other", &empty, 1, &err));
    assert_heard(f->link, "g", cursor, 0, "");
    assert_heard(f->link, "g", cursor, 2, "uU1 cN1 ");
    assert_heard(f->link, "g", cursor, 100, "uU1 u\xC3\xA9* cu ");
    assert_heard(f->link, "g", cursor, 100, "");
    ok(store_changes_append(f->link, "g", &empty, 1, &err));
    assert_heard(f->link, "g", cursor, 100, "u ");
    assert_heard(f->link, "g", start, 100, "uU1 cN1 uU1 u\xC3\xA9* cu u ");
    assert_string_equal(start, cursor);

    /* What the callback refused comes again. */
    struct heard heard = {.left = 3};
    *cursor = '\0';
    assert_int_equal(store_changes_read(f->link, "g", cursor, 100, hear, &heard, &err), -ERR_NOMEM);
    assert_string_equal(heard.text, "uU1 cN1 uU1 ");
    assert_heard(f->link, "g", cursor, 100, "u\xC3\xA9* cu u ");

    static const char *const bad[] = {"x", "1-x", "-", "-1", " 1", "1 ", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(cursor, sizeof cursor, "%s", bad[i]);
        assert_int_equal(store_changes_read(f->link, "g", cursor, 100, hear, &heard, &err), -ERR_INVALID);
        assert_string_equal(cursor, bad[i]);
    }
}

static int count_change(void *ctx, const struct store_change *change)
{
    size_t *const count = ctx;
    char expected[16];
    snprintf(expected, sizeof expected, "N%zu", (*count)++);
    assert_int_equal(change->id.len, strlen(expected));
    assert_memory_equal(change->id.id, expected, change->id.len);
    return 0;
}

static void test_many_changes(void **state)
{
    struct fixture *const f = *state;
    enum { COUNT = 5000 };
    static char names[COUNT][16];
    static struct store_change changes[COUNT];
    char cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        changes[i] = (struct store_change){STORE_CONTENT, id_of(names[i])};
    }
    ok(store_changes_append(f->link, "g", changes, COUNT / 2, &err));
    ok(store_changes_append(f->link, "g", changes + COUNT / 2, COUNT / 2, &err));
    ok(store_changes_read(f->link, "g", cursor, 1, count_change, &count, &err));
    assert_int_equal(count, 1);
    ok(store_changes_read(f->link, "g", cursor, 3500, count_change, &count, &err));
    assert_int_equal(count, 3501);
    ok(store_changes_read(f->link, "g", cursor, SIZE_MAX, count_change, &count, &err));
    assert_int_equal(count, COUNT);
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

static void write_generation(struct fixture *f, uint64_t token, int number)
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
    struct fixture *const f = *state;
    enum { READERS = 2 };
    struct store *const store = test_store_open(world, f->prefix, true);
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
        sleep_ms(3);
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

static int run(const struct test_world *current)
{
    char name[64];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kinds_are_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overwrite, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_get_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prefixes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_race, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers_beside_writer, setup, teardown),
    };
    world = current;
    snprintf(name, sizeof name, "store, %s", world->name);
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return test_worlds(run);
}
