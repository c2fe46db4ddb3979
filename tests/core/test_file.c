/* Files replaced whole: what others see while it is written, when there is no room, and when the writer is killed. And files
 * that are read as often as wanted, whatever they are. */
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

/* ---- files that are read twice ---- */

static void assert_reads(int fd, const char *bytes, size_t len)
{
    char *const got = malloc(len + 1);
    assert_non_null(got);
    for (int pass = 0; pass < 2; pass++)
        assert_int_equal(pread(fd, got, len + 1, 0), len);
    assert_memory_equal(got, bytes, len);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0); /* at its beginning */
    free(got);
}

/* *child writes the bytes into the pipe whose path is returned. */
static const char *pipe_of(int *fd, pid_t *child, const char *bytes, size_t len)
{
    static char name[64];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *child = fork();
    if (*child == 0) {
        close(ends[0]);
        for (size_t at = 0; at < len; at += len - at < 1000 ? len - at : 1000)
            if (write(ends[1], bytes + at, len - at < 1000 ? len - at : 1000) < 0)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    *fd = ends[0];
    snprintf(name, sizeof name, "/proc/self/fd/%d", ends[0]);
    return name;
}

static void test_read_twice(void **state)
{
    (void)state;
    enum { LEN = 300000 };
    struct err err = ERR_INIT;
    char *const bytes = malloc(LEN);
    int fd, pipe_end;
    pid_t child;
    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (char)(i * 31 >> 3);
    assert_int_equal(file_open_twice(&fd, path, &err), 0);
    assert_reads(fd, "old", 3);
    close(fd);
    setenv("TMPDIR", dir, 1);
    const char *name = pipe_of(&pipe_end, &child, bytes, LEN);
    assert_int_equal(file_open_twice(&fd, name, &err), 0);
    assert_reads(fd, bytes, LEN);
    close(fd);
    close(pipe_end);
    waitpid(child, NULL, 0);
    assert_int_equal(entries(), 1); /* the copy has no name */
    assert_int_equal(file_open_twice(&fd, "/dev/null", &err), 0);
    assert_reads(fd, "", 0);
    close(fd);

    assert_int_equal(file_open_twice(&fd, "/nonexistent", &err), -ERR_NOT_FOUND);
    assert_int_equal(file_open_twice(&fd, dir, &err), -ERR_IO);
    struct rlimit limit, small;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = LEN / 2; /* no room for the copy */
    name = pipe_of(&pipe_end, &child, bytes, LEN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(file_open_twice(&fd, name, &err), -ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, before);
    close(pipe_end);
    waitpid(child, NULL, 0);
    if (!strstr(err.message, "copy /proc/self/fd/") || !strstr(err.message, dir))
        fail_msg("%s", err.message);
    setenv("TMPDIR", "/nonexistent", 1);
    assert_int_equal(file_open_twice(&fd, "/dev/null", &err), -ERR_NOT_FOUND);
    unsetenv("TMPDIR");
    free(bytes);
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
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_twice, setup, teardown)};
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
