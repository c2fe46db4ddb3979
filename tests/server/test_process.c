/* Limits of control groups, in folders as the kernel shows them; and what the system says of this process. */
#include "server/process.h"

#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void set(const char *folder, const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", folder, path);
    mkdir(name, 0700);
    if (text)
        scratch_write(name, "memory.max", text, strlen(text));
}

static void test_limits(void **state)
{
    (void)state;
    char root[256];
    scratch_make(root);
    set(root, "/a", "max\n");
    set(root, "/a/b", "4096\n");
    set(root, "/a/b/c", NULL);
    set(root, "/a/b/d", "8192\n");
    set(root, "/a/b/e", "1024\n");
    set(root, "/f", "");
    static const struct {
        const char *path;
        uint64_t limit;
    } rows[] = {{"/a", UINT64_MAX}, {"/a/b", 4096}, {"/a/b/c", 4096}, {"/a/b/d", 4096}, {"/a/b/e", 1024},
        {"/f", UINT64_MAX}, {"/", UINT64_MAX}, {"", UINT64_MAX}, {"/../elsewhere", UINT64_MAX}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(process_group_limit(root, rows[i].path, "memory.max"), rows[i].limit);
    /* The path of a host's group, inside a container that sees its own as the root. */
    set(root, "", "2048\n");
    assert_int_equal(process_group_limit(root, "/of/the/host", "memory.max"), 2048);
    assert_int_equal(process_group_limit(root, "/a/b", "memory.max"), 2048);
    scratch_remove(root);
}

static void test_this_process(void **state)
{
    (void)state;
    enum { BYTES = 32 << 20 };
    struct process process;
    struct process_stats before, after;
    process_open(&process);
    assert_true(process_stats(&process, &before));
    char *memory = malloc(BYTES);
    assert_non_null(memory);
    memset(memory, 1, BYTES);
    volatile double x = 1;
    for (int i = 0; i < 20000000; i++)
        x = x * 1.0000001;
    assert_true(process_stats(&process, &after));
    free(memory);
    assert_true(after.resident_bytes >= before.resident_bytes + BYTES / 2);
    assert_true(after.cpu_seconds > before.cpu_seconds);
    assert_true(after.limit_bytes >= after.resident_bytes && after.limit_bytes == before.limit_bytes);
    assert_true(labs((long)(time(NULL) - after.started)) < 600);
    process_close(&process);
    assert_false(process_stats(&process, &after));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits), cmocka_unit_test(test_this_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
