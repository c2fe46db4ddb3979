/* The JSON writer, held against jansson as the reader. */
#include "server/writer.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int count_digits(const char *text)
{
    int digits = 0;
    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (digits || *text != '0'))
            digits++;
    return digits;
}

/* Is there a decimal with fewer digits that reads back? The nearest of each length and its two neighbours are
 * all that could. Zeros at the end of an integer are no digits that can be spared. */
static bool has_shorter(float value, int digits)
{
    for (int fewer = 1; fewer < digits; fewer++) {
        char text[40], mantissa[24];
        size_t used = 0;
        snprintf(text, sizeof text, "%.*e", fewer - 1, fabs((double)value));
        const char *e = strchr(text, 'e');
        const int exponent = atoi(e + 1);
        for (const char *c = text; c < e; c++)
            if (*c != '.')
                mantissa[used++] = *c;
        mantissa[used] = '\0';
        const long nearest = atol(mantissa);
        for (long near = nearest - 1; near <= nearest + 1; near++) {
            char other[48];
            snprintf(other, sizeof other, "%lde%d", near, exponent - (fewer - 1));
            if (strtof(other, NULL) == fabsf(value))
                return true;
        }
    }
    return false;
}

static int significant(const char *text)
{
    const char *digits = text + (*text == '-');
    int count = count_digits(digits);
    if (!strpbrk(digits, ".e")) /* 15000 has two */
        for (size_t i = strlen(digits); i > 1 && digits[i - 1] == '0'; i--)
            count--;
    return count;
}

static void check_float(float value)
{
    char text[WRITER_FLOAT_MAX];
    const size_t len = writer_format_float(text, value);
    assert_int_equal(len, strlen(text));
    const float back = strtof(text, NULL);
    if (memcmp(&back, &value, sizeof back) != 0)
        fail_msg("%s is not %a", text, (double)value);
}

static void check_shortest(float value)
{
    char text[WRITER_FLOAT_MAX];
    writer_format_float(text, value);
    if (has_shorter(value, significant(text)))
        fail_msg("%s is not the shortest", text);
}

static void test_a_million_floats(void **state)
{
    (void)state;
    uint64_t x = 42;
    printf("seed %llu\n", (unsigned long long)x);
    for (int i = 0; i < 1000000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        const float value = from_bits((uint32_t)(x >> 32));
        if (!isfinite(value))
            continue;
        check_float(value);
        if (i % 16 == 0)
            check_shortest(value);
    }
}

static void test_powers_of_two(void **state)
{
    (void)state;
    for (uint32_t exponent = 1; exponent < 255; exponent++) {
        const uint32_t bits = exponent << 23;
        for (uint32_t near = bits - 1; near <= bits + 1; near++) {
            check_float(from_bits(near));
            check_shortest(from_bits(near));
            check_float(-from_bits(near));
        }
    }
    for (uint32_t bits = 1; bits < 1u << 22; bits = bits * 2 + 1) { /* subnormals */
        check_float(from_bits(bits));
        check_shortest(from_bits(bits));
    }
}

static void test_known_floats(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } rows[] = {{0, "0"}, {-0.0f, "-0"}, {0.7f, "0.7"}, {1, "1"}, {-0.5f, "-0.5"}, {0.1f + 0.2f, "0.3"},
        {FLT_MAX, "3.4028235e+38"}, {1e-45f, "1e-45"}, {0x1p87f, "1.5474251e+26"}, {16777216, "16777216"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[WRITER_FLOAT_MAX];
        writer_format_float(text, rows[i].value);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_structure(void **state)
{
    (void)state;
    struct writer w = {0};
    writer_open(&w, '{');
    writer_key(&w, "a");
    writer_open(&w, '[');
    writer_int(&w, -1);
    writer_uint(&w, UINT64_MAX);
    writer_bool(&w, true);
    writer_bool(&w, false);
    writer_null(&w);
    writer_float(&w, INFINITY);
    writer_open(&w, '{');
    writer_close(&w, '}');
    writer_open(&w, '[');
    writer_close(&w, ']');
    writer_close(&w, ']');
    writer_key(&w, "b");
    writer_text(&w, "ends in [");
    writer_key(&w, "c");
    writer_text(&w, "");
    writer_close(&w, '}');
    writer_raw(&w, "", 1);
    assert_false(w.failed);
    assert_string_equal(w.data, "{\"a\":[-1,18446744073709551615,true,false,null,null,{},[]],"
                                "\"b\":\"ends in [\",\"c\":\"\"}");
    writer_clear(&w);
    writer_text(&w, "again");
    assert_int_equal(w.used, 7);
    writer_done(&w);
}

/* Whatever bytes go in, a strict parser reads the text; valid UTF-8 comes back as it was. */
static void test_strings(void **state)
{
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    static const char valid[] = "\"\\/\b\f\n\r\t\x01\x1f\x7f \xC3\xBC \xE6\x96\xB0 \xF0\x9F\x98\x80";
    struct writer w = {0};
    writer_open(&w, '[');
    writer_string(&w, valid, sizeof valid);
    writer_string(&w, all, sizeof all);
    writer_string(&w, "ab\xE6\x96", 4);
    writer_close(&w, ']');
    json_error_t where;
    json_t *root = json_loadb(w.data, w.used, JSON_ALLOW_NUL, &where);
    if (!root)
        fail_msg("%s", where.text);
    const json_t *first = json_array_get(root, 0);
    assert_int_equal(json_string_length(first), sizeof valid);
    assert_memory_equal(json_string_value(first), valid, sizeof valid);
    assert_memory_equal(json_string_value(json_array_get(root, 1)), all, 128);
    assert_int_equal(json_string_length(json_array_get(root, 1)), 128 + 3 * 128);
    assert_string_equal(json_string_value(json_array_get(root, 2)), "ab\xEF\xBF\xBD\xEF\xBF\xBD");
    json_decref(root);
    writer_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_million_floats),
        cmocka_unit_test(test_powers_of_two),
        cmocka_unit_test(test_known_floats),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
