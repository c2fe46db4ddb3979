/* Files replaced whole: what others see while it is written, when there is no room, and when the writer is killed. */
#include "core/file.h"
#include "tests/lib/scratch.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[256];
static char *path; /* of the file that is replaced */

static void assert_holds(const char *expected)
{
    char *data;
    size_t len;
    assert_int_equal(file_read(&data, &len, path, 1 << 20, NULL), 0);
    assert_string_equal(data, expected);
    free(data);
}

/* Entries of the folder: 1 is the file alone. */
static size_t entries(void)
{
    size_t count = 0;
    DIR *folder = opendir(dir);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void begin(struct file_replacement *file, const char *text)
{
    struct err err = ERR_INIT;
    if (file_replace_begin(file, path, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(fputs(text, file->stream) >= 0 && fflush(file->stream) == 0);
}

static void test_replace(void **state)
{
    (void)state;
    struct file_replacement file;
    begin(&file, "new");
    assert_holds("old");
    assert_int_equal(file_replace_commit(&file, NULL), 0);
    assert_holds("new");
    begin(&file, "never");
    file_replace_abort(&file);
    assert_holds("new");
    assert_int_equal(entries(), 1);
}

/* A child that begins another file and is killed, with half of it written. */
static void leave_behind(void)
{
    const pid_t child = fork();
    if (child == 0) {
        struct file_replacement file;
        char other[300];
        snprintf(other, sizeof other, "%s/other", dir);
        if (file_replace_begin(&file, other, NULL) == 0)
            fputs("half", file.stream);
        raise(SIGKILL);
    }
    int status;
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void test_killed_writers(void **state)
{
    (void)state;
    struct file_replacement first, second;
    leave_behind();
    assert_int_equal(entries(), 2);
    assert_holds("old");
    begin(&first, "first"); /* removes what was left behind */
    assert_int_equal(entries(), 2);
    begin(&second, "second"); /* but not what a living writer is at */
    assert_int_equal(entries(), 3);
    assert_int_equal(file_replace_commit(&first, NULL), 0);
    assert_holds("first");
    assert_int_equal(file_replace_commit(&second, NULL), 0);
    assert_holds("second");
    assert_int_equal(entries(), 1);
}

/* Names that only look alike are somebody's. */
static void test_other_files(void **state)
{
    (void)state;
    static const char *const names[] = {
        "file.backup", "file.old", "file2", "fil", "file.unfinished-", "file.unfinished-draft"};
    struct file_replacement file;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        scratch_write(dir, names[i], "mine", 4);
    begin(&file, "new");
    assert_int_equal(file_replace_commit(&file, NULL), 0);
    assert_int_equal(entries(), 1 + sizeof names / sizeof *names);
}

static void test_no_room(void **state)
{
    (void)state;
    struct rlimit limit, small;
    struct file_replacement file;
    struct err err = ERR_INIT;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 10000;
    assert_int_equal(file_replace_begin(&file, path, &err), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 20000; i++)
        fputc('x', file.stream);
    const int result = file_replace_commit(&file, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, before);
    assert_int_equal(result, -ERR_IO);
    if (!strstr(err.message, "write ") || !strstr(err.message, path) ||
        !strstr(err.message, "File too large"))
        fail_msg("%s", err.message);
    assert_holds("old");
    assert_int_equal(entries(), 1);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    path = strdup(scratch_write(dir, "file", "old", 3));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    free(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_writers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown)};
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
