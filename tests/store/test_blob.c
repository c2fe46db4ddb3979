/* The codec: a blob written out by hand, every reason for a refusal, every dtype, mutations. */
#include "store/blob.h"

#include "tests/lib/blob_judge.h"
#include "tests/lib/mutants.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

/* rows 2, columns 3, kind c, generation "g1", id "N7", inputs 0x0102030405060708. */
static const float golden_matrix[6] = {1.0f, -2.0f, 0.5f, 0.0f, 65504.0f, -0.15625f};
static const unsigned char golden[64 + 24] = {
    'E', 'M', 'B', 'S', 1, 'c', 0, 0,               /* magic, version, kind, dtype, 0 */
    2, 0, 0, 0, 3, 0, 0, 0,                         /* rows, columns */
    0xA3, 0x23, 0x0D, 0xB9, 0x89, 0xE6, 0x32, 0xAB, /* owner */
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* inputs */
    0x29, 0xDD, 0xEC, 0x38, 0x6B, 0xB5, 0x2B, 0xE9, /* check */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0x80, 0x3F, /* 1 */
    0x00, 0x00, 0x00, 0xC0,                                                                         /* -2 */
    0x00, 0x00, 0x00, 0x3F,                                                                         /* 0.5 */
    0x00, 0x00, 0x00, 0x00,                                                                         /* 0 */
    0x00, 0xE0, 0x7F, 0x47, /* 65504 */
    0x00, 0x00, 0x20, 0xBE, /* -0.15625 */
};

static struct blob_spec golden_spec(void)
{
    return (struct blob_spec){BLOB_CONTENT, BLOB_F32, 2, 3, "g1", "N7", 2};
}

/* Put the right checksum into a blob that a test has changed. */
static void mend_check(unsigned char *blob, size_t len)
{
    memset(blob + 32, 0, 8);
    const uint64_t check = XXH3_64bits(blob, len);
    for (int i = 0; i < 8; i++)
        blob[32 + i] = (unsigned char)(check >> 8 * i);
}

static void test_golden(void **state)
{
    (void)state;
    unsigned char blob[sizeof golden];
    float matrix[6];
    const struct blob_spec spec = golden_spec();
    assert_int_equal(blob_size(BLOB_F32, 2, 3), sizeof golden);
    assert_int_equal(blob_encode(blob, &spec, 0x0102030405060708, golden_matrix, NULL), 0);
    assert_memory_equal(blob, golden, sizeof golden);
    assert_int_equal(blob_decode(matrix, &spec, golden, sizeof golden), BLOB_OK);
    assert_memory_equal(matrix, golden_matrix, sizeof matrix);
    assert_true(blob_inputs(&spec, golden, sizeof golden) == 0x0102030405060708);
    assert_true(blob_inputs(&spec, golden, BLOB_HEADER) == 0x0102030405060708);
}

/* The hashes of the golden blob from their definition, on one buffer. */
static void test_golden_hashes(void **state)
{
    (void)state;
    static const char owner[] = "c\ng1\nN7";
    const uint64_t hash = XXH3_64bits(owner, sizeof owner - 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(golden[16 + i], (hash >> 8 * i) & 0xFF);
    unsigned char copy[sizeof golden];
    memcpy(copy, golden, sizeof copy);
    mend_check(copy, sizeof copy);
    assert_memory_equal(copy, golden, sizeof copy);
}

static enum blob_reason refuse(const unsigned char *blob, size_t len)
{
    const struct blob_spec spec = golden_spec();
    float matrix[6] = {7, 7, 7, 7, 7, 7};
    const enum blob_reason reason = blob_decode(matrix, &spec, blob, len);
    for (int i = 0; reason != BLOB_OK && i < 6; i++)
        assert_true(matrix[i] == 7);
    assert_int_equal(blob_decode(NULL, &spec, blob, len), reason);
    return reason;
}

/* One byte of the golden blob changed; the checksum made right again. */
static enum blob_reason refuse_byte(size_t at, unsigned char value)
{
    unsigned char blob[sizeof golden];
    memcpy(blob, golden, sizeof blob);
    assert_int_not_equal(blob[at], value);
    blob[at] = value;
    mend_check(blob, sizeof blob);
    return refuse(blob, sizeof blob);
}

static void test_reasons(void **state)
{
    (void)state;
    assert_int_equal(refuse(golden, 0), BLOB_BAD_LENGTH);
    assert_int_equal(refuse(golden, 63), BLOB_BAD_LENGTH);
    assert_int_equal(refuse(golden, 64), BLOB_BAD_LENGTH);
    assert_int_equal(refuse(golden, sizeof golden - 1), BLOB_BAD_LENGTH);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(refuse_byte(i, 'x'), BLOB_BAD_MAGIC);
    assert_int_equal(refuse_byte(4, 0), BLOB_BAD_VERSION);
    assert_int_equal(refuse_byte(4, 2), BLOB_BAD_VERSION);
    assert_int_equal(refuse_byte(7, 1), BLOB_BAD_VERSION);
    for (size_t i = 40; i < 64; i++)
        assert_int_equal(refuse_byte(i, 1), BLOB_BAD_VERSION);
    assert_int_equal(refuse_byte(5, 'u'), BLOB_BAD_KIND);
    assert_int_equal(refuse_byte(5, 0), BLOB_BAD_KIND);
    assert_int_equal(refuse_byte(6, 3), BLOB_BAD_DTYPE);
    assert_int_equal(refuse_byte(6, 255), BLOB_BAD_DTYPE);
    for (size_t i = 8; i < 16; i++)
        assert_int_equal(refuse_byte(i, 9), BLOB_BAD_DIMENSIONS);
    assert_int_equal(refuse_byte(6, 1), BLOB_BAD_LENGTH); /* bfloat16 has half of the bytes */
    for (size_t i = 16; i < 24; i++)
        assert_int_equal(refuse_byte(i, (unsigned char)(golden[i] + 1)), BLOB_BAD_OWNER);
    assert_int_equal(refuse_byte(67, 0x7F), BLOB_NOT_FINITE); /* 1.0 becomes infinity */
    assert_int_equal(refuse_byte(80, 1), BLOB_OK);            /* another number, and its right checksum */

    unsigned char longer[sizeof golden + 4] = {0};
    memcpy(longer, golden, sizeof golden);
    assert_int_equal(refuse(longer, sizeof longer), BLOB_BAD_LENGTH);
}

static void test_reason_names(void **state)
{
    (void)state;
    static const char *const names[] = {"ok", "magic", "version", "kind", "dtype", "dimensions", "length",
        "owner", "check", "not_finite", "range"};
    for (int i = 0; i < BLOB_REASONS; i++)
        assert_string_equal(blob_reason_name((enum blob_reason)i), names[i]);
}

/* A good blob of another user, content, generation or kind is refused. */
static void test_foreign(void **state)
{
    (void)state;
    struct blob_spec spec = golden_spec();
    spec.id = "N8";
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_OWNER);
    spec = golden_spec();
    spec.id_len = 1;
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_OWNER);
    spec = golden_spec();
    spec.generation = "g2";
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_OWNER);
    spec = golden_spec();
    spec.kind = BLOB_USER;
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_KIND);
    spec = golden_spec();
    spec.rows = 3;
    spec.cols = 2;
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_DIMENSIONS);
    spec.rows = SIZE_MAX / 2;
    spec.cols = SIZE_MAX / 2;
    assert_int_equal(blob_decode(NULL, &spec, golden, sizeof golden), BLOB_BAD_DIMENSIONS);
}

/* ---- all dtypes, sizes around the blocks of the scan, unaligned data ---- */

static float random_float(void)
{
    return (float)(rand() % 200001 - 100000) / 1024.0f;
}

static void round_trip(enum blob_dtype dtype, size_t rows, size_t cols, double tolerance)
{
    const struct blob_spec spec = {BLOB_USER, dtype, rows, cols, "20261124T030000Z-9f3c2a1b", "U\xC3\xA9", 3};
    const size_t count = rows * cols, size = blob_size(dtype, rows, cols);
    float *const matrix = malloc(count * sizeof *matrix), *const back = malloc(count * sizeof *back);
    unsigned char *const bytes = malloc(size + 1), *const blob = bytes + 1;
    assert_non_null(matrix);
    assert_non_null(back);
    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++)
        matrix[i] = random_float();
    assert_int_equal(blob_encode(blob, &spec, 42, matrix, NULL), 0);
    assert_int_equal(blob_decode(back, &spec, blob, size), BLOB_OK);
    assert_true(blob_inputs(&spec, blob, size) == 42);
    for (size_t i = 0; i < count; i++)
        assert_true(fabs((double)matrix[i] - (double)back[i]) <= tolerance * fabs((double)matrix[i]));

    /* A NaN or Inf at any place is seen. */
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    const size_t at = (size_t)rand() % count;
    const float good = matrix[at];
    for (size_t i = 0; i < 4; i++) {
        struct err err = ERR_INIT;
        matrix[at] = bad[i];
        assert_int_equal(blob_encode(blob, &spec, 42, matrix, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "NaN"));
    }
    matrix[at] = good;
    assert_int_equal(blob_encode(blob, &spec, 42, matrix, NULL), 0);
    const size_t width = dtype == BLOB_F32 ? 4 : 2, high = 64 + width * at + width - 1;
    blob[high] = 0x7F;
    blob[high - 1] = 0xFF;
    mend_check(blob, size);
    assert_int_equal(blob_decode(NULL, &spec, blob, size), BLOB_NOT_FINITE);
    free(matrix);
    free(back);
    free(bytes);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const size_t cols[] = {1, 2, 31, 63, 64, 65, 127, 128, 129, 512};
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
        for (size_t rows = 1; rows <= 5; rows += 2) {
            round_trip(BLOB_F32, rows, cols[i], 0);
            round_trip(BLOB_BF16, rows, cols[i], 0x1p-8);
            round_trip(BLOB_F16, rows, cols[i], 0x1p-11);
        }
}

static void test_overflow_of_dtype(void **state)
{
    (void)state;
    unsigned char blob[66];
    float value = 65504.0f, back = 0;
    struct blob_spec spec = {BLOB_USER, BLOB_F16, 1, 1, "g", "", 0};
    assert_int_equal(blob_encode(blob, &spec, 0, &value, NULL), 0);
    assert_int_equal(blob_decode(&back, &spec, blob, sizeof blob), BLOB_OK);
    assert_true(back == 65504.0f);
    value = 65520.0f; /* rounds to infinity */
    assert_int_equal(blob_encode(blob, &spec, 0, &value, NULL), -ERR_INVALID);
    spec.dtype = BLOB_BF16;
    assert_int_equal(blob_encode(blob, &spec, 0, &value, NULL), 0);
    value = FLT_MAX; /* past the largest bfloat16 by more than half a step */
    assert_int_equal(blob_encode(blob, &spec, 0, &value, NULL), -ERR_INVALID);
}

/* The limit is the first that is refused, in every dtype that reaches it, wherever it stands. */
static void test_limit(void **state)
{
    (void)state;
    enum { COLS = 200 };
    static const float just_below[] = {0x1.fffffep29f, 0x1.fep29f}; /* float32's and bfloat16's next */
    unsigned char blob[BLOB_HEADER + 4 * COLS];
    float matrix[COLS] = {0}, back[COLS];
    for (size_t at = 0; at < COLS; at++) {
        for (enum blob_dtype dtype = BLOB_F32; dtype <= BLOB_BF16; dtype++) {
            const struct blob_spec spec = {BLOB_USER, dtype, 1, COLS, "g", "U1", 2};
            const size_t size = blob_size(dtype, 1, COLS), width = dtype == BLOB_F32 ? 4 : 2;
            matrix[at] = at % 2 ? -just_below[dtype] : just_below[dtype];
            assert_int_equal(blob_encode(blob, &spec, 0, matrix, NULL), 0);
            assert_int_equal(blob_decode(back, &spec, blob, size), BLOB_OK);
            assert_memory_equal(back, matrix, sizeof back);
            struct err err = ERR_INIT;
            float limit = at % 2 ? -BLOB_LIMIT : BLOB_LIMIT;
            matrix[at] = limit;
            assert_int_equal(blob_encode(blob, &spec, 0, matrix, &err), -ERR_INVALID);
            assert_non_null(strstr(err.message, "2^30"));
            matrix[at] = 0;
            assert_int_equal(blob_encode(blob, &spec, 0, matrix, NULL), 0);
            memcpy(blob + BLOB_HEADER + width * at, (char *)&limit + sizeof limit - width, width);
            mend_check(blob, size);
            assert_int_equal(blob_decode(NULL, &spec, blob, size), BLOB_BAD_RANGE);
        }
    }
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(blob_size(BLOB_F32, 32, 512), 64 + 4 * 32 * 512);
    assert_int_equal(blob_size(BLOB_BF16, 4, 512), 64 + 2 * 4 * 512);
    assert_int_equal(blob_size(BLOB_F32, 0, 512), 0);
    assert_int_equal(blob_size(BLOB_F32, 512, 0), 0);
    assert_int_equal(blob_size(BLOB_F32, UINT32_MAX, UINT32_MAX), 0);
    assert_int_equal(blob_size(BLOB_F32, (size_t)UINT32_MAX + 1, 1), 0);
    assert_int_equal(blob_size((enum blob_dtype)3, 1, 1), 0);
    assert_int_equal(
        blob_encode(NULL, &(struct blob_spec){BLOB_USER, BLOB_F32, 0, 1, "g", "", 0}, 0, NULL, NULL),
        -ERR_INVALID);
}

/* A header that is not all of what was asked for says nothing. */
static void test_inputs(void **state)
{
    (void)state;
    unsigned char blob[sizeof golden];
    const struct blob_spec spec = golden_spec();
    assert_true(blob_inputs(&spec, NULL, 0) == 0);
    assert_true(blob_inputs(&spec, golden, BLOB_HEADER - 1) == 0);
    for (size_t i = 0; i < BLOB_HEADER; i++) {
        memcpy(blob, golden, sizeof blob);
        blob[i] ^= 0x55;
        if (i >= 24 && i < 40) /* the field itself, and the checksum, which is of the whole blob */
            assert_true(blob_inputs(&spec, blob, sizeof blob) ==
                        (i < 32 ? 0x0102030405060708 ^ UINT64_C(0x55) << 8 * (i - 24) : 0x0102030405060708));
        else
            assert_true(blob_inputs(&spec, blob, sizeof blob) == 0);
    }
    struct blob_spec other = spec;
    other.dtype = BLOB_BF16; /* it would have to be written again in another form */
    assert_true(blob_inputs(&other, golden, sizeof golden) == 0);
}

static void test_dtype_names(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    for (int i = 0; i < 3; i++) {
        enum blob_dtype dtype = BLOB_F32;
        assert_int_equal(blob_dtype_parse(&dtype, blob_dtype_name((enum blob_dtype)i), NULL), 0);
        assert_int_equal(dtype, i);
    }
    enum blob_dtype dtype = BLOB_F16;
    assert_int_equal(blob_dtype_parse(&dtype, "int8", &err), -ERR_INVALID);
    assert_int_equal(dtype, BLOB_F16);
    assert_non_null(strstr(err.message, "int8"));
}

/* What is left of a blob after anything may have happened to it: the judge's verdict, and its numbers. */
static void read_mutants(struct rng *rng, bool sealed, unsigned reasons[BLOB_REASONS])
{
    enum { ROWS_MOST = 4, COLS_MOST = 130, VALUES = ROWS_MOST * COLS_MOST, COUNT = 10000 };
    static float matrix[VALUES], read[VALUES];
    static uint8_t bytes[BLOB_HEADER + 4 * VALUES + MUTANT_TAIL];
    for (int i = 0; i < COUNT; i++) {
        const struct blob_spec spec = {i % 2 ? BLOB_CONTENT : BLOB_USER, BLOB_F32,
            1 + rng_next(rng) % ROWS_MOST, 1 + rng_next(rng) % COLS_MOST, "20261124T030000Z-9f3c2a1b", "N12",
            3};
        const size_t count = spec.rows * spec.cols;
        for (size_t k = 0; k < count; k++) {
            matrix[k] = (float)rng_normal(rng);
            read[k] = 7;
        }
        struct mutant mutant = {.bytes = bytes};
        mutant_make(&mutant, rng, &spec, matrix, sealed);
        const enum blob_reason reason = blob_decode(read, &spec, bytes, mutant.len);
        if (reason != blob_judge(&spec, bytes, mutant.len))
            fail_msg("%s is taken for %s", mutant.done, blob_reason_name(reason));
        reasons[reason]++;
        for (size_t k = 0; k < count; k++) {
            const float right = reason == BLOB_OK ? blob_judge_value(bytes, k) : 7;
            assert_memory_equal(&read[k], &right, sizeof right);
        }
    }
}

static void test_mutants(void **state)
{
    (void)state;
    const char *text = getenv("EMBSUM_SEED");
    const uint64_t seed = text ? strtoull(text, NULL, 10) : 20261128;
    printf("seed %llu\n", (unsigned long long)seed);
    struct rng rng = rng_seed(seed, 0);
    unsigned wrong[BLOB_REASONS] = {0}, right[BLOB_REASONS] = {0};
    read_mutants(&rng, false, wrong);
    read_mutants(&rng, true, right);
    for (int i = 0; i < BLOB_REASONS; i++)
        printf("%-10s %5u with a wrong checksum, %5u with the right one\n",
            blob_reason_name((enum blob_reason)i), wrong[i], right[i]);
    assert_int_equal(wrong[BLOB_OK] + wrong[BLOB_NOT_FINITE] + wrong[BLOB_BAD_RANGE], 0);
    assert_int_equal(right[BLOB_BAD_CHECK], 0);
    for (int i = 0; i < BLOB_REASONS; i++)
        assert_true(wrong[i] + right[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_hashes),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_reason_names),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_overflow_of_dtype),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_dtype_names),
        cmocka_unit_test(test_mutants),
    };
    return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
