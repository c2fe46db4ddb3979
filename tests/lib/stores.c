#include "tests/lib/stores.h"
#include "tests/lib/redis_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PASSWORD "pass word:@/?&#"

static const struct test_world *world;

/* ---- worlds ---- */

const char *test_group_name(const char *name, const char *world_name)
{
    static char text[96];
    snprintf(text, sizeof text, "%s, %s", name, world_name);
    return text;
}

struct store *test_store_open(const char *prefix, bool read_only)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct store *store = NULL;
    struct err err = ERR_INIT;
    options.prefix = prefix;
    options.password = world->password;
    options.command_timeout_ms = 20000; /* a machine under load is no fault; those have a test of their own */
    options.connect_timeout_ms = 20000;
    options.read_only = read_only;
    if (store_open(&store, world->url, &options, &err) < 0) {
        fprintf(stderr, "%s: %s\n", world->url, err.message);
        exit(1);
    }
    return store;
}

int test_store_setup(void **state)
{
    static int number;
    struct test_store *const self = calloc(1, sizeof *self);
    assert_non_null(self);
    snprintf(self->prefix, sizeof self->prefix, "t%d", ++number);
    self->store = test_store_open(self->prefix, false);
    assert_int_equal(store_connect(&self->link, self->store, NULL), 0);
    *state = self;
    return 0;
}

int test_store_teardown(void **state)
{
    struct test_store *const self = *state;
    store_disconnect(self->link);
    store_close(self->store);
    free(self);
    return 0;
}

static int run_in(const struct test_world *next, int (*run)(const char *))
{
    world = next;
    return run(next->name);
}

static int run_lmdb(int (*run)(const char *))
{
    struct test_world lmdb = {.name = "lmdb"};
    char dir[256];
    scratch_make(dir);
    snprintf(lmdb.url, sizeof lmdb.url, "lmdb:%s/store", dir);
    const int failed = run_in(&lmdb, run);
    scratch_remove(dir);
    return failed;
}

static int run_redis(int (*run)(const char *))
{
    struct test_redis open, locked;
    test_redis_start(&open, NULL);
    test_redis_start(&locked, PASSWORD);
    struct test_world tcp = {.name = "redis tcp"};
    struct test_world unix_socket = {.name = "redis unix"};
    struct test_world auth = {.name = "redis auth, db 3", .password = PASSWORD};
    struct test_world user = {.name = "redis unix, user, db 3", .password = PASSWORD};
    snprintf(tcp.url, sizeof tcp.url, "redis://127.0.0.1:%d/0", open.port);
    snprintf(unix_socket.url, sizeof unix_socket.url, "redis+unix:%s", open.socket);
    snprintf(auth.url, sizeof auth.url, "redis://127.0.0.1:%d/3", locked.port);
    snprintf(user.url, sizeof user.url, "redis+unix:%s?user=default&db=3", locked.socket);
    const int failed =
        run_in(&tcp, run) + run_in(&unix_socket, run) + run_in(&auth, run) + run_in(&user, run);
    test_redis_stop(&open);
    test_redis_stop(&locked);
    return failed;
}

static int run_sentinel(int (*run)(const char *))
{
    struct test_sentinels set;
    struct test_world world_of_set = {.name = "redis sentinel", .password = PASSWORD};
    test_sentinels_start(&set, PASSWORD, 1, false);
    snprintf(world_of_set.url, sizeof world_of_set.url, "%s?db=3", set.url);
    const int failed = run_in(&world_of_set, run);
    test_sentinels_stop(&set);
    return failed;
}

static int run_cluster(int (*run)(const char *))
{
    struct test_cluster cluster;
    struct test_world world_of_cluster = {.name = "redis cluster", .password = PASSWORD};
    test_cluster_start(&cluster, PASSWORD, 3, false);
    snprintf(world_of_cluster.url, sizeof world_of_cluster.url, "%s", cluster.url);
    const int failed = run_in(&world_of_cluster, run);
    test_cluster_stop(&cluster);
    return failed;
}

int test_worlds(int (*run)(const char *world_name))
{
    int failed = run_lmdb(run);
    const bool redis = test_redis_installed();
    if (redis)
        failed += run_redis(run) + run_sentinel(run) + run_cluster(run);
    else
        fprintf(stderr, "SKIPPED: redis-server is not installed, so the Redis backend was NOT tested\n");
    return failed ? 1 : redis ? 0 : 77;
}

/* ---- short ways ---- */

void test_ok(int rc, const char *call, const struct err *err, const char *file, int line)
{
    if (rc != 0)
        fail_msg("%s:%d: %s returned %d: %s", file, line, call, rc, err->message);
}

void test_sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

long long test_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int take_copy(void *ctx, size_t index, const void *data, size_t len)
{
    struct copies *const copies = ctx;
    assert_true(index < copies->count);
    copies->calls[index]++;
    copies->len[index] = len;
    if (data) {
        copies->data[index] = malloc(len + 1);
        memcpy(copies->data[index], data, len);
        copies->data[index][len] = '\0';
    } else {
        assert_int_equal(len, 0);
    }
    return 0;
}

struct copies get_copies(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count)
{
    struct copies copies = {calloc(count + 1, sizeof(char *)), calloc(count + 1, sizeof(size_t)),
        calloc(count + 1, sizeof(unsigned)), count};
    struct err err = ERR_INIT;
    ok(store_get(link, generation, kind, ids, count, take_copy, &copies, &err));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(copies.calls[i], 1);
    return copies;
}

void free_copies(struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++)
        free(copies->data[i]);
    free(copies->data);
    free(copies->len);
    free(copies->calls);
}

void assert_value(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text)
{
    const struct store_id one = id_of(id);
    struct copies copies = get_copies(link, generation, kind, &one, 1);
    if (text) {
        assert_non_null(copies.data[0]);
        assert_string_equal(copies.data[0], text);
    } else {
        assert_null(copies.data[0]);
    }
    free_copies(&copies);
}

void put_text(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text)
{
    const struct store_entry entry = {id_of(id), text, strlen(text)};
    struct err err = ERR_INIT;
    ok(store_put(link, generation, kind, &entry, 1, &err));
}

void put_many(struct store_link *link, const char *generation, size_t count)
{
    struct err err = ERR_INIT;
    char(*const names)[24] = calloc(count + 1, sizeof *names);
    struct store_entry *const entries = calloc(count + 1, sizeof *entries);
    assert_true(names && entries);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        entries[i] = (struct store_entry){id_of(names[i]), names[i], strlen(names[i])};
    }
    ok(store_put(link, generation, STORE_CONTENT, entries, count, &err));
    free(names);
    free(entries);
}

struct scanned {
    struct id_map ids;
    size_t calls;
};

static int take_id(void *ctx, const char *id, size_t len)
{
    struct scanned *const scanned = ctx;
    scanned->calls++;
    assert_true(id_map_add(&scanned->ids, id, len, NULL) >= 0);
    return 0;
}

struct id_map scan_ids(struct store_link *link, const char *generation, enum store_kind kind)
{
    struct scanned scanned = {0};
    struct err err = ERR_INIT;
    ok(store_scan(link, generation, kind, take_id, &scanned, &err));
    assert_int_equal(scanned.calls, scanned.ids.count);
    return scanned.ids;
}

size_t scan_count(struct store_link *link, const char *generation, enum store_kind kind)
{
    struct id_map ids = scan_ids(link, generation, kind);
    const size_t count = ids.count;
    id_map_done(&ids);
    return count;
}

int state_of(struct store_link *link, const char *name, uint64_t *token)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    int state = -1;
    struct err err = ERR_INIT;
    ok(store_generations(link, &rows, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0) {
            state = (int)rows[i].state;
            if (token)
                *token = rows[i].token;
        }
    free(rows);
    return state;
}

void assert_live(struct store_link *link, const char *name)
{
    char live[STORE_GENERATION_MAX] = "untouched";
    struct err err = ERR_INIT;
    const int rc = store_live(link, live, &err);
    if (name) {
        test_ok(rc, "store_live", &err, __FILE__, __LINE__);
        assert_string_equal(live, name);
    } else {
        assert_int_equal(rc, -ERR_NOT_FOUND);
        assert_string_equal(live, "untouched");
    }
}

static int take_change(void *ctx, const struct store_change *change)
{
    char *const text = ctx;
    const size_t used = strlen(text);
    snprintf(text + used, 4096 - used, "%c%.*s ", (char)change->kind, (int)change->id.len, change->id.id);
    return 0;
}

void assert_changes(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, const char *text)
{
    char heard[4096] = "";
    struct err err = ERR_INIT;
    ok(store_changes_read(link, generation, cursor, max, take_change, heard, &err));
    assert_string_equal(heard, text);
}
