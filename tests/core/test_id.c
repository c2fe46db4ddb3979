#include "core/id.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"abc", true},
        {"\xC3\xA9", true},
        {"\xE2\x82\xAC", true},
        {"\xF0\x9F\x98\x80", true},
        {"\xF4\x8F\xBF\xBF", true},
        {"\xEF\xBF\xBF", true},
        {"\x80", false},
        {"\xC3", false},
        {"\xC0\x80", false},
        {"\xC1\xBF", false},
        {"\xE0\x80\x80", false},
        {"\xE0\x9F\xBF", false},
        {"\xED\xA0\x80", false},
        {"\xED\xBF\xBF", false},
        {"\xF0\x8F\xBF\xBF", false},
        {"\xF4\x90\x80\x80", false},
        {"\xF5\x80\x80\x80", false},
        {"\xFF", false},
        {"\xE2\x82", false},
        {"\xE2\x82x", false},
        {"\xF0\x9F\x98", false},
        {"a\x80", false},
    };
    static const char ascii[] = "abcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t before = 0; before < 20;
             before++) /* wherever it lies in a word, and at the end of a page */
            for (size_t behind = 0; behind < 20; behind++) {
                const size_t len = before + strlen(cases[i].text) + behind;
                char *const text = malloc(len + 1); /* the sanitizers see a byte read behind it */
                snprintf(text, len + 1, "%.*s%s%.*s", (int)before, ascii, cases[i].text, (int)behind, ascii);
                const bool valid = utf8_valid(text, len);
                free(text);
                if (valid != cases[i].valid)
                    fail_msg("case %zu, %zu bytes before, %zu behind", i, before, behind);
            }
}

static void test_check(void **state)
{
    (void)state;
    char long_id[ID_MAX + 2];
    struct err err;
    memset(long_id, 'x', sizeof long_id);
    assert_int_equal(id_check("N1", 2, &err), 0);
    assert_int_equal(id_check(long_id, ID_MAX, &err), 0);
    assert_int_equal(id_check(long_id, ID_MAX + 1, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "513"));
    static const struct {
        const char *id;
        size_t len;
        const char *message;
    } bad[] = {{"", 0, "empty"}, {"a b", 3, "0x20 at offset 1"}, {"a\0b", 3, "0x00 at offset 1"},
        {"a\n", 2, "0x0a"}, {"\x7F", 1, "0x7f"}, {"\xC3", 1, "UTF-8"}, {"\t", 1, "0x09"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(id_check(bad[i].id, bad[i].len, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, bad[i].message));
    }
}

/* Each byte at each place of a word, with nothing readable behind the text: the span ends before the first byte that
 * is not plain, whatever stands behind that. */
static void test_plain_span(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 20; len++) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                char *text = malloc(len);
                assert_non_null(text);
                memset(text, 'x', at);
                memset(text + at, c * 31 & 0xFF, len - at);
                text[at] = (char)c;
                const bool plain = c > ' ' && c < 0x7F && c != '"' && c != '\\';
                const size_t span = id_plain_span(text, len);
                if (plain ? span <= at : span != at)
                    fail_msg("byte 0x%02x at %zu of %zu: %zu", c, at, len, span);
                free(text);
            }
        }
        char all[20];
        memset(all, '~', sizeof all);
        assert_int_equal(id_plain_span(all, len), len);
    }
}

static void test_map(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    struct id_map map = {0};
    char id[32];
    bool added;
    assert_int_equal(id_map_find(&map, "x", 1), -1);
    for (int i = 0; i < COUNT; i++) {
        const size_t len = (size_t)snprintf(id, sizeof id, "id-%d", i * 7919);
        assert_int_equal(id_map_add(&map, id, len, &added), i);
        assert_true(added);
    }
    for (int i = 0; i < COUNT; i++) {
        const size_t len = (size_t)snprintf(id, sizeof id, "id-%d", i * 7919);
        assert_int_equal(id_map_find(&map, id, len), i);
        assert_int_equal(id_map_add(&map, id, len, &added), i);
        assert_false(added);
        assert_string_equal(id_map_get(&map, (size_t)i), id);
    }
    assert_int_equal(id_map_find(&map, "id-1", 4), -1);
    assert_int_equal(id_map_find(&map, "id-", 3), -1); /* the beginning of an id is not the id */
    assert_int_equal(id_map_find(&map, "", 0), -1);
    assert_int_equal(id_map_add(&map, "", 0, NULL), COUNT);
    assert_int_equal(id_map_add(&map, "a\0b", 3, NULL), COUNT + 1);
    assert_int_equal(id_map_find(&map, "a\0c", 3), -1);
    assert_int_equal(id_map_find(&map, "", 0), COUNT);
    id_map_done(&map);
}

/* Side by side or one by one, found is found: in empty, small and large maps, in batches of all sizes. */
static void test_find_all(void **state)
{
    (void)state;
    enum { MOST = 3000 };
    static char text[MOST][16];
    static struct id_text ids[MOST];
    static ptrdiff_t index[MOST + 1];
    struct id_map map = {0};
    for (size_t i = 0; i < MOST; i++) {
        const size_t len = (size_t)snprintf(text[i], sizeof text[i], "N%zu", i * 7919 % 4001);
        ids[i] = (struct id_text){text[i], i % 97 ? len : 0}; /* the empty id is one, too */
    }
    for (size_t size = 0; size <= 2000; size = 2 * size + 1) {
        while (map.count < size) {
            char id[16];
            const int len = snprintf(id, sizeof id, "N%zu", map.count * 2);
            assert_true(id_map_add(&map, id, (size_t)len, NULL) >= 0);
        }
        for (size_t count = 0; count <= MOST; count = count < 70 ? count + 1 : 2 * count) {
            index[count] = 77;
            id_map_find_all(index, &map, ids, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(index[i], id_map_find(&map, ids[i].bytes, ids[i].len));
            assert_int_equal(index[count], 77);
        }
    }
    id_map_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_utf8), cmocka_unit_test(test_find_all),
        cmocka_unit_test(test_check), cmocka_unit_test(test_plain_span), cmocka_unit_test(test_map)};
    return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
