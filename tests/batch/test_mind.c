/* MIND's files as people have them, as they should not be, and as they become while they are in use. */
#include "batch/mind.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256];
static const struct tsv_options quiet = {.quiet = true};

static const char *news_file(const char *text)
{
    return scratch_write(dir, "news.tsv", text, strlen(text));
}

static const char *column(const struct news *news, size_t index, enum text_column which)
{
    static char text[64];
    struct news_text read = {0};
    struct err err = ERR_INIT;
    if (news_item(&read, news, index, &err) < 0)
        fail_msg("%s", err.message);
    snprintf(text, sizeof text, "%.*s", (int)read.item.column[which].len, read.item.column[which].bytes);
    news_text_done(&read);
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
                       "N1\tsport\tgolf\tA title\tAn abstract\tanother url\t[]\t[]\n"
                       "N3\ta\tb\tc\td\te\tf\tg";
    assert_int_equal(news_load(&news, news_file(text), &quiet, &err), 0);
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
        assert_int_equal(news_load(&news, news_file(text), &quiet, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "news.tsv: 1 bad rows, at most 0 are allowed"));
        assert_int_equal(
            news_load(&news, news_file(text), &(struct tsv_options){.max_bad.rows = 1, .quiet = true}, &err),
            0);
        assert_int_equal(news.ids.count, 2); /* the good rows are all there */
        assert_string_equal(column(&news, 1, TEXT_TITLE), "c");
        news_done(&news);
    }
    struct news news;
    struct err err = ERR_INIT;
    assert_int_equal(news_load(&news, news_file(""), &quiet, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "no items"));
    assert_int_equal(news_load(&news, "/nonexistent", &quiet, &err), -ERR_NOT_FOUND);
    assert_int_equal(
        news_load(&news, scratch_write(dir, "nul", "N1\ta\0\tb\tc\td\te\tf\tg\n", 19), &quiet, &err),
        -ERR_INVALID);
    assert_int_equal(news_load(&news, dir, &quiet, &err), -ERR_IO); /* a folder */
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
    assert_int_equal(news_load(&news, news_file(text), &quiet, &err), 0);
    struct news_text read = {0};
    assert_int_equal(news_item(&read, &news, 0, &err), 0);
    assert_int_equal(read.item.column[TEXT_ABSTRACT].len, LONG);
    assert_int_equal(strspn(read.item.column[TEXT_ABSTRACT].bytes, "x"), LONG);
    news_text_done(&read);
    news_done(&news);
    free(text);
}

/* A text has one hash, wherever it stands and whatever stands beside it; two texts have two. */
static void test_hashes(void **state)
{
    (void)state;
    static const char *const rows[] = {"N0\ta\tb\tc\td\te\tf\tg\n", /* this one again, and others */
        "N1\ta\tb\tc\td\tE\tF\tG\n", "N2\ta\tb\tc\t\td\tf\tg\n", "N3\tab\t\tc\td\te\tf\tg\n",
        "N4\t\tab\tc\td\te\tf\tg\n", "N5\ta\tb\tcd\t\te\tf\tg\n", "N6\ta\tb\t\tcd\te\tf\tg\n",
        "N7\tb\ta\tc\td\te\tf\tg\n"};
    enum { ROWS = sizeof rows / sizeof *rows };
    uint64_t hash[2][ROWS];
    for (size_t turn = 0; turn < 2; turn++) {
        char text[1024] = "";
        struct news news;
        for (size_t i = 0; i < ROWS; i++)
            strcat(text, rows[turn ? ROWS - 1 - i : i]);
        assert_int_equal(news_load(&news, news_file(text), &quiet, NULL), 0);
        for (size_t i = 0; i < ROWS; i++)
            hash[turn][turn ? ROWS - 1 - i : i] = news.rows[i].hash;
        news_done(&news);
    }
    assert_memory_equal(hash[0], hash[1], sizeof hash[0]);
    assert_true(hash[0][0] == hash[0][1]);
    for (size_t i = 1; i < ROWS; i++)
        for (size_t k = i + 1; k < ROWS; k++)
            assert_true(hash[0][i] != hash[0][k]);
}

static const char *const three = "N1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\ttitle\tabstract\te\tf\tg\n"
                                 "N3\ta\tb\tlast\tone\te\tf\tg\n";

/* The second item cannot be read; the first still can. */
static void expect_broken(const struct news *news, int code, const char *message)
{
    struct news_text read = {0};
    struct err err = ERR_INIT;
    assert_int_equal(news_item(&read, news, 1, &err), code);
    assert_non_null(strstr(err.message, "news.tsv:2: "));
    if (!strstr(err.message, message))
        fail_msg("%s", err.message);
    assert_int_equal(news_item(&read, news, 1, NULL), code);
    news_text_done(&read);
}

static void test_written_to(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } changes[] = {{"title", "tilte"}, {"N2", "N8"}, {"title\t", "title "}, {"\ttitle", " title"},
        {"ract\t", "rac\t\t"}, {"N2\ta\tb\t", "N2 a b "}, {"\nN2", "\n\nN"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct news news;
        const char *path = news_file(three);
        assert_int_equal(news_load(&news, path, &quiet, NULL), 0);
        const int fd = open(path, O_WRONLY);
        const size_t len = strlen(changes[i].to);
        const off_t at = strstr(three, changes[i].from) - three;
        assert_int_equal(pwrite(fd, changes[i].to, len, at), len);
        expect_broken(&news, -ERR_CORRUPT, "the file was written to while it was in use: the item N2");
        assert_string_equal(column(&news, 0, TEXT_TITLE), "c");
        close(fd);
        news_done(&news);
    }
}

static void test_cut_short(void **state)
{
    (void)state;
    const size_t second = (size_t)(strchr(three, '\n') + 1 - three);
    for (size_t left = second; left < second + strlen("N2\ta\tb\ttitle\tabstract"); left += 3) {
        struct news news;
        const char *path = news_file(three);
        assert_int_equal(news_load(&news, path, &quiet, NULL), 0);
        assert_int_equal(truncate(path, (off_t)left), 0);
        expect_broken(&news, -ERR_CORRUPT, "the file was cut short while it was in use: the item N2");
        assert_string_equal(column(&news, 0, TEXT_TITLE), "c");
        news_done(&news);
    }
}

static void test_unreadable(void **state)
{
    (void)state;
    struct news news;
    assert_int_equal(news_load(&news, news_file(three), &quiet, NULL), 0);
    const int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(dup2(fd, news.fd), news.fd); /* a folder cannot be read */
    close(fd);
    expect_broken(&news, -ERR_IO, "read the item N2");
    news_done(&news);
}

/* Somebody puts a new catalogue in place of the one that is in use. */
static void test_replaced(void **state)
{
    (void)state;
    struct news news;
    char path[512];
    snprintf(path, sizeof path, "%s", news_file(three));
    assert_int_equal(news_load(&news, path, &quiet, NULL), 0);
    assert_int_equal(rename(scratch_write(dir, "other.tsv", "x", 1), path), 0);
    assert_string_equal(column(&news, 2, TEXT_TITLE), "last");
    news_done(&news);
    assert_int_equal(news_load(&news, news_file(three), &quiet, NULL), 0);
    assert_int_equal(unlink(path), 0);
    assert_string_equal(column(&news, 1, TEXT_TITLE), "title");
    news_done(&news);
}

static int open_pipe(char path[64], const char *text)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), strlen(text));
    close(ends[1]);
    snprintf(path, 64, "/proc/self/fd/%d", ends[0]);
    return ends[0];
}

static void test_pipe(void **state)
{
    (void)state;
    struct news news;
    struct err err = ERR_INIT;
    char path[64];
    int fd = open_pipe(path, three);
    assert_int_equal(news_load(&news, path, &quiet, NULL), 0);
    close(fd);
    assert_int_equal(news.ids.count, 3);
    for (int pass = 0; pass < 2; pass++) {
        assert_string_equal(column(&news, 2, TEXT_TITLE), "last");
        assert_string_equal(column(&news, 0, TEXT_TITLE), "c");
    }
    news_done(&news);

    char *const before = getenv("TMPDIR") ? strdup(getenv("TMPDIR")) : NULL;
    fd = open_pipe(path, three);
    setenv("TMPDIR", "/nonexistent", 1);
    assert_int_equal(news_load(&news, path, &quiet, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "create /nonexistent/embsum-"));
    close(fd);
    if (before)
        setenv("TMPDIR", before, 1);
    else
        unsetenv("TMPDIR");
    free(before);
}

static void test_histories(void **state)
{
    (void)state;
    struct news news;
    struct histories h;
    struct err err = ERR_INIT;
    const char *items = "N1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\tc\td\te\tf\tg\n";
    assert_int_equal(news_load(&news, news_file(items), &quiet, &err), 0);
    const char *text = "1\tU1\t\tN1 N9 N2\tN1-0\n"
                       "2\tU2\t\t\tN1-0\n"
                       "3\tU1\t\tN1\tN1-0\n"            /* shorter: older */
                       "4\tU3\t\tN2 N2  N8 N1 \tN1-0\n" /* unknown ids, doubled spaces */
                       "5\tU3\t\tN1 N1 N1 N9\tN1-0\n"   /* as long: the later row counts */
                       "6\tU1\t\tN2 N9 N8 N1\tN1-0\n";  /* the longest */
    assert_int_equal(
        histories_load(&h, scratch_write(dir, "b.tsv", text, strlen(text)), &news, 60, &quiet, &err), 0);
    assert_int_equal(h.users.count, 3);
    assert_string_equal(id_map_get(&h.users, 0), "U1");
    assert_string_equal(id_map_get(&h.users, 1), "U2");
    assert_int_equal(histories_get(&h, 0).count, 2);
    assert_int_equal(histories_get(&h, 0).items[0], 1);
    assert_int_equal(histories_get(&h, 0).items[1], 0);
    assert_int_equal(histories_get(&h, 1).count, 0);
    assert_int_equal(histories_get(&h, 2).count, 3);
    assert_int_equal(histories_get(&h, 2).items[0], 0);
    assert_int_equal(histories_ids(&h).missing, 2 + 0 + 1);
    histories_done(&h);
    static const char *const bad[] = {
        "1\t\t\tN1\tN1-0\n", "1\tU 1\t\tN1\tN1-0\n", "1\tU1\t\tN1\n", "1\tU1\t\tN1 \x01\tN1-0\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(
            histories_load(&h, scratch_write(dir, "b.tsv", bad[i], strlen(bad[i])), &news, 60, &quiet, &err),
            -ERR_INVALID);
        assert_non_null(strstr(err.message, "b.tsv: 1 bad rows"));
    }
    news_done(&news);
}

/* Random rows of a few users, whose histories grow, stand still and are told late; `keep` of each are kept. The judge
 * keeps the row that counts, whole. */
static void check_kept(size_t keep, uint64_t seed, const struct news *news)
{
    enum { USERS = 5, ROWS = 60, LONGEST = 90 };
    struct rng rng = rng_seed(seed, 0);
    uint32_t row[USERS][LONGEST];
    size_t asked[USERS] = {0}, dropped = 0;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    for (size_t u = 0; u < USERS; u++)
        fprintf(out, "0\tU%zu\t\t\t\n", u);
    for (size_t i = 0; i < ROWS; i++) {
        const size_t user = (size_t)(rng_next(&rng) % USERS);
        size_t count = (size_t)(rng_next(&rng) % 4 ? asked[user] + rng_next(&rng) % 9 : rng_next(&rng) % 20);
        count = count < LONGEST ? count : LONGEST;
        const bool counts = count >= asked[user];
        fprintf(out, "%zu\tU%zu\t\t", i, user);
        for (size_t k = 0; k < count; k++) {
            const uint32_t item = (uint32_t)(rng_next(&rng) % 5); /* N0 .. N3 are there, N4 is not */
            fprintf(out, "%sN%u", k ? " " : "", item);
            if (counts)
                row[user][k] = item;
        }
        fprintf(out, "\tN1\n");
        asked[user] = counts ? count : asked[user];
    }
    fclose(out);
    struct histories h;
    assert_int_equal(histories_load(&h, scratch_write(dir, "b.tsv", text, len), news, keep, &quiet, NULL), 0);
    free(text);
    for (size_t u = 0; u < USERS; u++) {
        uint32_t wanted[LONGEST];
        size_t total = 0;
        for (size_t k = 0; k < asked[u]; k++)
            if (row[u][k] < 4)
                wanted[total++] = row[u][k];
        dropped += asked[u] - total;
        const struct history history = histories_get(&h, u);
        assert_int_equal(history.total, total);
        assert_int_equal(history.count, total < keep ? total : keep);
        if (history.count)
            assert_memory_equal(
                history.items, wanted + total - history.count, history.count * sizeof *wanted);
    }
    assert_int_equal(histories_ids(&h).missing, dropped);
    if (keep < LONGEST)
        assert_true(h.used <= USERS * 3 * keep); /* what was outgrown is bounded */
    histories_done(&h);
}

static void test_kept(void **state)
{
    (void)state;
    static const size_t keeps[] = {1, 3, 16, 60, SIZE_MAX};
    struct news news;
    const char *items = "N0\ta\tb\tc\td\te\tf\tg\nN1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\tc\td\te\tf\tg\n"
                        "N3\ta\tb\tc\td\te\tf\tg\n";
    assert_int_equal(news_load(&news, news_file(items), &quiet, NULL), 0);
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++)
        for (uint64_t seed = 0; seed < test_rounds(40); seed++)
            check_kept(keeps[i], seed, &news);
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
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_hashes), cmocka_unit_test(test_written_to),
        cmocka_unit_test(test_cut_short), cmocka_unit_test(test_unreadable), cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_pipe), cmocka_unit_test(test_histories), cmocka_unit_test(test_kept)};
    return cmocka_run_group_tests_name("mind", tests, setup, teardown);
}
