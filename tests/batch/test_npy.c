#include "batch/npy.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <string.h>

static char dir[256];

static void test_round_trip(void **state)
{
    (void)state;
    char path[300];
    struct npy npy;
    struct err err = ERR_INIT;
    const size_t shape[3] = {4, 2, 3};
    float in[24], out[24];
    for (int i = 0; i < 24; i++)
        in[i] = (float)i * 0.5f;
    snprintf(path, sizeof path, "%s/a.npy", dir);
    assert_int_equal(npy_create(&npy, path, 3, shape, &err), 0);
    assert_int_equal(npy.data % 64, 0);
    assert_int_equal(npy_write(&npy, in + 12, 2, 2, &err), 0); /* in any order */
    assert_int_equal(npy_write(&npy, in, 0, 2, &err), 0);
    assert_int_equal(npy_close(&npy, &err), 0);
    assert_int_equal(npy_open(&npy, path, 3, &err), 0);
    assert_memory_equal(npy.shape, shape, sizeof shape);
    assert_int_equal(npy_read(&npy, out, 0, 4, &err), 0);
    assert_memory_equal(in, out, sizeof in);
    npy_close(&npy, NULL);
    assert_int_equal(npy_open(&npy, path, 2, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "3 dimensions instead of 2"));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } cases[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", 16, "float32, little-endian"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, "float32, little-endian"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", 8, "not in C order"},
        {"{'descr': '<f4', 'fortran_order': False, }", 8, "no shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8, "malformed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, "malformed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 7, "has "},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 9, "has "},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,1), }", 8, "2 dimensions instead of 1"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,), }", 8, "impossible"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[512] = "\x93NUMPY\x01";
        const size_t len = strlen(cases[i].header);
        bytes[8] = (char)len;
        memcpy(bytes + 10, cases[i].header, len);
        struct npy npy;
        struct err err = ERR_INIT;
        if (npy_open(&npy, scratch_write(dir, "x.npy", bytes, 10 + len + cases[i].data), 1, &err) !=
                -ERR_INVALID ||
            !strstr(err.message, cases[i].message))
            fail_msg("case %zu: '%s' instead of '%s'", i, err.message, cases[i].message);
    }
    struct npy npy;
    struct err err = ERR_INIT;
    assert_int_equal(npy_open(&npy, scratch_write(dir, "x.npy", "hello, world", 12), 1, &err), -ERR_INVALID);
    assert_int_equal(npy_open(&npy, scratch_write(dir, "x.npy", "hello", 5), 1, &err), -ERR_INVALID);
    assert_int_equal(npy_open(&npy, "/nonexistent", 1, &err), -ERR_NOT_FOUND);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("npy", tests, setup, teardown);
}
