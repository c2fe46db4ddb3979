/* Rows wherever they fall in the blocks that a file is read in; how many may be bad; and bad rows that are kept. */
#include "batch/tsv.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256];

/* ---- blocks ---- */

/* Rows "number <tab> x...x", as long as asked, in one of three line ends, read back twice: with their offsets. */
static void check_lengths(const size_t *lengths, size_t count, const char *ending, bool mark)
{
    size_t size = 16;
    for (size_t i = 0; i < count; i++)
        size += lengths[i] + 32;
    char *text = malloc(size);
    uint64_t *offsets = calloc(count, sizeof *offsets);
    assert_true(text && offsets);
    size_t used = mark ? 3 : 0;
    memcpy(text, "\xEF\xBB\xBF", used);
    for (size_t i = 0; i < count; i++) {
        offsets[i] = used;
        used += (size_t)sprintf(text + used, "%zu\t", i);
        memset(text + used, 'x', lengths[i]);
        used += lengths[i];
        if (i + 1 < count || *ending == '\r') /* the last line may end in nothing */
            used += (size_t)sprintf(text + used, "%s", ending);
    }
    const char *path = scratch_write(dir, "rows.tsv", text, used);
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    struct err err = ERR_INIT;
    assert_int_equal(tsv_open(&tsv, path, 2, &(struct tsv_options){.quiet = true}, &err), 0);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(tsv_next(&tsv, fields, &err), 1);
            assert_int_equal(strtoul(fields[0].bytes, NULL, 10), i);
            assert_int_equal(fields[1].len, lengths[i]);
            assert_int_equal(strspn(fields[1].bytes, "x"), lengths[i]);
            assert_int_equal(fields[1].bytes[lengths[i]], '\0');
            assert_int_equal(tsv_offset(&tsv, &fields[0]), offsets[i]);
            assert_int_equal(tsv.number, i + 1);
        }
        assert_int_equal(tsv_next(&tsv, fields, &err), 0);
        assert_int_equal(tsv_next(&tsv, fields, &err), 0);
        assert_int_equal(tsv_rewind(&tsv, &err), 0);
    }
    tsv_close(&tsv);
    free(text);
    free(offsets);
}

static void test_blocks(void **state)
{
    (void)state;
    enum { BLOCK = 1 << 18, ROWS = 40 };
    struct rng rng = rng_seed(5, 0);
    size_t lengths[ROWS];
    for (size_t around = BLOCK - 8; around <= BLOCK + 4;
         around++) /* a line end on each side of a block's end */
        check_lengths((const size_t[]){around, 3, around / 2, 2 * around, 0}, 5, around % 2 ? "\n" : "\r\n",
            around % 3);
    for (size_t turn = 0; turn < test_rounds(30); turn++) {
        for (size_t i = 0; i < ROWS; i++)
            lengths[i] = (size_t)(rng_next(&rng) % (turn % 2 ? 300 : BLOCK / 5));
        check_lengths(lengths, ROWS, turn % 3 ? "\n" : "\r\n", turn % 5 == 0);
    }
}

static void test_pipe(void **state)
{
    (void)state;
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    struct err err = ERR_INIT;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "a\tb\nc\td", 7), 7);
    close(ends[1]);
    assert_int_equal(tsv_open_fd(&tsv, ends[0], "pipe", 2, &(struct tsv_options){0}, &err), 0);
    assert_int_equal(tsv_next(&tsv, fields, &err), 1);
    assert_int_equal(tsv_next(&tsv, fields, &err), 1);
    assert_string_equal(fields[1].bytes, "d");
    assert_int_equal(tsv_next(&tsv, fields, &err), 0);
    assert_int_equal(tsv_rewind(&tsv, &err), -ERR_IO);
    assert_non_null(strstr(err.message, "read pipe a second time: "));
    tsv_close(&tsv);
    assert_int_equal(fcntl(ends[0], F_GETFD) >= 0, true); /* it is the caller's */
    close(ends[0]);
}

/* ---- how many may be bad ---- */

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t rows, per_million;
    } good[] = {{"0", 0, 0}, {"12", 12, 0}, {"007", 7, 0}, {"1000000000", 1000000000, 0}, {"0%", 0, 0},
        {"1%", 0, 10000}, {"0.5%", 0, 5000}, {"0.0001%", 0, 1}, {"12.34%", 0, 123400}, {"100%", 0, 1000000},
        {"100.0000%", 0, 1000000}};
    static const char *const bad[] = {"", "%", "-1", "+1", " 1", "1 ", "1 %", "1%%", "1%x", "x", "1x", ".5%",
        "1.%", "0.5", "1.00001%", "100.0001%", "101%", "1000000001", "99999999999999999999",
        "99999999999999999999%", "1e2", "0x1", "1,5%"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct tsv_limit limit = {77, 77};
        assert_true(tsv_limit_parse(&limit, good[i].text));
        assert_int_equal(limit.rows, good[i].rows);
        assert_int_equal(limit.per_million, good[i].per_million);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tsv_limit limit = {77, 77};
        if (tsv_limit_parse(&limit, bad[i]))
            fail_msg("%s", bad[i]);
        assert_int_equal(limit.rows, 77); /* untouched */
    }
}

/* Of `rows` rows, among empty lines, `bad` are bad. */
static int read_bad(size_t rows, size_t bad, const char *limit, struct err *err)
{
    struct tsv_options options = {.quiet = true};
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    char *text = malloc(8 * rows + 1);
    size_t used = 0;
    for (size_t i = 0; i < rows; i++)
        used += (size_t)sprintf(text + used, "a%sb\n%s", i < bad ? " " : "\t", i % 3 ? "" : "\n");
    const char *path = scratch_write(dir, "bad.tsv", text, used);
    free(text);
    assert_true(tsv_limit_parse(&options.max_bad, limit));
    assert_int_equal(tsv_open(&tsv, path, 2, &options, err), 0);
    int result;
    size_t found = 0;
    while ((result = tsv_next(&tsv, fields, err)) > 0)
        found++;
    assert_int_equal(found, rows - bad);
    assert_int_equal(tsv.rows, rows);
    assert_int_equal(tsv.bad, bad);
    tsv_close(&tsv);
    return result;
}

static void test_share(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(read_bad(200, 2, "1%", &err), 0);
    assert_int_equal(read_bad(200, 3, "1%", &err), -ERR_INVALID);
    assert_non_null(
        strstr(err.message, "bad.tsv: 3 bad rows of 200, at most 2 (1%) are allowed (--max-bad)"));
    assert_int_equal(read_bad(199, 2, "1%", &err), -ERR_INVALID); /* a share is rounded down */
    assert_non_null(strstr(err.message, "at most 1 (1%)"));
    assert_int_equal(read_bad(1000, 5, "0.5%", &err), 0);
    assert_int_equal(read_bad(1000, 6, "0.5%", &err), -ERR_INVALID);
    assert_int_equal(read_bad(50, 50, "100%", &err), 0);
    assert_int_equal(read_bad(10, 1, "0%", &err), -ERR_INVALID);
    assert_int_equal(read_bad(10, 3, "3", &err), 0);
    assert_int_equal(read_bad(10, 4, "3", &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "bad.tsv: 4 bad rows, at most 3 are allowed (--max-bad)"));
}

/* ---- quarantine ---- */

static const char *kept(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void assert_kept(const char *name, const char *wanted)
{
    char *data;
    size_t len;
    assert_int_equal(file_read(&data, &len, kept(name), 1 << 24, NULL), 0);
    assert_string_equal(data, wanted);
    free(data);
}

/* Rows of two columns, of which the caller finds those bad that begin with a b. */
static void read_into(struct quarantine *quarantine, const char *bytes, size_t len)
{
    struct tsv tsv;
    struct tsv_field fields[TSV_COLUMNS_MAX];
    const struct tsv_options options = {.quarantine = quarantine, .max_bad.rows = 1000, .quiet = true};
    const char *path = scratch_write(dir, "q.tsv", bytes, len);
    assert_int_equal(tsv_open(&tsv, "q.tsv", 2, &options, NULL), -ERR_NOT_FOUND);
    const int fd = open(path, O_RDONLY);
    assert_int_equal(tsv_open_fd(&tsv, fd, "q.tsv", 2, &options, NULL), 0);
    for (int pass = 0; pass < 2; pass++) { /* told and kept once */
        while (tsv_next(&tsv, fields, NULL) > 0)
            if (*fields[0].bytes == 'b')
                tsv_bad(&tsv, "of \"%s\"", fields[1].bytes);
        assert_int_equal(tsv_rewind(&tsv, NULL), 0);
    }
    tsv_close(&tsv);
    close(fd);
}

static void test_quarantine(void **state)
{
    (void)state;
    static const char rows[] = "\xEF\xBB\xBF"
                               "good\trow\n"
                               "one\n"
                               "\n"
                               "a\tb\tc\td\r\n"
                               "back\\sl\tash\t\n"
                               "n\0ul\t\n"
                               "\x01\x1f\x7f\r\v\n"
                               "\xff\xfe\tx\n"
                               "b\tyes \\ \xC3\xA9";
    struct quarantine quarantine;
    struct err err = ERR_INIT;
    scratch_write(dir, "kept", "older", 5);
    assert_int_equal(quarantine_open(&quarantine, kept("kept"), &err), 0);
    read_into(&quarantine, rows, sizeof rows - 1);
    assert_int_equal(quarantine.rows, 7);
    assert_kept("kept", "older"); /* until it is whole */
    assert_int_equal(quarantine_close(&quarantine, &err), 0);
    assert_kept("kept", "q.tsv\t2\t1 columns instead of 2\tone\n"
                        "q.tsv\t4\t4 columns instead of 2\ta\tb\tc\td\n"
                        "q.tsv\t5\t3 columns instead of 2\tback\\\\sl\tash\t\n"
                        "q.tsv\t6\tthe line holds a NUL byte\tn\\x00ul\t\n"
                        "q.tsv\t7\t1 columns instead of 2\t\\x01\\x1f\\x7f\\x0d\\x0b\n"
                        "q.tsv\t8\tthe line is not valid UTF-8\t\xff\xfe\tx\n"
                        "q.tsv\t9\tof \"yes \\\\ \xC3\xA9\"\tb\tyes \\\\ \xC3\xA9\n");
    assert_int_equal(quarantine_open(&quarantine, kept("kept"), &err), 0);
    read_into(&quarantine, "good\trow\n", 9);
    assert_int_equal(quarantine_close(&quarantine, &err), 0);
    assert_kept("kept", "");
}

/* All of them, not only those that are told. */
static void test_many(void **state)
{
    (void)state;
    enum { ROWS = 500 };
    struct quarantine quarantine;
    char text[8 * ROWS];
    size_t used = 0, lines = 0, len;
    char *data;
    for (size_t i = 0; i < ROWS; i++)
        used += (size_t)sprintf(text + used, "b\t%zu\n", i);
    assert_int_equal(quarantine_open(&quarantine, kept("many"), NULL), 0);
    read_into(&quarantine, text, used);
    assert_int_equal(quarantine_close(&quarantine, NULL), 0);
    assert_int_equal(file_read(&data, &len, kept("many"), 1 << 24, NULL), 0);
    for (const char *at = data; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    assert_int_equal(lines, ROWS);
    free(data);
}

static void test_no_quarantine(void **state)
{
    (void)state;
    struct quarantine quarantine;
    struct err err = ERR_INIT;
    struct stat status;
    assert_int_equal(quarantine_open(&quarantine, "/dev/null", &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "/dev/null is there and is no regular file"));
    assert_true(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode));
    assert_int_equal(quarantine_open(&quarantine, dir, &err), -ERR_INVALID);
    assert_int_equal(quarantine_open(&quarantine, "/nonexistent/file", &err), -ERR_NOT_FOUND);
    /* No room on the disk: the older one stays. */
    struct rlimit before, none = {0, 0};
    scratch_write(dir, "full", "older", 5);
    assert_int_equal(quarantine_open(&quarantine, kept("full"), &err), 0);
    quarantine_add(&quarantine, "a.tsv", 1, "why", "row", 3);
    getrlimit(RLIMIT_FSIZE, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &none);
    const int result = quarantine_close(&quarantine, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(result, -ERR_IO);
    assert_kept("full", "older");
}

static int setup(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks), cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_share), cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_many), cmocka_unit_test(test_no_quarantine)};
    return cmocka_run_group_tests_name("tsv", tests, setup, teardown);
}
