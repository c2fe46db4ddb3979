/* MIND's files as people have them, and as they should not be. */
#include "batch/mind.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256];

static const char *news_file(const char *text)
{
    return scratch_write(dir, "news.tsv", text, strlen(text));
}

static const char *column(const struct news *news, size_t index, enum text_column which)
{
    static char text[64];
    const struct text_item item = news_item(news, index);
    snprintf(text, sizeof text, "%.*s", (int)item.column[which].len, item.column[which].bytes);
    return text;
}

static void test_news(void **state)
{
    (void)state;
    struct news news;
    struct err err = ERR_INIT;
    /* A byte order mark, CRLF, an empty line, a row that comes twice, and no newline at the end. */
    const char *text = "\xEF\xBB\xBFN1\tsport\tgolf\tA title\tAn abstract\tu\t[]\t[]\r\n"
                       "\r\n"
                       "N2\tnews\t\tSecond \xC3\xA9\t\t\t\t\n"
                       "N1\tsport\tgolf\tA title\tAn abstract\tu\t[]\t[]\n"
                       "N3\ta\tb\tc\td\te\tf\tg";
    assert_int_equal(news_load(&news, news_file(text), 0, true, &err), 0);
    assert_int_equal(news.ids.count, 3);
    assert_string_equal(id_map_get(&news.ids, 0), "N1");
    assert_string_equal(column(&news, 0, TEXT_TITLE), "A title");
    assert_string_equal(column(&news, 0, TEXT_ABSTRACT), "An abstract");
    assert_string_equal(column(&news, 0, TEXT_CATEGORY), "sport");
    assert_string_equal(column(&news, 0, TEXT_SUBCATEGORY), "golf");
    assert_string_equal(column(&news, 1, TEXT_ABSTRACT), "");
    assert_string_equal(column(&news, 2, TEXT_TITLE), "c");
    news_done(&news);
}

static void test_bad_news(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "N1\ta\tb\tc\td\te\tf\n",           /* a column is missing */
        "N1\ta\tb\tc\td\te\tf\tg\th\n",     /* one too many */
        "\ta\tb\tc\td\te\tf\tg\n",          /* no id */
        "N 1\ta\tb\tc\td\te\tf\tg\n",       /* a space in the id */
        "N1\ta\tb\t\xC3\x28\td\te\tf\tg\n", /* not UTF-8 */
        "N0\tother\tb\tc\td\te\tf\tg\n",    /* another item under an id that is there */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct news news;
        struct err err = ERR_INIT;
        char text[512];
        snprintf(text, sizeof text, "N0\ta\tb\tc\td\te\tf\tg\n%sN9\ta\tb\tc\td\te\tf\tg\n", rows[i]);
        assert_int_equal(news_load(&news, news_file(text), 0, true, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "news.tsv: 1 bad rows, at most 0 are allowed"));
        assert_int_equal(
            news_load(&news, news_file(text), 1, true, &err), 0); /* the good rows are all there */
        assert_int_equal(news.ids.count, 2);
        news_done(&news);
    }
    struct news news;
    struct err err = ERR_INIT;
    assert_int_equal(news_load(&news, news_file(""), 0, true, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "no items"));
    assert_int_equal(news_load(&news, "/nonexistent", 0, true, &err), -ERR_NOT_FOUND);
    assert_int_equal(
        news_load(&news, scratch_write(dir, "nul", "N1\ta\0\tb\tc\td\te\tf\tg\n", 19), 0, true, &err),
        -ERR_INVALID);
    assert_int_equal(news_load(&news, dir, 0, true, &err), -ERR_IO); /* a folder */
}

static void test_long_line(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    char *text = malloc(LONG + 64);
    size_t used = (size_t)sprintf(text, "N1\ta\tb\tc\t");
    memset(text + used, 'x', LONG);
    strcpy(text + used + LONG, "\tu\t[]\t[]\n");
    struct news news;
    struct err err = ERR_INIT;
    assert_int_equal(news_load(&news, news_file(text), 0, true, &err), 0);
    assert_int_equal(news_item(&news, 0).column[TEXT_ABSTRACT].len, LONG);
    news_done(&news);
    free(text);
}

static void test_histories(void **state)
{
    (void)state;
    struct news news;
    struct histories h;
    struct err err = ERR_INIT;
    assert_int_equal(
        news_load(&news, news_file("N1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\tc\td\te\tf\tg\n"), 0, true, &err), 0);
    const char *text = "1\tU1\t\tN1 N9 N2\tN1-0\n"
                       "2\tU2\t\t\tN1-0\n"
                       "3\tU1\t\tN1\tN1-0\n"            /* shorter: older */
                       "4\tU3\t\tN2 N2  N8 N1 \tN1-0\n" /* unknown ids, doubled spaces */
                       "5\tU3\t\tN1 N1 N1 N9\tN1-0\n"   /* as long: the later row counts */
                       "6\tU1\t\tN2 N9 N8 N1\tN1-0\n";  /* the longest */
    assert_int_equal(
        histories_load(&h, scratch_write(dir, "b.tsv", text, strlen(text)), &news, 0, true, &err), 0);
    assert_int_equal(h.users.count, 3);
    assert_string_equal(id_map_get(&h.users, 0), "U1");
    assert_string_equal(id_map_get(&h.users, 1), "U2");
    assert_int_equal(h.history[0].count, 2);
    assert_int_equal(h.history[0].items[0], 1);
    assert_int_equal(h.history[0].items[1], 0);
    assert_int_equal(h.history[1].count, 0);
    assert_int_equal(h.history[2].count, 3);
    assert_int_equal(h.history[2].items[0], 0);
    assert_int_equal(h.dropped, 2 + 0 + 1);
    histories_done(&h);
    static const char *const bad[] = {
        "1\t\t\tN1\tN1-0\n", "1\tU 1\t\tN1\tN1-0\n", "1\tU1\t\tN1\n", "1\tU1\t\tN1 \x01\tN1-0\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(
            histories_load(&h, scratch_write(dir, "b.tsv", bad[i], strlen(bad[i])), &news, 0, true, &err),
            -ERR_INVALID);
        assert_non_null(strstr(err.message, "b.tsv: 1 bad rows"));
    }
    news_done(&news);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_news), cmocka_unit_test(test_bad_news),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_histories)};
    return cmocka_run_group_tests_name("mind", tests, setup, teardown);
}
