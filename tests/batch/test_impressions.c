/* Impressions as people have them, and as they should not be. */
#include "batch/impressions.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256];
static struct news news;

static int open_text(struct impressions *in, const char *text, struct impressions_options options)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", scratch_write(dir, "b.tsv", text, strlen(text)));
    options.path = path;
    options.quiet = true;
    return impressions_open(in, &options, &news, NULL);
}

static void test_rows(void **state)
{
    (void)state;
    struct impressions in;
    struct err err = ERR_INIT;
    const char *text = "7\tU1\tnow\tN1 N9  N2 N1\tN2-1 N1-0\n"
                       "8\tU2\t\t\tA-1-0  A-1-1 \n" /* an id with a dash, doubled spaces, no history */
                       "9\tU2\t\tN9\tA-1 N2\n"      /* the same id without labels */
                       "10\tU3\t\tN1\tN1-1";
    assert_int_equal(open_text(&in, text, (struct impressions_options){0}), 0);
    for (int pass = 0; pass < 2; pass++) {
        const struct impression *row = &in.row;
        assert_int_equal(impressions_next(&in, &err), 1);
        assert_string_equal(row->id, "7");
        assert_string_equal(row->user, "U1");
        assert_int_equal(row->history_asked, 4);
        assert_int_equal(row->history_count, 3);
        assert_memory_equal(row->history, ((const uint32_t[]){0, 1, 0}), 3 * sizeof(uint32_t));
        assert_int_equal(row->candidate_count, 2);
        assert_memory_equal(row->candidates, ((const uint32_t[]){1, 0}), 2 * sizeof(uint32_t));
        assert_memory_equal(row->labels, ((const uint8_t[]){1, 0}), 2);
        assert_true(row->labelled);
        assert_int_equal(impressions_next(&in, &err), 1);
        assert_int_equal(row->history_count, 0);
        assert_memory_equal(row->candidates, ((const uint32_t[]){2, 2}), 2 * sizeof(uint32_t));
        assert_memory_equal(row->labels, ((const uint8_t[]){0, 1}), 2);
        assert_int_equal(impressions_next(&in, &err), 1);
        assert_int_equal(row->history_asked, 1);
        assert_int_equal(row->history_count, 0);
        assert_false(row->labelled);
        assert_memory_equal(row->candidates, ((const uint32_t[]){2, 1}), 2 * sizeof(uint32_t));
        assert_int_equal(impressions_next(&in, &err), 1);
        assert_string_equal(row->id, "10");
        assert_int_equal(impressions_next(&in, &err), 0);
        assert_int_equal(impressions_next(&in, &err), 0);
        assert_int_equal(in.count, 4);
        assert_int_equal(impressions_rewind(&in, &err), 0);
        assert_int_equal(in.count, 0);
    }
    impressions_close(&in);
}

static void test_bad_rows(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "1\tU1\t\tN1\tN1-2\n",       /* a label that is none */
        "1\tU1\t\tN1\tN1-\n",        /* no label behind the dash */
        "1\tU1\t\tN1\tN1-10\n",      /* two digits */
        "1\tU1\t\tN1\t-1\n",         /* no id */
        "1\tU1\t\tN1\tN9-1\n",       /* an unknown id */
        "1\tU1\t\tN1\tN9\n",         /* an unknown id without a label */
        "1\tU1\t\tN1\tN1-1 N2\n",    /* a label on one alone */
        "1\tU1\t\tN1\tN1 N2-0\n",    /* and the other way round */
        "1\tU1\t\tN1\t\n",           /* no candidates */
        "1\tU1\t\tN1\t  \n",         /* none but spaces */
        "\tU1\t\tN1\tN1-1\n",        /* no impression id */
        "1 2\tU1\t\tN1\tN1-1\n",     /* white space in it: prediction.txt could not be read */
        "1\t\t\tN1\tN1-1\n",         /* no user */
        "1\tU1\t\tN1 \x01\tN1-1\n",  /* a control character in the history */
        "1\tU1\t\tN1\tN1-1\tN2-0\n", /* too many columns */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (size_t allowed = 0; allowed < 2; allowed++) {
            char text[256];
            struct impressions in;
            struct err err = ERR_INIT;
            snprintf(text, sizeof text, "%s2\tU2\t\tN1\tN2-1 N1-0\n", bad[i]);
            assert_int_equal(open_text(&in, text, (struct impressions_options){.max_bad.rows = allowed}), 0);
            for (int pass = 0; pass < 2; pass++) { /* counted again, not told again */
                assert_int_equal(impressions_next(&in, &err), 1);
                assert_string_equal(in.row.id, "2");
                assert_int_equal(in.row.candidate_count, 2);
                assert_int_equal(impressions_next(&in, &err), allowed ? 0 : -ERR_INVALID);
                assert_int_equal(in.count, 1);
                assert_int_equal(impressions_rewind(&in, &err), 0);
            }
            assert_true(allowed || strstr(err.message, "b.tsv: 1 bad rows, at most 0 are allowed"));
            impressions_close(&in);
        }
    }
}

static void test_options(void **state)
{
    (void)state;
    struct impressions in;
    struct err err = ERR_INIT;
    const char *text = "1\tU1\t\tN1\tN1\n2\tU1\t\tN1\tN1-1\n3\tU1\t\tN1\tN2-1\n4\tU1\t\tN1\tbad\n";
    assert_int_equal(open_text(&in, text,
                         (struct impressions_options){.label_needed = true, .max_bad.rows = 1, .limit = 2}),
        0);
    assert_int_equal(impressions_next(&in, &err), 1);
    assert_string_equal(in.row.id, "2"); /* the first has no label */
    assert_int_equal(impressions_next(&in, &err), 1);
    assert_int_equal(impressions_next(&in, &err), 0); /* the limit, before the second bad row */
    impressions_close(&in);
    assert_int_equal(open_text(&in, text, (struct impressions_options){.label_needed = true, .limit = 2}), 0);
    assert_int_equal(impressions_next(&in, &err), 1);
    assert_int_equal(impressions_next(&in, &err), 1);
    assert_int_equal(impressions_next(&in, &err), -ERR_INVALID); /* a limit forgives no bad row before it */
    impressions_close(&in);
    const struct impressions_options nowhere = {.path = "/nonexistent"};
    assert_int_equal(impressions_open(&in, &nowhere, &news, &err), -ERR_NOT_FOUND);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    const char *text = "N1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\tc\td\te\tf\tg\nA-1\ta\tb\tc\td\te\tf\tg\n";
    const char *path = scratch_write(dir, "news.tsv", text, strlen(text));
    return news_load(&news, path, &(struct tsv_options){.quiet = true}, NULL);
}

static int teardown(void **state)
{
    (void)state;
    news_done(&news);
    scratch_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows), cmocka_unit_test(test_bad_rows), cmocka_unit_test(test_options)};
    return cmocka_run_group_tests_name("impressions", tests, setup, teardown);
}
