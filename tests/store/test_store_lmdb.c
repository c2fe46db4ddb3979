/* What is the embedded store's alone: its folder, sharing between stores and processes, killed writers, a
 * full disk, damaged files. */
#include "store/generation.h"
#include "store/store.h"
#include "tests/lib/stores.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[256];

/* A URL of a new folder in root. */
static const char *new_url(void)
{
    static char url[320];
    static int number;
    snprintf(url, sizeof url, "lmdb:%s/%d", root, ++number);
    return url;
}

static struct store *open_store(const char *url, bool read_only)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct store *store = NULL;
    struct err err = ERR_INIT;
    options.read_only = read_only;
    ok(store_open(&store, url, &options, &err));
    return store;
}

static struct store_link *connect_store(struct store *store)
{
    struct store_link *link = NULL;
    struct err err = ERR_INIT;
    ok(store_connect(&link, store, &err));
    return link;
}

static int put(struct store_link *link, const char *id, const void *data, size_t len, struct err *err)
{
    const struct store_entry entry = {{id, strlen(id)}, data, len};
    return store_put(link, "g", STORE_USER, &entry, 1, err);
}

static int measure(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    *(long *)ctx = data ? (long)len : -1;
    return 0;
}

/* Bytes of a value, -1 if there is none. */
static long size_of(struct store_link *link, const char *id)
{
    const struct store_id one = {id, strlen(id)};
    struct err err = ERR_INIT;
    long size = -2;
    ok(store_get(link, "g", STORE_USER, &one, 1, measure, &size, &err));
    return size;
}

/* ---- the folder ---- */

static void test_folder(void **state)
{
    (void)state;
    struct store *store = NULL;
    struct err err = ERR_INIT;
    const char *const url = new_url();
    store_close(open_store(url, true));
    assert_int_equal(access(url + 5, F_OK), -1); /* a reader does not make it */
    store_close(open_store(url, false));
    store_close(open_store(url, true));
    char deep[400];
    snprintf(deep, sizeof deep, "%s/no/such", url);
    assert_int_equal(store_open(&store, deep, NULL, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no/such"));
    snprintf(deep, sizeof deep, "%s/data.mdb", url); /* a file */
    assert_true(store_open(&store, deep, NULL, &err) < 0);
    assert_non_null(strstr(err.message, "data.mdb"));
}

/* A reader may be there before the store is. */
static void test_reader_first(void **state)
{
    (void)state;
    char url[320], live[STORE_GENERATION_MAX];
    const struct store_id id = {"U1", 2};
    struct err err = ERR_INIT;
    long size;
    snprintf(url, sizeof url, "%s", new_url());
    struct store *const reader = open_store(url, true);
    struct store_link *const early = connect_store(reader), *const idle = connect_store(reader);
    assert_int_equal(store_live(early, live, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, url + 5));
    assert_int_equal(store_get(early, "g", STORE_USER, &id, 1, measure, &size, &err), -ERR_NOT_FOUND);
    assert_int_equal(store_ping(early, &err), -ERR_NOT_FOUND);
    struct store *const writer = open_store(url, false);
    struct store_link *const link = connect_store(writer);
    ok(put(link, "U1", "one", 3, &err));
    assert_int_equal(size_of(early, "U1"), 3);
    assert_int_equal(size_of(idle, "U1"), 3);
    assert_int_equal(store_live(early, live, &err), -ERR_NOT_FOUND);
    store_disconnect(link);
    store_close(writer);
    assert_int_equal(size_of(early, "U1"), 3);
    store_disconnect(early);
    store_disconnect(idle);
    store_close(reader);
}

/* The names that DESIGN gives are in the file, in plain bytes. */
static void test_key_names(void **state)
{
    (void)state;
    char url[320], path[400];
    struct err err = ERR_INIT;
    uint64_t token = 0;
    snprintf(url, sizeof url, "%s", new_url());
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    const struct store_entry one = {{"X", 1}, "v", 1}, none = {{"", 0}, "v", 1};
    const struct store_change change = {STORE_USER, {"X", 1}};
    ok(store_lock(link, 5000, &token, &err));
    const struct store_generation row = {"g", STORE_LIVE, token};
    ok(store_commit(link, token, &row, 1, "g", &err));
    ok(store_put(link, "g", STORE_USER, &one, 1, &err));
    ok(store_put(link, "g", STORE_CONTENT, &one, 1, &err));
    ok(store_put(link, "g", STORE_SUMMARY, &one, 1, &err));
    ok(store_put(link, "g", STORE_SCORE_PROJ, &none, 1, &err));
    ok(store_put(link, "g", STORE_MANIFEST, &none, 1, &err));
    ok(store_changes_append(link, "g", &change, 1, &err));
    const struct store_click click = {{"X", 1}, {"N", 1}};
    ok(store_clicks_append(link, &click, 1, &err));
    ok(store_put(link, STORE_SHARED, STORE_HISTORY, &one, 1, &err));
    snprintf(path, sizeof path, "%s/data.mdb", url + 5);
    static char bytes[1 << 20];
    FILE *const file = fopen(path, "rb");
    assert_non_null(file);
    const size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    static const char *const keys[] = {"{embsum}:liveg", "{embsum}:generations:glive 1", "{embsum}:lock1 ",
        "{embsum}:token1", "{embsum}:g:changes:00000000000000000001uX", "embsum:g:u:Xv", "embsum:g:c:Xv",
        "embsum:g:s:Xv", "embsum:g:wv", "embsum:g:manifestv", "{embsum}:clicks1",
        "{embsum}:clicks:00000000000000000001X N", "embsum:shared:h:Xv"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!memmem(bytes, len, keys[i], strlen(keys[i])))
            fail_msg("%s is not in the file", keys[i]);
    store_disconnect(link);
    store_close(store);
}

/* ---- sharing ---- */

/* One folder opened many times in one process, by other names too, in any order of closing. */
static void test_shared_in_process(void **state)
{
    (void)state;
    char url[320], other[640], linked[300], linked_url[320];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "%s", new_url());
    snprintf(other, sizeof other, "%s/../%s", url, strrchr(url, '/') + 1);
    snprintf(linked, sizeof linked, "%s/linked", root);
    snprintf(linked_url, sizeof linked_url, "lmdb:%s", linked);
    struct store *const first = open_store(url, false);
    assert_int_equal(symlink(url + 5, linked), 0);
    struct store *const second = open_store(other, false), *const reader = open_store(linked_url, true);
    struct store_link *const a = connect_store(first), *const b = connect_store(second),
                             *const c = connect_store(reader);
    ok(put(a, "U1", "one", 3, &err));
    ok(put(b, "U2", "three", 5, &err));
    assert_int_equal(size_of(c, "U1"), 3);
    assert_int_equal(size_of(a, "U2"), 5);
    assert_int_equal(put(c, "U3", "x", 1, &err), -ERR_INVALID);
    store_disconnect(a);
    store_close(first);
    ok(put(b, "U3", "seven!!", 7, &err));
    assert_int_equal(size_of(c, "U3"), 7);
    store_disconnect(b);
    store_close(second);
    assert_int_equal(size_of(c, "U3"), 7);
    struct store *const again = open_store(url, false); /* a writer after a reader */
    struct store_link *const d = connect_store(again);
    ok(put(d, "U4", "x", 1, &err));
    assert_int_equal(size_of(c, "U4"), 1);
    store_disconnect(c);
    store_close(reader);
    assert_int_equal(size_of(d, "U4"), 1);
    store_disconnect(d);
    store_close(again);
    unlink(linked);
}

/* A folder removed and made again is another store, even while the old one is open. */
static void test_replaced(void **state)
{
    (void)state;
    char url[320];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "%s", new_url());
    struct store *const old = open_store(url, false);
    struct store_link *const a = connect_store(old);
    ok(put(a, "U1", "one", 3, &err));
    scratch_remove(url + 5);
    struct store *const new = open_store(url, false);
    struct store_link *const b = connect_store(new);
    assert_int_equal(size_of(b, "U1"), -1);
    assert_int_equal(size_of(a, "U1"), 3);
    store_disconnect(a);
    store_close(old);
    ok(put(b, "U1", "three", 5, &err));
    assert_int_equal(size_of(b, "U1"), 5);
    store_disconnect(b);
    store_close(new);
}

/* Run fn(url) in a process of its own that dies with this one. It inherits what this one has open, and must
 * not use it. */
static pid_t start(void (*fn)(const char *url), const char *url)
{
    fflush(NULL);
    const pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            fn(url);
        _exit(9);
    }
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void read_in_child(const char *url)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct store *store = NULL;
    struct store_link *link = NULL;
    const struct store_id id = {"U1", 2};
    options.read_only = true;
    if (store_open(&store, url, &options, NULL) < 0 || store_connect(&link, store, NULL) < 0)
        _exit(1);
    for (int i = 0; i < 2000; i++) {
        long size = -2;
        if (store_get(link, "g", STORE_USER, &id, 1, measure, &size, NULL) < 0)
            _exit(2);
        if (size == 4) {
            store_disconnect(link);
            store_close(store);
            _exit(0);
        }
        test_sleep_ms(5);
    }
    _exit(3);
}

/* A process that opened the store for reading sees what another writes later. */
static void test_reader_process(void **state)
{
    (void)state;
    char url[320];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "%s", new_url());
    store_close(open_store(url, false));
    const pid_t pid = start(read_in_child, url);
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    ok(put(link, "U1", "v", 1, &err));
    test_sleep_ms(30);
    ok(put(link, "U1", "late", 4, &err));
    assert_int_equal(wait_for(pid), 0);
    store_disconnect(link);
    store_close(store);
}

/* ---- writers that are killed ---- */

enum { M = 2, N = 1, D = 16 };

static void write_in_child(const char *url)
{
    struct store *store = NULL;
    static float matrix[D * D];
    if (store_open(&store, url, NULL, NULL) < 0)
        _exit(1);
    for (;;) {
        struct generation_writer *writer = NULL;
        struct manifest manifest = {.m = M, .n = N, .d = D};
        char id[16];
        if (generation_begin(&writer, store, BLOB_F32, NULL) < 0)
            _exit(2);
        int rc = generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 0, matrix, D, D, NULL);
        for (int i = 0; rc == 0 && i < 3000; i++) {
            snprintf(id, sizeof id, "U%d", i);
            rc = generation_put_matrix(writer, BLOB_USER, id, strlen(id), 0, matrix, M, D, NULL);
        }
        if (rc < 0 || generation_finish(writer, &manifest, NULL) < 0 || generation_publish(writer, NULL) < 0)
            _exit(3);
        generation_end(writer);
    }
}

/* The lock of a killed writer lasts until its time is over; here it is taken from it, token by token. */
static void break_lock(struct store_link *link)
{
    struct err err = ERR_INIT;
    uint64_t token = 0;
    if (store_lock(link, 1000, &token, &err) == 0) {
        ok(store_unlock(link, token, &err));
        return;
    }
    for (token = 1; store_unlock(link, token, &err) < 0; token++)
        assert_true(token < 100000);
}

/* Whenever a writer is killed, what is live is complete, and the next writer cleans up. */
static void test_killed_writers(void **state)
{
    (void)state;
    char url[320], live[STORE_GENERATION_MAX];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "%s", new_url());
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    srand(11);
    for (int i = 0; i < 12; i++) {
        const pid_t pid = start(write_in_child, url);
        test_sleep_ms(20 + rand() % 80);
        kill(pid, SIGKILL);
        assert_int_equal(wait_for(pid), -SIGKILL);
        break_lock(link);
        struct generation_check check;
        const int rc = store_live(link, live, &err);
        assert_true(rc == 0 || rc == -ERR_NOT_FOUND);
        if (rc == 0) {
            ok(generation_verify(&check, link, live, NULL, NULL, &err));
            assert_int_equal(check.users, 3000);
        }
        struct generation_writer *writer = NULL;
        ok(generation_begin(&writer, store, BLOB_F32, &err));
        generation_end(writer);
        struct store_generation *rows = NULL;
        size_t count = 0;
        ok(store_generations(link, &rows, &count, &err));
        for (size_t k = 0; k < count; k++)
            assert_int_not_equal(rows[k].state, STORE_BUILDING);
        free(rows);
        ok(generation_prune(store, 1, &err));
    }
    store_disconnect(link);
    store_close(store);
}

/* ---- limits ---- */

static void fill_disk(const char *url)
{
    struct err err = ERR_INIT;
    char id[16];
    static char data[100000];
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    const struct rlimit limit = {1 << 20, 1 << 20};
    if (put(link, "U0", "v", 1, &err) < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0)
        _exit(1);
    signal(SIGXFSZ, SIG_IGN);
    int rc = 0, i = 0;
    for (; rc == 0 && i < 100; i++) {
        snprintf(id, sizeof id, "B%d", i);
        rc = put(link, id, data, sizeof data, &err);
    }
    if (rc != -ERR_IO || !strstr(err.message, "write to the LMDB store"))
        _exit(2);
    snprintf(id, sizeof id, "B%d", i - 1);
    const bool kept =
        size_of(link, "U0") == 1 && size_of(link, "B0") == sizeof data && size_of(link, id) == -1;
    store_disconnect(link);
    store_close(store);
    _exit(kept ? 0 : 3);
}

/* A file that may not grow: a clear error, and all that was there stays. */
static void test_disk_full(void **state)
{
    (void)state;
    char url[320];
    snprintf(url, sizeof url, "%s", new_url());
    assert_int_equal(wait_for(start(fill_disk, url)), 0);
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    struct err err = ERR_INIT;
    assert_int_equal(size_of(link, "U0"), 1);
    ok(put(link, "U1", "one", 3, &err));
    store_disconnect(link);
    store_close(store);
}

static void open_in_small_space(const char *url)
{
    struct err err = ERR_INIT;
    const struct rlimit limit = {
        (rlim_t)8 << 30, (rlim_t)8 << 30}; /* of address space, less than a tebibyte */
    if (setrlimit(RLIMIT_AS, &limit) < 0)
        _exit(1);
    struct store *const store = open_store(url, false);
    struct store_link *const link = connect_store(store);
    const bool good = put(link, "U1", "one", 3, &err) == 0 && size_of(link, "U1") == 3;
    store_disconnect(link);
    store_close(store);
    _exit(!good);
}

static void test_small_address_space(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    puts("skipped: a small address space, for a sanitizer has terabytes of shadow memory");
    skip();
#endif
    assert_int_equal(wait_for(start(open_in_small_space, new_url())), 0);
}

/* ---- damaged files ---- */

static void test_not_a_store(void **state)
{
    (void)state;
    char path[400];
    struct store *store = NULL;
    struct err err = ERR_INIT;
    const char *const url = new_url();
    assert_int_equal(mkdir(url + 5, 0700), 0);
    snprintf(path, sizeof path, "%s/data.mdb", url + 5);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 10000; i++)
        fputc(i, file);
    fclose(file);
    assert_int_equal(store_open(&store, url, NULL, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, url + 5));
}

/* More links than LMDB's own default of 126 readers, all reading. */
static void test_many_links(void **state)
{
    (void)state;
    enum { LINKS = 400 };
    static struct store_link *links[LINKS];
    struct err err = ERR_INIT;
    struct store *const store = open_store(new_url(), false);
    for (int i = 0; i < LINKS; i++) {
        links[i] = connect_store(store);
        ok(store_ping(links[i], &err));
    }
    ok(put(links[0], "U1", "one", 3, &err));
    for (int i = 0; i < LINKS; i++) {
        assert_int_equal(size_of(links[i], "U1"), 3);
        store_disconnect(links[i]);
    }
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_reader_first),
        cmocka_unit_test(test_key_names),
        cmocka_unit_test(test_shared_in_process),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_reader_process),
        cmocka_unit_test(test_killed_writers),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_small_address_space),
        cmocka_unit_test(test_not_a_store),
        cmocka_unit_test(test_many_links),
    };
    scratch_make(root);
    const int failed = cmocka_run_group_tests_name("store, lmdb alone", tests, NULL, NULL);
    scratch_remove(root);
    return failed;
}
