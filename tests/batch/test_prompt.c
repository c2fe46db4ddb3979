/* Templates as they should be and as they should not, and the words of the prompts that they make. */
#include "batch/prompt.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256];

static int load(struct prompt_template **t, const char *text, struct err *err)
{
    return prompt_template_load(t, scratch_write(dir, "t.txt", text, strlen(text)), err);
}

static void load_news(struct news *news, const char *rows)
{
    struct err err = ERR_INIT;
    const char *path = scratch_write(dir, "news.tsv", rows, strlen(rows));
    assert_int_equal(news_load(news, path, &(struct tsv_options){.quiet = true}, &err), 0);
}

/* The user's part of what a template makes of the items 0, 1, ..., count - 1, oldest first. */
static void expect(const char *template, const char *rows, size_t count, int possible, const char *user)
{
    struct prompt_template *t = NULL;
    struct prompt prompt = {0};
    struct news news;
    struct err err = ERR_INIT;
    uint32_t items[64];
    for (uint32_t i = 0; i < 64; i++)
        items[i] = i;
    const struct history history = {items, count, count};
    load_news(&news, rows);
    if (load(&t, template, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(prompt_possible(t, &news, &history, &err), possible);
    assert_int_equal(prompt_write(&prompt, t, &news, &history, &err), 0);
    assert_string_equal(prompt.user, user);
    prompt_done(&prompt);
    prompt_template_free(t);
    news_done(&news);
}

static void test_words(void **state)
{
    (void)state;
    /* newest first; without a part, without its separator; an item without a text is not counted */
    expect("[user]\n{history}\n",
        "N1\tc\ts\tFirst\tOne two\t\t\t\nN2\tc\ts\t\tTwo\t\t\t\nN3\tc\ts\tThird\t\t\t\t\n", 3, 1,
        "1. Third\n2. Two\n3. First; One two");
    expect("[user]\n{history}", "N1\tnews\tx\t \t\v\t\t\t\nN2\tc\ts\t  White \v  space\x7f\x01 \ta \t\t\t\n",
        2, 1, "1. White space; a");
    /* the limits, and where the words are cut */
    expect("items=1\nabstract_words = 2\n[user]\n{history}",
        "N1\tc\ts\tA\tB\t\t\t\nN2\tc\ts\tLong title here\ta b  c\t\t\t\n", 2, 1, "1. Long title here; a b");
    expect("abstract_words = 0\n[user]\n{history}", "N1\tc\ts\tA\tB\t\t\t\n", 1, 1, "1. A");
    /* other columns, texts between, braces, history twice, lines that only look like comments or sections */
    expect("[item]\n({category}; {{x}; by {subcategory}: {title}\n[user]\n\n # {{a}\n[users]\n{history} and "
           "{history}\n\n",
        "N1\tc\ts\tA\tB\t\t\t\n", 1, 1, " # {a}\n[users]\n1. (c; {x}; by s: A and 1. (c; {x}; by s: A");
    expect("[item]\n{title}; {subcategory}\n[user]\n{history}", "N1\tc\t\tA\tB\t\t\t\nN2\tc\t\t\tB\t\t\t\n",
        2, 1, "1. A");
    /* what editors leave behind */
    expect("\xEF\xBB\xBF# c\r\n\r\n[user]\r\nOne\r\n{history}\r\n", "N1\tc\t\tA\tB\t\t\t\n", 1, 1,
        "One\n1. A; B");
    expect("[user]\n{history}", "N1\tc\t\tA\tB\t\t\t\n", 0, 0, "");
}

/* The items are read when the prompt is written: a file that was cut short meanwhile gives none. */
static void test_cut_short(void **state)
{
    (void)state;
    struct prompt_template *t;
    struct prompt prompt = {0};
    struct news news;
    struct err err = ERR_INIT;
    const uint32_t items[2] = {0, 1};
    const struct history history = {items, 2, 2}, first = {items, 1, 1};
    load_news(&news, "N1\tc\ts\tA title\tAn abstract\t\t\t\nN2\tc\ts\tA title\tAn abstract\t\t\t\n");
    assert_int_equal(truncate(news.path, 40), 0);
    assert_int_equal(prompt_template_load(&t, "news", &err), 0);
    assert_int_equal(prompt_possible(t, &news, &first, &err), 1);
    assert_int_equal(prompt_possible(t, &news, &history, &err), -ERR_CORRUPT);
    assert_int_equal(prompt_write(&prompt, t, &news, &history, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "news.tsv:2: the file was cut short"));
    assert_null(prompt.user);
    prompt_template_free(t);
    news_done(&news);
}

static void test_shipped(void **state)
{
    (void)state;
    static const char *const names[] = {"news", "books"};
    for (size_t i = 0; i < 2; i++) {
        struct prompt_template *t;
        struct prompt prompt;
        struct news news;
        struct err err = ERR_INIT;
        uint32_t items[40] = {0};
        const struct history history = {items, 40, 40};
        load_news(&news, "N1\tc\ts\tA title\tAn abstract\t\t\t\n");
        assert_int_equal(prompt_template_load(&t, names[i], &err), 0);
        assert_int_equal(prompt_possible(t, &news, &history, &err), 1);
        assert_int_equal(prompt_write(&prompt, t, &news, &history, &err), 0);
        assert_null(prompt.system); /* Mixtral's own chat template refuses one */
        assert_non_null(strstr(prompt.user, "three sentences"));
        assert_non_null(strstr(prompt.user, "\n1. A title; An abstract\n2. A title; An abstract\n"));
        assert_string_equal(strrchr(prompt.user, '\n'), "\n30. A title; An abstract");
        prompt_done(&prompt);
        prompt_template_free(t);
        news_done(&news);
    }
    assert_null(prompt_shipped("films"));
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "no text in a section [user]"},
        {"[user]\n\n \n", "no text in a section [user]"},
        {"[user]\nabout\n", "{history} is nowhere"},
        {"words\n[user]\n{history}\n", ":1: neither a comment"},
        {"#\nitem = 3\n[user]\n{history}\n", ":2: no setting is called item"},
        {"items = 0\n[user]\n{history}\n", ":1: items must be between 1 and"},
        {"items = 3 4\n[user]\n{history}\n", ":1: neither a comment"},
        {"items = 99999999999999999999\n[user]\n{history}\n", ":1: items must be between 1 and"},
        {"[user]\n{history}\n[user]\n{history}\n", ":3: a second section [user]"},
        {"[user]\n\none\n{history} {histories}\n", ":4: no placeholder begins with {histories}"},
        {"[user]\n{history}\n{\n", ":3: no placeholder begins with {"},
        {"[user]\n{history} {title}\n", ":2: {title} does not belong into [user]"},
        {"[user]\n{history}\n[item]\n{history}\n", ":4: {history} does not belong into [item]"},
        {"[user]\n{history}\n[item]\n{title}\n{abstract}\n", ":5: [item] is one line"},
        {"[user]\n{history}\n[item]\nx\n", "[item] has no placeholder"},
        {"[user]\n{history}\n[item]\n", "[item] has no placeholder"},
        {"[user]\n{history}\n\xff\n", "not a text in UTF-8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct prompt_template *t = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(load(&t, bad[i].text, &err), -ERR_INVALID);
        if (!strstr(err.message, bad[i].why) || !strstr(err.message, "t.txt:"))
            fail_msg("'%s': %s", bad[i].text, err.message);
        assert_null(t);
    }
    struct prompt_template *t = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(prompt_template_load(&t, "nowhere.txt", &err), -ERR_NOT_FOUND);
    assert_int_equal(
        prompt_template_load(&t, scratch_write(dir, "nul", "[user]\n\0{history}", 17), &err), -ERR_INVALID);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_shipped), cmocka_unit_test(test_bad)};
    return cmocka_run_group_tests_name("prompt", tests, setup, teardown);
}
