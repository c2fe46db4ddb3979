/* The processes of a job: run by itself, this is a job of one; test_mpi.sh starts it with mpirun as several. Each test is
 * then one meeting of all ranks. */
#include "batch/ranks.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static struct ranks ranks;

static size_t told(const char *name, size_t alone)
{
    const char *const value = getenv(name);
    return value ? strtoul(value, NULL, 10) : alone;
}

static void finds_what_the_launcher_says(void **state)
{
    (void)state;
    assert_int_equal(ranks.size, told("OMPI_COMM_WORLD_SIZE", 1));
    assert_int_equal(ranks.rank, told("OMPI_COMM_WORLD_RANK", 0));
    assert_int_equal(ranks.local, told("OMPI_COMM_WORLD_LOCAL_SIZE", 1));
    assert_true(ranks_cores(&ranks) >= 1);
    if (!getenv("OMPI_COMM_WORLD_SIZE"))
        assert_null(dlopen("libmpi.so.40", RTLD_NOW | RTLD_NOLOAD)); /* alone: not even loaded */
}

static void sums(void **state)
{
    (void)state;
    enum { COUNT = (1 << 22) + 3 }; /* more than one piece */
    struct err err = ERR_INIT;
    float *values = malloc(COUNT * sizeof *values);
    double doubles[3] = {1, (double)ranks.rank, 0.5};
    const float all = (float)(ranks.size * (ranks.size + 1) / 2);
    assert_non_null(values);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = (float)((ranks.rank + 1) * (i % 1000));
    assert_int_equal(ranks_sum_f32(&ranks, values, COUNT, &err), 0);
    for (size_t i = 0; i < COUNT; i++)
        if (values[i] != all * (float)(i % 1000))
            fail_msg("%zu: %g instead of %g", i, (double)values[i], (double)(all * (float)(i % 1000)));
    assert_int_equal(ranks_sum_f64(&ranks, doubles, 3, &err), 0);
    assert_true(doubles[0] == (double)ranks.size);
    assert_true(doubles[1] == (double)(ranks.size * (ranks.size - 1) / 2));
    assert_true(doubles[2] == 0.5 * (double)ranks.size);
    free(values);
}

/* Values whose sum depends on its order are the same bits everywhere. Lengths on both sides of the algorithms' limits. */
static void sums_are_the_same_bits(void **state)
{
    (void)state;
    static float values[100003];
    static const size_t counts[] = {1, 7, 1000, 100003};
    struct err err = ERR_INIT;
    struct rng rng = rng_seed(7, ranks.rank);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t i = 0; i < counts[c]; i++) {
            const double normal = rng_normal(&rng);
            values[i] = (float)normal;
        }
        assert_int_equal(ranks_sum_f32(&ranks, values, counts[c], &err), 0);
        const int result = ranks_same(&ranks, XXH3_64bits(values, counts[c] * sizeof *values), "sum", &err);
        if (result < 0)
            fail_msg("%zu values: %s", counts[c], err.message);
    }
}

static void agrees(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(ranks_agree(&ranks, 0, &err), 0);
    for (size_t failing = 0; failing < ranks.size; failing++) {
        char expected[64] = "no such luck";
        if (failing > 0)
            snprintf(expected, sizeof expected, "rank %zu: no such luck", failing);
        err = (struct err)ERR_INIT;
        const int own = ranks.rank == failing ? err_set(&err, ERR_NOT_FOUND, "no such luck") : 0;
        assert_int_equal(ranks_agree(&ranks, own, &err), -ERR_NOT_FOUND);
        assert_int_equal(err.code, -ERR_NOT_FOUND);
        assert_string_equal(err.message, expected);
    }
    /* all fail: one message; and without a struct err */
    const int own = err_set(&err, ERR_INVALID, "mine is %zu", ranks.rank);
    assert_int_equal(ranks_agree(&ranks, own, &err), -ERR_INVALID);
    assert_string_equal(err.message, "mine is 0");
    assert_int_equal(ranks_agree(&ranks, ranks.rank + 1 == ranks.size ? -ERR_IO : 0, NULL), -ERR_IO);
}

static void numbers_workers(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    size_t first = 99, total = 99;
    assert_int_equal(ranks_number(&ranks, ranks.rank + 1, &first, &total, &err), 0);
    assert_int_equal(first, ranks.rank * (ranks.rank + 1) / 2);
    assert_int_equal(total, ranks.size * (ranks.size + 1) / 2);
}

static void hears_of_one(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    bool any = true;
    assert_int_equal(ranks_any(&ranks, false, &any, &err), 0);
    assert_false(any);
    assert_int_equal(ranks_any(&ranks, ranks.rank + 1 == ranks.size, &any, &err), 0);
    assert_true(any);
}

static void shares(void **state)
{
    (void)state;
    enum { SIZE = (1 << 24) + 5 };
    struct err err = ERR_INIT;
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    memset(bytes, ranks.rank == 0 ? 'x' : '-', SIZE);
    assert_int_equal(ranks_share(&ranks, bytes, SIZE, &err), 0);
    assert_true(bytes[0] == 'x' && memcmp(bytes, bytes + 1, SIZE - 1) == 0);
    free(bytes);
}

static void compares(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char expected[64];
    assert_int_equal(ranks_same(&ranks, 5, "number", &err), 0);
    const size_t last = ranks.size - 1;
    snprintf(expected, sizeof expected, "rank %zu: not rank 0's number", last);
    const int result = ranks_same(&ranks, (uint64_t)(ranks.rank == last) << 63, "number", &err);
    if (ranks.size == 1) {
        assert_int_equal(result, 0);
    } else {
        assert_int_equal(result, -ERR_CORRUPT);
        assert_string_equal(err.message, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_the_launcher_says),
        cmocka_unit_test(sums),
        cmocka_unit_test(sums_are_the_same_bits),
        cmocka_unit_test(agrees),
        cmocka_unit_test(numbers_workers),
        cmocka_unit_test(hears_of_one),
        cmocka_unit_test(shares),
        cmocka_unit_test(compares),
    };
    struct err err = ERR_INIT;
    if (ranks_open(&ranks, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ranks_close(&ranks);
    return failed;
}
