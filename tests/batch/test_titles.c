/* Titles on their way: news.tsv or titles.tsv to a file, or to the store. */
#include "batch/titles.h"
#include "store/title.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256];

static void load_news(struct news *news, const char *text)
{
    struct err err = ERR_INIT;
    const char *path = scratch_write(dir, "news.tsv", text, strlen(text));
    if (news_load(news, path, &(struct tsv_options){.quiet = true}, &err) < 0)
        fail_msg("%s", err.message);
}

static void add_ids(struct id_map *ids, size_t count)
{
    for (size_t i = 1; i <= count; i++) {
        char id[16];
        const int len = snprintf(id, sizeof id, "N%zu", i);
        assert_int_equal(id_map_add(ids, id, (size_t)len, NULL), i - 1);
    }
}

static void free_titles(char **titles, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(titles[i]);
        titles[i] = NULL;
    }
}

/* What is written is read back; so is what people write. */
static void test_file(void **state)
{
    (void)state;
    static const char text[] = "N3\tWorld news, \"quoted\"\r\nN1\ta\tb \xC3\xA9";
    struct id_map ids = {0};
    struct news news;
    struct err err = ERR_INIT;
    char *titles[3] = {NULL}, copy[300];
    add_ids(&ids, 3);
    const char *path = scratch_write(dir, "titles.tsv", text, sizeof text - 1);
    assert_int_equal(titles_read(titles, path, &ids, &err), 0);
    assert_string_equal(titles[0], "a\tb \xC3\xA9");
    assert_null(titles[1]);
    assert_string_equal(titles[2], "World news, \"quoted\"");
    free_titles(titles, 3);
    load_news(&news,
        "N2\ta\tb\tThe second \xE2\x82\xAC\td\te\tf\tg\nN1\ta\tb\t\td\te\tf\tg\nN3\ta\tb\t c\td\te\tf\tg\n");
    snprintf(copy, sizeof copy, "%s/copy.tsv", dir);
    assert_int_equal(titles_write(&news, copy, &err), 0);
    assert_int_equal(titles_read(titles, copy, &ids, &err), 0);
    assert_null(titles[0]);
    assert_string_equal(titles[1], "The second \xE2\x82\xAC");
    assert_string_equal(titles[2], " c");
    free_titles(titles, 3);
    news_done(&news);
    id_map_done(&ids);
}

static void test_bad_file(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *message;
    } cases[] = {
#define CASE(text, message) {text, sizeof(text) - 1, message}
        CASE("N1\ta\nN2 b\n", "titles.tsv:2: an id, a tab and a title are expected"),
        CASE("N1\ta\n\nN2\tb\n", "titles.tsv:2: an id, a tab and a title are expected"),
        CASE("N9\ta\n", "titles.tsv:1: content N9 is not in content.ids"),
        CASE("N1\ta\nN1\tb\n", "titles.tsv:2: content N1 has a title already"),
        CASE("N1\t\n", "titles.tsv:1: a title must not be empty"),
        CASE("N1\t\r\r\n", "titles.tsv:1: a title must not be empty"),
        CASE("N1\t\xFF\n", "titles.tsv:1: a title must not be empty, and must be UTF-8"),
        CASE("N1\ta\0b\n", "titles.tsv:1: a title must not be empty, and must be UTF-8 without NUL"),
    };
    struct id_map ids = {0};
    char *titles[3] = {NULL};
    add_ids(&ids, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = ERR_INIT;
        const char *path = scratch_write(dir, "titles.tsv", cases[i].text, cases[i].len);
        assert_int_equal(titles_read(titles, path, &ids, &err), -ERR_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].message, err.message);
        free_titles(titles, 3);
    }
    id_map_done(&ids);
}

/* ---- the store ---- */

static int check_value(void *ctx, size_t index, const void *data, size_t len)
{
    const char *const *wanted = ctx;
    (void)index;
    if (!*wanted)
        assert_null(data);
    else if (!data || len != strlen(*wanted) || memcmp(data, *wanted, len) != 0)
        fail_msg("\"%.*s\", not \"%s\"", (int)len, data ? (const char *)data : "", *wanted);
    return 0;
}

/* Which titles are not what the news say, "0110": one digit an item. */
static void check_changed(
    const struct news *news, struct generation_writer *writer, struct store_link *link, const char *wanted)
{
    struct err err = ERR_INIT;
    bool changed[8];
    assert_int_equal(titles_compare(changed, news, writer, link, &err), 0);
    for (size_t i = 0; i < news->ids.count; i++)
        if (changed[i] != (wanted[i] == '1'))
            fail_msg("title %zu of %s", i, wanted);
}

static void test_store(void **state)
{
    (void)state;
    struct store *store;
    struct store_link *link;
    struct generation_writer *writer;
    struct err err = ERR_INIT;
    struct news news, later;
    struct news_text text = {0};
    char url[320], rows[4096], longest[1200];
    const float one[4] = {1, 0, 0, 1};
    struct manifest manifest = {.m = 1, .n = 1, .d = 2, .settings = 7};
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    snprintf(rows, sizeof rows,
        "N1\ta\tb\tone\td\te\tf\tg\nN2\ta\tb\t\td\te\tf\tg\nN3\ta\tb\t%s\td\te\tf\tg\n", longest);
    load_news(&news, rows);
    snprintf(url, sizeof url, "lmdb:%s/store", dir);
    assert_int_equal(store_open(&store, url, NULL, &err), 0);
    assert_int_equal(store_connect(&link, store, &err), 0);
    assert_int_equal(generation_resume(&writer, store, &manifest, GENERATION_ANY, &err), 0);
    check_changed(&news, writer, link, "101"); /* nothing is there */
    assert_int_equal(generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 1, one, 2, 2, &err), 0);
    assert_int_equal(generation_put_matrix(writer, BLOB_USER, "", 0, 1, one, 1, 2, &err), 0);
    const struct generation_turnover none = {.users = 1};
    assert_int_equal(generation_expect(writer, &none, &err), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(titles_put(writer, &text, &news, i, &err), 0);
    assert_int_equal(generation_finish(writer, &manifest, &err), 0);
    assert_int_equal(generation_publish(writer, &err), 0);
    const struct store_id ids[] = {{"N1", 2}, {"N2", 2}, {"N3", 2}};
    longest[STORE_TITLE_MAX] = '\0'; /* it was cut */
    const char *const wanted[] = {"one", NULL, longest};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(store_get(link, generation_name(writer), STORE_TITLE, &ids[i], 1, check_value,
                             (void *)(uintptr_t)&wanted[i], &err),
            0);
    generation_end(writer);

    assert_int_equal(generation_resume(&writer, store, &manifest, GENERATION_ANY, &err), 0);
    assert_int_equal(generation_mode(writer), GENERATION_INSIDE);
    check_changed(&news, writer, link, "000");
    load_news(&later, "N1\ta\tb\tone!\td\te\tf\tg\nN2\ta\tb\ttwo\td\te\tf\tg\nN3\ta\tb\t\td\te\tf\tg\n");
    check_changed(&later, writer, link, "111");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(titles_put(writer, &text, &later, i, &err), 0);
    assert_int_equal(generation_flush(writer, &err), 0);
    check_changed(&later, writer, link, "000");
    const char *const after[] = {"one!", "two", NULL};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(store_get(link, generation_name(writer), STORE_TITLE, &ids[i], 1, check_value,
                             (void *)(uintptr_t)&after[i], &err),
            0);
    generation_end(writer);
    news_text_done(&text);
    news_done(&news);
    news_done(&later);
    store_disconnect(link);
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_file),
        cmocka_unit_test(test_store),
    };
    scratch_make(dir);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(dir);
    return failed;
}
