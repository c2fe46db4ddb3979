/* The contract of store/store_work.h, run over every backend. */
#include "store/store_work.h"
#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>

#define JOB "a job"

/* ---- short ways ---- */

struct taken {
    char place[STORE_CURSOR_MAX], text[64];
    uint64_t deliveries;
    size_t calls;
};

static int take_unit(void *ctx, const struct store_unit *unit)
{
    struct taken *const taken = ctx;
    taken->calls++;
    taken->deliveries = unit->deliveries;
    strcpy(taken->place, unit->place);
    assert_true(unit->len < sizeof taken->text);
    memcpy(taken->text, unit->data, unit->len);
    taken->text[unit->len] = '\0';
    return 0;
}

/* Take a unit; text NULL: there is none. */
static struct taken take(struct store_link *link, const char *taker, int idle_ms, const char *text)
{
    struct taken taken = {.calls = 0};
    struct err err = ERR_INIT;
    ok(store_work_take(link, taker, idle_ms, take_unit, &taken, &err));
    assert_int_equal(taken.calls, text != NULL);
    assert_string_equal(taken.text, text ? text : "");
    return taken;
}

static void add(struct store_link *link, const char *text)
{
    struct err err = ERR_INIT;
    ok(store_work_add(link, JOB, text, strlen(text), &err));
}

static void done(struct store_link *link, const char *place, const char *result, int expected)
{
    assert_int_equal(store_work_done(link, place, result, strlen(result), NULL), expected);
}

struct results {
    char text[4096];
    size_t count;
    int left; /* calls until one fails; negative: none does */
};

static int take_result(void *ctx, const void *result, size_t len)
{
    struct results *const results = ctx;
    if (results->left == 0)
        return -ERR_NOMEM;
    results->left--;
    results->count++;
    const size_t used = strlen(results->text);
    snprintf(results->text + used, sizeof results->text - used, "%.*s ", (int)len, (const char *)result);
    return 0;
}

static void assert_results(struct store_link *link, const char *text)
{
    struct results results = {.left = -1};
    struct store_work_state state = {0};
    size_t untaken = SIZE_MAX;
    struct err err = ERR_INIT;
    ok(store_work_results(link, JOB, &untaken, take_result, &results, &err));
    assert_string_equal(results.text, text);
    ok(store_work_look(link, JOB, &state, &err));
    assert_int_equal(untaken, state.units - state.taken);
}

static void assert_state(struct store_link *link, size_t units, size_t taken)
{
    struct store_work_state state = {0};
    struct err err = ERR_INIT;
    ok(store_work_look(link, JOB, &state, &err));
    assert_int_equal(state.units, units);
    assert_int_equal(state.taken, taken);
    assert_true(taken ? state.idle_ms >= 0 && state.idle_ms < 600000 : state.idle_ms == -1);
}

static void assert_no_queue(struct store_link *link)
{
    struct store_work_state state;
    struct taken taken;
    size_t untaken;
    char *job = NULL;
    assert_int_equal(store_work_job(link, &job, NULL), -ERR_NOT_FOUND);
    assert_int_equal(store_work_add(link, JOB, "u", 1, NULL), -ERR_NOT_FOUND);
    assert_int_equal(store_work_look(link, JOB, &state, NULL), -ERR_NOT_FOUND);
    assert_int_equal(store_work_take(link, "a", 0, take_unit, &taken, NULL), -ERR_NOT_FOUND);
    assert_null(job);
    done(link, "1-0", "r", -ERR_NOT_FOUND);
    assert_int_equal(store_work_results(link, JOB, &untaken, take_result, NULL, NULL), -ERR_NOT_FOUND);
}

static void open_queue(struct store_link *link, const char *job)
{
    struct err err = ERR_INIT;
    ok(store_work_open(link, job, &err));
}

/* ---- the contract ---- */

static void test_embedded(void **state)
{
    struct test_store *const f = *state;
    struct store_work_state seen;
    struct taken taken;
    struct err err = ERR_INIT;
    char *job = NULL;
    assert_int_equal(store_work_open(f->link, JOB, &err), -ERR_INVALID);
    assert_string_equal(err.message, "work is shared through a Redis store; an embedded one has no queue");
    assert_int_equal(store_work_add(f->link, JOB, "u", 1, NULL), -ERR_INVALID);
    assert_int_equal(store_work_look(f->link, JOB, &seen, NULL), -ERR_INVALID);
    assert_int_equal(store_work_job(f->link, &job, NULL), -ERR_INVALID);
    assert_int_equal(store_work_take(f->link, "a", 0, take_unit, &taken, NULL), -ERR_INVALID);
    assert_int_equal(store_work_keep(f->link, "a", "1-0", NULL), -ERR_INVALID);
    assert_int_equal(store_work_done(f->link, "1-0", "r", 1, NULL), -ERR_INVALID);
    ok(store_work_close(f->link, JOB, &err));
    ok(store_work_close(f->link, NULL, &err)); /* nobody has left one there */
}

static void test_work(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char *job = NULL;
    assert_no_queue(f->link);
    assert_int_equal(store_work_open(f->link, "", NULL), -ERR_INVALID);
    open_queue(f->link, JOB);
    ok(store_work_job(f->link, &job, &err));
    assert_string_equal(job, JOB);
    free(job);
    take(f->link, "a", 0, NULL);
    assert_state(f->link, 0, 0);
    add(f->link, "one");
    add(f->link, "two");
    assert_state(f->link, 2, 0);
    const struct taken one = take(f->link, "a", 60000, "one"), two = take(f->link, "b", 60000, "two");
    assert_int_equal(one.deliveries, 1);
    take(f->link, "a", 60000, NULL);
    assert_state(f->link, 2, 2);
    done(f->link, two.place, "2", 0);
    assert_state(f->link, 1, 1);
    done(f->link, one.place, "1", 0);
    assert_state(f->link, 0, 0);
    assert_results(f->link, "2 1 ");
    assert_results(f->link, "");
    add(f->link, "three");
    done(f->link, take(f->link, "b", 60000, "three").place, "3", 0);
    assert_results(f->link, "3 ");
    ok(store_work_close(f->link, JOB, &err));
    assert_no_queue(f->link);
    ok(store_work_close(f->link, JOB, &err));
    ok(store_work_close(f->link, NULL, &err));
}

/* A taker that dies keeps its unit until it has been silent for long enough. */
static void test_dead_taker(void **state)
{
    struct test_store *const f = *state;
    open_queue(f->link, JOB);
    add(f->link, "one");
    add(f->link, "two");
    const struct taken first = take(f->link, "a", 60000, "one");
    take(f->link, "b", 60000, "two");
    take(f->link, "c", 60000, NULL);
    test_sleep_ms(30);
    struct taken again = take(f->link, "c", 20, "one");
    assert_string_equal(again.place, first.place);
    assert_int_equal(again.deliveries, 2);
    again = take(f->link, "c", 20, "two");
    assert_int_equal(again.deliveries, 2);
    for (uint64_t i = 3; i < 10; i++)
        assert_int_equal(take(f->link, i % 2 ? "a" : "d", 0, "one").deliveries, i);
    add(f->link, "three"); /* what is new comes first */
    done(f->link, take(f->link, "a", 0, "three").place, "3", 0);
    assert_results(f->link, "3 ");
    /* One that was slow, and the one who took over: the result is given once. */
    done(f->link, again.place, "late", 0);
    done(f->link, again.place, "too late", -ERR_NOT_FOUND);
    assert_results(f->link, "late ");
    assert_state(f->link, 1, 1);
}

/* Who finds nobody silent does not look again at once; it is found all the same. */
static void test_calm(void **state)
{
    struct test_store *const f = *state;
    open_queue(f->link, JOB);
    add(f->link, "one");
    take(f->link, "a", 800, "one");
    const long long begun = test_now_ms();
    struct taken again = {.calls = 0};
    while (!again.calls && test_now_ms() - begun < 2000) {
        assert_int_equal(store_work_take(f->link, "b", 800, take_unit, &again, NULL), 0);
        test_sleep_ms(5);
    }
    const long long took = test_now_ms() - begun;
    assert_string_equal(again.text, "one");
    assert_true(took >= 790 && took < 1400);
}

/* One who is slow, but says that he is there, keeps his unit. */
static void test_keep(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    open_queue(f->link, JOB);
    add(f->link, "one");
    const struct taken one = take(f->link, "a", 60000, "one");
    test_sleep_ms(200);
    ok(store_work_keep(f->link, "a", one.place, &err));
    take(f->link, "b", 150, NULL);
    assert_int_equal(store_work_keep(f->link, "b", one.place, NULL), -ERR_NOT_FOUND);
    assert_int_equal(store_work_keep(f->link, "a", "1-0", NULL), -ERR_NOT_FOUND);
    test_sleep_ms(200);
    const struct taken again = take(f->link, "b", 150, "one");
    assert_int_equal(again.deliveries, 2);
    assert_int_equal(store_work_keep(f->link, "a", one.place, NULL), -ERR_NOT_FOUND);
    ok(store_work_keep(f->link, "b", one.place, &err));
    done(f->link, one.place, "1", 0);
    assert_int_equal(store_work_keep(f->link, "b", one.place, NULL), -ERR_NOT_FOUND);
    ok(store_work_close(f->link, JOB, &err));
    assert_int_equal(store_work_keep(f->link, "b", one.place, NULL), -ERR_NOT_FOUND);
}

/* The eleventh pending unit is behind what one XAUTOCLAIM looks at. */
static void test_many_pending(void **state)
{
    struct test_store *const f = *state;
    char text[16];
    open_queue(f->link, JOB);
    for (int i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "%d", i);
        add(f->link, text);
        take(f->link, "a", 60000, text);
        if (i == 29)
            test_sleep_ms(200);
    }
    for (int i = 0; i < 30; i++) {
        snprintf(text, sizeof text, "%d", i);
        take(f->link, "b", 150, text);
    }
}

static void test_leftovers(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    struct store_work_state seen;
    struct results results = {.left = -1};
    char *job = NULL, text[16];
    size_t untaken;
    open_queue(f->link, "old");
    for (int i = 1; i <= 3; i++) {
        snprintf(text, sizeof text, "old %d", i);
        ok(store_work_add(f->link, "old", text, strlen(text), &err));
    }
    const struct taken old = take(f->link, "a", 60000, "old 1");
    done(f->link, take(f->link, "a", 60000, "old 2").place, "old result", 0);
    test_sleep_ms(2); /* places are milliseconds: those of the new queue lie behind */
    open_queue(f->link, JOB);
    assert_state(f->link, 0, 0);
    assert_results(f->link, "");
    add(f->link, "new");
    const struct taken new = take(f->link, "b", 0, "new");
    done(f->link, old.place, "of the old one", -ERR_NOT_FOUND);
    /* One who does not know that he has a successor. */
    ok(store_work_close(f->link, "old", &err));
    assert_int_equal(store_work_add(f->link, "old", "u", 1, NULL), -ERR_NOT_FOUND);
    assert_int_equal(store_work_look(f->link, "old", &seen, NULL), -ERR_NOT_FOUND);
    ok(store_work_job(f->link, &job, &err));
    assert_string_equal(job, JOB);
    free(job);
    done(f->link, new.place, "of the new one", 0);
    assert_int_equal(
        store_work_results(f->link, "old", &untaken, take_result, &results, NULL), -ERR_NOT_FOUND);
    assert_int_equal(results.count, 0);
    assert_results(f->link, "of the new one ");
    ok(store_work_close(f->link, NULL, &err));
    assert_no_queue(f->link);
}

/* ---- bytes, numbers, failures ---- */

static int count_bytes(void *ctx, const struct store_unit *unit)
{
    const unsigned char *const data = unit->data;
    assert_int_equal(unit->len, 1000000);
    for (size_t i = 0; i < unit->len; i++)
        assert_int_equal(data[i], i * i % 251);
    strcpy(ctx, unit->place);
    return 7;
}

static void test_bytes(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char place[STORE_CURSOR_MAX] = "";
    unsigned char *const data = malloc(1000000);
    assert_non_null(data);
    for (size_t i = 0; i < 1000000; i++)
        data[i] = (unsigned char)(i * i % 251);
    open_queue(f->link, JOB);
    ok(store_work_add(f->link, JOB, data, 1000000, &err));
    assert_int_equal(store_work_take(f->link, "a", 0, count_bytes, place, &err), 7);
    done(f->link, place, "", 0);
    assert_results(f->link, " ");
    free(data);
}

static void test_many_results(void **state)
{
    struct test_store *const f = *state;
    struct results results = {.left = -1};
    size_t untaken;
    struct err err = ERR_INIT;
    open_queue(f->link, JOB);
    for (int i = 0; i < 1100; i++) {
        add(f->link, "u");
        done(f->link, take(f->link, "a", 60000, "u").place, "", 0);
    }
    ok(store_work_results(f->link, JOB, &untaken, take_result, &results, &err));
    assert_int_equal(results.count, 1100);
}

/* Results are forgotten when all of them have been taken. */
static void test_stop(void **state)
{
    struct test_store *const f = *state;
    struct results results = {.left = 1};
    size_t untaken;
    open_queue(f->link, JOB);
    add(f->link, "u");
    add(f->link, "v");
    done(f->link, take(f->link, "a", 60000, "u").place, "1", 0);
    done(f->link, take(f->link, "a", 60000, "v").place, "2", 0);
    assert_int_equal(store_work_results(f->link, JOB, &untaken, take_result, &results, NULL), -ERR_NOMEM);
    assert_results(f->link, "1 2 ");
    assert_results(f->link, "");
}

static void test_read_only(void **state)
{
    struct test_store *const f = *state;
    struct store *const store = test_store_open(f->prefix, true);
    struct store_link *link = NULL;
    assert_int_equal(store_connect(&link, store, NULL), 0);
    open_queue(f->link, JOB);
    assert_int_equal(store_work_open(link, JOB, NULL), -ERR_INVALID);
    assert_int_equal(store_work_close(link, NULL, NULL), -ERR_INVALID);
    assert_int_equal(store_work_add(link, JOB, "u", 1, NULL), -ERR_INVALID);
    store_disconnect(link);
    store_close(store);
}

static int run(const char *world_name)
{
    const struct CMUnitTest without[] = {store_test(test_embedded)};
    const struct CMUnitTest tests[] = {
        store_test(test_work),
        store_test(test_dead_taker),
        store_test(test_calm),
        store_test(test_keep),
        store_test(test_many_pending),
        store_test(test_leftovers),
        store_test(test_bytes),
        store_test(test_many_results),
        store_test(test_stop),
        store_test(test_read_only),
    };
    return strcmp(world_name, "lmdb") == 0 ? test_group("work", world_name, without)
                                           : test_group("work", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
