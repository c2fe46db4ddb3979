/* Explanations as text and back, and what is none. */
#include "store/title.h"
#include "store/why.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_round_trip(void **state)
{
    (void)state;
    size_t first[] = {0, 3, 3, 4};
    struct why_look looks[] = {
        {"N5", 2, 0.41f}, {"", 0, 0.1f}, {"a\"\\\n\xC3\xA9", 6, 1.5e-7f}, {"N5", 2, 1}};
    const struct why why = {3, first, looks, NULL};
    struct why back;
    struct err err = ERR_INIT;
    char *text = why_write(&why);
    assert_string_equal(
        text, "{\"codes\":[[[\"N5\",0.41],[\"\",0.1],[\"a\\\"\\\\\\n\xC3\xA9\",1.5e-7]],[],[[\"N5\",1.0]]]}");
    assert_int_equal(why_read(&back, text, strlen(text), &err), 0);
    assert_int_equal(back.code_count, 3);
    assert_memory_equal(back.first, first, sizeof first);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(back.looks[i].len, looks[i].len);
        assert_memory_equal(back.looks[i].name, looks[i].name, looks[i].len);
        assert_true(back.looks[i].weight == looks[i].weight);
    }
    why_done(&back);
    why_done(&back);
    free(text);
    assert_int_equal(why_read(&back, "{\"codes\":[]}", 12, &err), 0);
    assert_int_equal(back.code_count, 0);
    assert_int_equal(back.first[0], 0);
    why_done(&back);
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{}", "[]", "{\"codes\":{}}", "{\"codes\":[1]}",
        "{\"codes\":[[1]]}", "{\"codes\":[[[]]]}", "{\"codes\":[[[\"a\"]]]}", "{\"codes\":[[[\"a\",\"b\"]]]}",
        "{\"codes\":[[[1,1]]]}", "{\"codes\":[[[\"a\",1,2]]]}", "{\"codes\":[[[\"a\",1e99]]]}",
        "{\"codes\":[],\"more\":1}", "{\"codes\":[[[\"\xFF\",1]]]}", "{\"codes\":[[[\"a\",1]]]} x",
        "{\"codes\":[]"};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct why why = {.code_count = 7};
        if (why_read(&why, bad[i], strlen(bad[i]), &err) != -ERR_CORRUPT || why.code_count != 7)
            fail_msg("%s is taken for one", bad[i]);
    }
}

static void test_titles(void **state)
{
    (void)state;
    char text[STORE_TITLE_MAX + 8];
    memset(text, 'x', sizeof text);
    assert_int_equal(title_cut(text, 0), 0);
    assert_int_equal(title_cut(text, STORE_TITLE_MAX), STORE_TITLE_MAX);
    assert_int_equal(title_cut(text, STORE_TITLE_MAX + 1), STORE_TITLE_MAX);
    for (size_t len = 2; len <= 4; len++) { /* a character that ends before, at and behind the limit */
        static const char *const characters[] = {"\xC3\xA9", "\xE2\x96\x81", "\xF0\x9F\x98\x80"};
        for (size_t at = STORE_TITLE_MAX - len - 1; at <= STORE_TITLE_MAX; at++) {
            memset(text, 'x', sizeof text);
            memcpy(text + at, characters[len - 2], len);
            const size_t end = at + len, cut = title_cut(text, end);
            assert_int_equal(cut, end <= STORE_TITLE_MAX ? end : at);
            assert_true(title_valid(text, cut));
        }
    }
    assert_int_equal(title_cut("a\rb\r\r", 5), 3);
    assert_int_equal(title_cut("\r", 1), 0);
    assert_false(title_valid("", 0));
    assert_false(title_valid("\xC3", 1));
    assert_false(title_valid(text, STORE_TITLE_MAX + 1));
    assert_true(title_hash("", 0) == 0);
    assert_true(title_hash("a", 1) != title_hash("b", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bad), cmocka_unit_test(test_titles)};
    return cmocka_run_group_tests_name("why", tests, NULL, NULL);
}
