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

/* Many hits are written as one is by the single calls, whatever their ids and scores. */
static void test_hits(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "N1", "", "a \"b\"", "\xE6\x96\xB0", "\xFF", "exactly8", "a-longer-id-than-a-word"};
    static const float scores[] = {1.25f, -0.0f, FLT_MAX, -1.17549435e-38f, NAN, -0.000123456789f};
    struct writer one = {0}, other = {0};
    writer_open(&one, '[');
    writer_open(&other, '[');
    for (size_t i = 0; i < 1000; i++) {
        const char *id = ids[i % (sizeof ids / sizeof *ids)];
        const float score = scores[i % (sizeof scores / sizeof *scores)];
        writer_hit(&one, id, strlen(id), score);
        writer_open(&other, '{');
        writer_key(&other, "id");
        writer_text(&other, id);
        writer_key(&other, "score");
        writer_float(&other, score);
        writer_close(&other, '}');
    }
    assert_false(one.failed);
    assert_int_equal(one.used, other.used);
    assert_memory_equal(one.data, other.data, one.used);
    static const char start[] = "[{\"id\":\"N1\",\"score\":1.25},{\"id\":\"\",\"score\":-0},";
    assert_memory_equal(one.data, start, sizeof start - 1);
    writer_done(&one);
    writer_done(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_hits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
