/* Shortest decimals against a slow search that the C library's printf and strtof decide. EMBSUM_LONG=1 compares all
 * finite float32, which takes half an hour on two cores. */
#include "core/decimal.h"
#include "tests/lib/scratch.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- the judge ---- */

enum { TEXT_MAX = DECIMAL_FLOAT_MAX + 1 };

static bool reads_back(char out[TEXT_MAX], int digits, double near, float value)
{
    snprintf(out, TEXT_MAX, "%.*g", digits, near);
    return strtof(out, NULL) == value;
}

/* A decimal of six digits survives the way through float32 (FLT_DIG), nine tell all float32 apart
 * (FLT_DECIMAL_DIG), so the answer is among four tries; subnormals have fewer digits. The nearest decimal of
 * a length is the one to try, but for a power of two: what rounds to it reaches twice as far away from zero
 * as towards it, so that the next decimal outwards may read back where the nearest does not (2^87, 2^90 and
 * 2^-96). The program never leaves the "C" locale: the point is a point. */
static void search(char out[TEXT_MAX], float value)
{
    int exponent;
    const double outwards = fabsf(frexpf(value, &exponent)) == 0.5f ? (double)value * (1 + 0x1p-25) : 0;
    for (int digits = fabsf(value) < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
        if (reads_back(out, digits, (double)value, value))
            break;
        if (outwards != 0 && reads_back(out, digits, outwards, value))
            break;
    }
}

/* The text of value, with a NUL; is nothing written past the promised length? */
static bool format(char out[TEXT_MAX], float value)
{
    memset(out, '#', TEXT_MAX);
    const size_t len = decimal_format_float(out, value);
    const bool fits = len <= 15 && out[DECIMAL_FLOAT_MAX] == '#';
    out[fits ? len : 0] = '\0';
    return fits;
}

static bool is_right(uint32_t bits)
{
    char text[TEXT_MAX], right[TEXT_MAX];
    const float value = from_bits(bits);
    if (!isfinite(value))
        return true;
    search(right, value);
    const bool fits = format(text, value);
    const float back = strtof(text, NULL);
    if (fits && strcmp(text, right) == 0 && memcmp(&back, &value, sizeof back) == 0)
        return true;
    printf("%08" PRIx32 ": %s, not %s\n", bits, text, right);
    return false;
}

static void check(uint32_t bits)
{
    if (!is_right(bits))
        fail_msg("a wrong decimal");
}

/* ---- the tests ---- */

static void test_random(void **state)
{
    (void)state;
    uint64_t x = 42;
    printf("seed %" PRIu64 "\n", x);
    for (size_t i = 0; i < test_rounds(3000000); i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        check((uint32_t)(x >> 32));
    }
}

/* Scores are of the order of 1: two million in a row around it. */
static void test_around_one(void **state)
{
    (void)state;
    const uint32_t near = (uint32_t)test_rounds(1000000);
    for (uint32_t bits = 0x3F800000 - near; bits < 0x3F800000 + near; bits++)
        check(bits);
}

/* Both sides of every power of two, where the interval changes its width, and of every power of ten. */
static void test_boundaries(void **state)
{
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (uint32_t near = 0; near <= 200; near++) {
            check((exponent << 23) + near);
            check((exponent << 23) - near); /* 0 - near: negative, and not finite */
            check((exponent << 23 | 1u << 31) + near);
        }
    for (int power = -45; power <= 38; power++) {
        char text[8];
        snprintf(text, sizeof text, "1e%d", power);
        const float value = strtof(text, NULL);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        for (uint32_t near = bits > 200 ? bits - 200 : 0; near <= bits + 200; near++)
            check(near);
    }
}

static void test_subnormals(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 100000; bits++)
        check(bits);
    for (uint32_t bits = 1; bits < 1u << 23; bits += 97)
        check(bits);
}

/* Whole numbers, and halves, quarters, ... which may lie in the middle of two decimals. */
static void test_ties(void **state)
{
    (void)state;
    for (int exponent = -30; exponent <= 30; exponent++)
        for (int odd = 1; odd < 4000; odd += 2) {
            const float value = ldexpf((float)odd, exponent);
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            check(bits);
        }
}

static void test_known(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } rows[] = {{0, "0"}, {-0.0f, "-0"}, {0.7f, "0.7"}, {1, "1"}, {-0.5f, "-0.5"}, {0.1f + 0.2f, "0.3"},
        {FLT_MAX, "3.4028235e+38"}, {FLT_MIN, "1.1754944e-38"}, {-1e-45f, "-1e-45"},
        {0x1p87f, "1.5474251e+26"}, {16777216, "16777216"}, {33554432, "33554432"}, {999999, "999999"},
        {1e6f, "1e+06"}, {1234567, "1234567"}, {1.5e6f, "1.5e+06"}, {1e-4f, "0.0001"}, {-1.5e-4f, "-0.00015"},
        {1e-5f, "1e-05"}, {123.5f, "123.5"}, {100, "100"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[TEXT_MAX];
        assert_true(format(text, rows[i].value));
        assert_string_equal(text, rows[i].text);
    }
}

static void check_uint(uint64_t value)
{
    char text[DECIMAL_UINT_MAX + 1], right[32];
    text[decimal_format_uint(text, value)] = '\0';
    snprintf(right, sizeof right, "%" PRIu64, value);
    assert_string_equal(text, right);
}

static void test_uint(void **state)
{
    (void)state;
    uint64_t x = 7;
    for (uint64_t power = 1;; power *= 10) {
        check_uint(power - 1);
        check_uint(power);
        if (power > UINT64_MAX / 10)
            break;
    }
    check_uint(UINT64_MAX);
    for (int i = 0; i < 100000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        check_uint(x >> i % 64);
    }
}

/* ---- all of them ---- */

struct share {
    uint32_t parity;
    uint64_t wrong;
};

static void *compare_share(void *arg)
{
    struct share *share = arg;
    for (uint64_t bits = share->parity; bits <= UINT32_MAX; bits += 2) {
        share->wrong += !is_right((uint32_t)bits);
        if (bits % (1u << 26) == 0)
            fprintf(stderr, "  %3.0f %% of all float32\n", 100 * (double)bits / UINT32_MAX);
    }
    return NULL;
}

static void test_all(void **state)
{
    (void)state;
    if (!getenv("EMBSUM_LONG"))
        skip();
    struct share even = {.parity = 0}, odd = {.parity = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compare_share, &odd), 0);
    compare_share(&even);
    pthread_join(thread, NULL);
    assert_int_equal(even.wrong + odd.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_uint),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_boundaries),
        cmocka_unit_test(test_subnormals),
        cmocka_unit_test(test_around_one),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
