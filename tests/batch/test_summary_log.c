/* The output of summaries, cut at every byte, locked, and not ours. */
#include "batch/summary_log.h"
#include "core/file.h"
#include "tests/lib/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256];
static const char lines[] =
    "{\"user\": \"U1\", \"summary\": \"One \\\"two\\\"\"}\n{\"user\": \"\xc3\xbc\", \"summary\": \"\"}\n";

static void expect_file(const char *path, const char *text)
{
    char *bytes;
    size_t len;
    assert_int_equal(file_read(&bytes, &len, path, 4096, NULL), 0);
    assert_string_equal(bytes, text);
    free(bytes);
}

static size_t users_of(const char *path)
{
    struct id_map users = {0};
    struct err err = ERR_INIT;
    if (summary_log_users(&users, path, &err) < 0)
        fail_msg("%s", err.message);
    const size_t count = users.count;
    id_map_done(&users);
    return count;
}

/* Whatever a dead writer left: what was whole stays, the rest goes, and one can go on. */
static void test_every_cut(void **state)
{
    (void)state;
    const size_t len = strlen(lines), first = strcspn(lines, "\n") + 1;
    for (size_t cut = 0; cut <= len; cut++) {
        const char *path = scratch_write(dir, "out.jsonl", lines, cut);
        const size_t whole = cut >= len - 1 ? 2 : cut >= first - 1 ? 1 : 0;
        struct summary_log log;
        struct err err = ERR_INIT;
        assert_int_equal(users_of(path), whole);
        if (summary_log_open(&log, path, &err) < 0)
            fail_msg("cut at %zu: %s", cut, err.message);
        assert_int_equal(summary_log_append(&log, "U3", "Three\xc3\xa9", &err), 0);
        assert_int_equal(summary_log_close(&log, &err), 0);
        char expected[512] = "";
        memcpy(expected, lines, whole == 2 ? len : whole ? first : 0);
        strcat(expected, "{\"user\": \"U3\", \"summary\": \"Three\xc3\xa9\"}\n");
        expect_file(path, expected);
        assert_int_equal(users_of(path), whole + 1);
    }
}

/* A torn line longer than the block in which its beginning is looked for. */
static void test_long_line(void **state)
{
    (void)state;
    static char text[20000];
    const size_t first = strlen(strcpy(text, lines));
    strcat(text, "{\"user\": \"U4\", \"summary\": \"");
    memset(text + strlen(text), 'x', sizeof text - strlen(text) - 1);
    for (size_t cut = first + 4000; cut < first + 8400; cut += 97) {
        const char *path = scratch_write(dir, "out.jsonl", text, cut);
        struct summary_log log;
        assert_int_equal(users_of(path), 2);
        assert_int_equal(summary_log_open(&log, path, NULL), 0);
        assert_int_equal(summary_log_close(&log, NULL), 0);
        expect_file(path, lines);
    }
}

static void test_lock(void **state)
{
    (void)state;
    const char *path = scratch_write(dir, "out.jsonl", "", 0);
    struct summary_log log, second;
    struct err err = ERR_INIT;
    assert_int_equal(summary_log_open(&log, path, &err), 0);
    assert_int_equal(summary_log_open(&second, path, &err), -ERR_BUSY);
    assert_int_equal(summary_log_close(&log, &err), 0);
    assert_int_equal(summary_log_open(&second, path, &err), 0);
    assert_int_equal(summary_log_close(&second, &err), 0);
}

static void test_not_ours(void **state)
{
    (void)state;
    static const char *const open_fails[] = {
        "x", "{\"user\": U", "{\"user\": \"U1\", \"summary\": \"a\"}\n\nnotes", "\0\0"};
    for (size_t i = 0; i < sizeof open_fails / sizeof *open_fails; i++) {
        const size_t len = i == 3 ? 2 : strlen(open_fails[i]);
        const char *path = scratch_write(dir, "out.jsonl", open_fails[i], len);
        struct summary_log log;
        struct err err = ERR_INIT;
        assert_int_equal(summary_log_open(&log, path, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "out.jsonl: the last line is no summary"));
        if (i < 3)
            expect_file(path, open_fails[i]);
    }
    /* whole lines that are no summaries are found by reading, with their place */
    static const char *const read_fails[] = {
        "notes\n", "{\"user\": \"U1\"}\n", "{\"user\": 1, \"summary\": \"a\"}\n"};
    for (size_t i = 0; i < sizeof read_fails / sizeof *read_fails; i++) {
        struct id_map users = {0};
        struct err err = ERR_INIT;
        const char *path = scratch_write(dir, "out.jsonl", read_fails[i], strlen(read_fails[i]));
        assert_int_equal(summary_log_users(&users, path, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "out.jsonl:1: "));
    }
    struct summary_log log;
    struct id_map users = {0};
    assert_int_equal(summary_log_open(&log, dir, NULL), -ERR_IO);
    assert_int_equal(summary_log_open(&log, "/dev/null", NULL), -ERR_INVALID);
    assert_int_equal(summary_log_users(&users, "nowhere.jsonl", NULL), 0);
    assert_int_equal(users.count, 0);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_cut), cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_lock), cmocka_unit_test(test_not_ours)};
    return cmocka_run_group_tests_name("summary_log", tests, setup, teardown);
}
