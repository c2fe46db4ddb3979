/* The breaker before the store, and deadlines that pass or are cleared by several threads at once. */
#include "server/breaker.h"
#include "server/clock.h"
#include "server/deadlines.h"
#include "server/pool.h"
#include "tests/lib/stores.h"

#include <stdlib.h>

static void test_breaker(void **state)
{
    (void)state;
    const struct log log = {.fd = -1, .level = LOG_ERROR};
    struct breaker breaker;
    breaker_init(&breaker, &log);
    for (int round = 0; round < 3; round++) { /* a success between failures begins the count anew */
        for (int i = 1; i < BREAKER_FAILURES; i++) {
            breaker_failed(&breaker, "why");
            assert_false(breaker_is_open(&breaker));
            assert_true(breaker_allows(&breaker));
        }
        breaker_succeeded(&breaker);
    }
    for (int i = 0; i < BREAKER_FAILURES; i++)
        breaker_failed(&breaker, "why");
    assert_true(breaker_is_open(&breaker));
    const uint64_t start = clock_ms();
    int allowed = 0;
    while (clock_ms() < start + 5 * BREAKER_PROBE_MS / 2) {
        allowed += breaker_allows(&breaker);
        test_sleep_ms(5);
    }
    assert_int_equal(allowed, 2);
    breaker_failed(&breaker, "the probe"); /* the pause begins with the end of the probe */
    assert_false(breaker_allows(&breaker));
    test_sleep_ms(BREAKER_PROBE_MS / 2);
    assert_false(breaker_allows(&breaker));
    breaker_succeeded(&breaker);
    assert_false(breaker_is_open(&breaker));
    assert_true(breaker_allows(&breaker));
    breaker_done(&breaker);
}

/* ---- deadlines ---- */

static struct deadlines *deadlines;

struct waiting {
    struct deadline deadline;
    uint64_t passed_ns;
    atomic_int passed;
};

static void passed(struct deadline *deadline)
{
    struct waiting *waiting = POOL_OWNER(deadline, struct waiting, deadline);
    waiting->passed_ns = clock_ns();
    atomic_fetch_add(&waiting->passed, 1);
}

/* Set out of order, some cleared: the others pass, in their order, none before its time. */
static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    static struct waiting waiting[COUNT];
    const uint64_t start = clock_ns() + 20000000;
    for (size_t i = 0; i < COUNT; i++) {
        waiting[i].deadline.passed = passed;
        deadline_set(deadlines, &waiting[i].deadline, start + i * 37 % COUNT * 500000);
    }
    for (size_t i = 0; i < COUNT; i += 3)
        deadline_clear(deadlines, &waiting[i].deadline);
    test_sleep_ms(400);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(atomic_load(&waiting[i].passed), i % 3 != 0);
        assert_false(waiting[i].deadline.set);
        if (i % 3 == 0)
            continue;
        assert_true(waiting[i].passed_ns >= waiting[i].deadline.at_ns);
        for (size_t j = 0; j < i; j++)
            if (j % 3 != 0)
                assert_true((waiting[i].passed_ns < waiting[j].passed_ns) ==
                            (waiting[i].deadline.at_ns < waiting[j].deadline.at_ns));
    }
}

/* Each is freed as soon as it has been cleared: under a sanitizer, one that passes later is found. */
static void *set_and_clear(void *seed)
{
    unsigned random = *(unsigned *)seed;
    size_t late = 0;
    for (int i = 0; i < 3000; i++) {
        struct waiting *waiting = calloc(1, sizeof *waiting);
        assert_non_null(waiting);
        waiting->deadline.passed = passed;
        deadline_set(deadlines, &waiting->deadline, clock_ns() + (uint64_t)rand_r(&random) % 200 * 1000);
        const uint64_t until = clock_ns() + (uint64_t)rand_r(&random) % 200 * 1000;
        while (clock_ns() < until)
            ;
        deadline_clear(deadlines, &waiting->deadline);
        late += (size_t)atomic_load(&waiting->passed);
        assert_true(atomic_load(&waiting->passed) <= 1);
        free(waiting);
    }
    *(unsigned *)seed = (unsigned)late;
    return NULL;
}

static void test_race(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    unsigned seeds[THREADS];
    size_t late = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, set_and_clear, &seeds[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        late += seeds[i];
    }
    assert_true(late > 0 && late < THREADS * 3000);
}

int main(void)
{
    struct err err = ERR_INIT;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breaker),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_race),
    };
    if (deadlines_start(&deadlines, &err) < 0)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    deadlines_stop(deadlines);
    deadlines_free(deadlines);
    return failed;
}
