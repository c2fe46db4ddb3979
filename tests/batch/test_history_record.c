/* Histories as text: there and back, every byte that is wrong is found, and cursors keep their order. */
#include "batch/history_record.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct history_record *record, const char *id)
{
    assert_int_equal(history_record_add(record, id, strlen(id), NULL), 0);
}

static char *format(const struct history_record *record, size_t *len)
{
    char *text = malloc(history_record_bytes(record) + 1);
    assert_non_null(text);
    *len = history_record_format(text, record);
    assert_true(*len <= history_record_bytes(record));
    text[*len] = '\0';
    return text;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct history_record record = {.seen = 1234, .base = 2, .last = "1795875506000-3"}, back = {0};
    size_t len;
    add(&record, "N1");
    add(&record, "N\xC3\xA9");
    add(&record, "N5");
    char *text = format(&record, &len);
    assert_non_null(strstr(text, " 1795875506000-3\nN1\nN\xC3\xA9\nN5\n"));
    assert_int_equal(strncmp(text, "1 1234 2 ", 9), 0);
    assert_int_equal(history_record_parse(&back, text, len, NULL), 0);
    assert_int_equal(back.seen, 1234);
    assert_int_equal(back.base, 2);
    assert_int_equal(back.count, 3);
    assert_string_equal(back.last, record.last);
    assert_memory_equal(back.ids[2].id, "N5", 2);

    history_record_clear(&record);
    char *empty = format(&record, &len);
    assert_int_equal(history_record_parse(&back, empty, len, NULL), 0);
    assert_int_equal(back.count, 0);
    assert_string_equal(back.last, "");
    free(text);
    free(empty);
    history_record_done(&record);
    history_record_done(&back);
}

static void test_damage(void **state)
{
    (void)state;
    struct history_record record = {.seen = 7, .base = 1, .last = "42"}, back = {0};
    size_t len;
    add(&record, "N1");
    add(&record, "N22");
    char *text = format(&record, &len);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(history_record_parse(&back, text, cut, NULL), -ERR_CORRUPT);
    for (size_t at = 0; at < len; at++)
        for (int byte = 0; byte < 256; byte++) {
            const char was = text[at];
            if ((char)byte == was)
                continue;
            text[at] = (char)byte;
            assert_int_equal(history_record_parse(&back, text, len, NULL), -ERR_CORRUPT);
            text[at] = was;
        }
    static const char *const others[] = {
        "", "1", "2 0 0 ef46db3751d8e999 -\n", "1 0 0 -\n", "1 -1 0 ef46db3751d8e999 -\n"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(history_record_parse(&back, others[i], strlen(others[i]), NULL), -ERR_CORRUPT);
    free(text);
    history_record_done(&record);
    history_record_done(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
