/* Categories on their way: news.tsv or categories.tsv to a file, or to the store. */
#include "batch/categories.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <string.h>

static char dir[256];

static const char *const unusable = "N4\ta\001b\tc\td\te\tf\tg\th\n"; /* a control character */

static void load_news(struct news *news, const char *text)
{
    struct err err = ERR_INIT;
    const char *path = scratch_write(dir, "news.tsv", text, strlen(text));
    if (news_load(news, path, &(struct tsv_options){.quiet = true}, &err) < 0)
        fail_msg("%s", err.message);
}

/* The members, "sports:N1,N3 news:N2 ". */
static void check(const struct categories *categories, const struct id_map *contents, const char *wanted)
{
    char text[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < categories->count; i++) {
        const struct category_member *member = &categories->members[i];
        const bool first = !i || member->category != categories->members[i - 1].category;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s%s", first && i ? " " : "",
            first ? id_map_get(&categories->names, member->category) : "", first ? ":" : ",",
            id_map_get(contents, member->content));
    }
    assert_string_equal(text, wanted);
}

static void add_ids(struct id_map *ids, size_t count)
{
    for (size_t i = 1; i <= count; i++) {
        char id[16];
        const int len = snprintf(id, sizeof id, "N%zu", i);
        assert_int_equal(id_map_add(ids, id, (size_t)len, NULL), i - 1);
    }
}

static void test_news(void **state)
{
    (void)state;
    struct news news;
    struct categories categories;
    struct err err = ERR_INIT;
    char text[1024], longest[CATEGORY_MAX + 2];
    snprintf(text, sizeof text, "%s%s%s%s%s", "N1\tsports\tgolf\td\te\tf\tg\th\n",
        "N2\tworld news\tsports\td\te\tf\tg\th\n", "N3\tsports\tgolf\td\te\tf\tg\th\n", unusable,
        "N5\t\tsports\td\te\tf\tg\th\n");
    load_news(&news, text);
    assert_int_equal(categories_of_news(&categories, &news, true, &err), 0);
    check(&categories, &news.ids, "sports:N1,N3 world news:N2");
    categories_done(&categories);
    news_done(&news);

    memset(longest, 'x', CATEGORY_MAX + 1); /* a byte too long, then as long as it may be */
    longest[CATEGORY_MAX + 1] = '\0';
    snprintf(text, sizeof text, "N1\t%s\tc\td\te\tf\tg\th\n", longest);
    load_news(&news, text);
    assert_int_equal(categories_of_news(&categories, &news, true, &err), 0);
    assert_int_equal(categories.count, 0);
    categories_done(&categories);
    news_done(&news);
    longest[CATEGORY_MAX] = '\0';
    snprintf(text, sizeof text, "N1\t%s\tc\td\te\tf\tg\th\n", longest);
    load_news(&news, text);
    assert_int_equal(categories_of_news(&categories, &news, true, &err), 0);
    assert_int_equal(categories.count, 1);
    categories_done(&categories);
    news_done(&news);
}

/* What is written is read back; so is what people write. */
static void test_file(void **state)
{
    (void)state;
    struct id_map ids = {0};
    struct categories categories, back;
    struct err err = ERR_INIT;
    char copy[512];
    static const char text[] = "N3\tworld news\r\nN1\tsports\nN2\tsports\nN1\tworld news\nN1\tsports\n"
                               "N2\ta\xC3\xA9 ";
    add_ids(&ids, 3);
    const char *path = scratch_write(dir, "categories.tsv", text, sizeof text - 1);
    assert_int_equal(categories_read(&categories, path, &ids, &err), 0);
    check(&categories, &ids, "world news:N1,N3 sports:N1,N2 a\xC3\xA9 :N2");
    snprintf(copy, sizeof copy, "%s/copy.tsv", dir);
    assert_int_equal(categories_write(&categories, &ids, copy, &err), 0);
    assert_int_equal(categories_read(&back, copy, &ids, &err), 0);
    check(&back, &ids, "world news:N1,N3 sports:N1,N2 a\xC3\xA9 :N2");
    categories_done(&back);
    categories_done(&categories);
    path = scratch_write(dir, "categories.tsv", "", 0);
    assert_int_equal(categories_read(&categories, path, &ids, &err), 0);
    assert_int_equal(categories.count, 0);
    categories_done(&categories);
    id_map_done(&ids);
}

static void test_bad_file(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"N1\tsports\nN2 sports\n", "categories.tsv:2: an id, a tab and a category are expected"},
        {"N1\tsports\n\nN2\tsports\n", "categories.tsv:2: an id, a tab and a category are expected"},
        {"N9\tsports\n", "categories.tsv:1: content N9 is not in content.ids"},
        {"\tsports\n", "categories.tsv:1: content  is not in content.ids"},
        {"N1\t\n", "categories.tsv:1: a category must not be empty"},
        {"N1\ta\tb\n", "categories.tsv:1: a category holds the byte 0x09 at offset 1"},
        {"N1\t\xFF\n", "categories.tsv:1: a category is not valid UTF-8"},
    };
    struct id_map ids = {0};
    add_ids(&ids, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct categories categories;
        struct err err = ERR_INIT;
        const char *path = scratch_write(dir, "categories.tsv", cases[i].text, strlen(cases[i].text));
        assert_int_equal(categories_read(&categories, path, &ids, &err), -ERR_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].message, err.message);
    }
    id_map_done(&ids);
}

/* ---- the store ---- */

static int check_value(void *ctx, size_t index, const void *data, size_t len)
{
    (void)ctx;
    static const char *const wanted[] = {"N1\nN3\n", "N2\nN3\n"};
    assert_non_null(data);
    assert_int_equal(len, strlen(wanted[index]));
    assert_memory_equal(data, wanted[index], len);
    return 0;
}

static void test_store(void **state)
{
    (void)state;
    static const char text[] = "N3\tworld news\nN1\tworld news\nN3\tsports\nN2\tsports\n";
    struct id_map ids = {0};
    struct categories categories;
    struct store *store;
    struct store_link *link;
    struct generation_writer *writer;
    struct err err = ERR_INIT;
    char url[320];
    const float one[4] = {1, 0, 0, 1};
    struct manifest manifest = {.m = 1, .n = 1, .d = 2};
    add_ids(&ids, 3);
    const char *path = scratch_write(dir, "categories.tsv", text, sizeof text - 1);
    assert_int_equal(categories_read(&categories, path, &ids, &err), 0);
    snprintf(url, sizeof url, "lmdb:%s/store", dir);
    assert_int_equal(store_open(&store, url, NULL, &err), 0);
    assert_int_equal(store_connect(&link, store, &err), 0);
    assert_int_equal(generation_begin(&writer, store, BLOB_F32, &err), 0);
    assert_int_equal(generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 1, one, 2, 2, &err), 0);
    assert_int_equal(categories_put(&categories, &ids, NULL, writer, &err), 0);
    assert_int_equal(generation_finish(writer, &manifest, &err), 0);
    const struct store_id names[] = {{"world news", 10}, {"sports", 6}};
    assert_int_equal(
        store_get(link, generation_name(writer), STORE_CATEGORY, names, 2, check_value, NULL, &err), 0);
    generation_end(writer);
    store_disconnect(link);
    store_close(store);
    categories_done(&categories);
    id_map_done(&ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_news),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_file),
        cmocka_unit_test(test_store),
    };
    scratch_make(dir);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(dir);
    return failed;
}
