#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSWORD "pass word:@/?\xC3\xA9"

const char *test_prefix(void)
{
    static char prefix[32];
    static int number;
    snprintf(prefix, sizeof prefix, "t%d", ++number);
    return prefix;
}

struct store *test_store_open(const struct test_world *world, const char *prefix, bool read_only)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct store *store = NULL;
    struct err err = ERR_INIT;
    options.prefix = prefix ? prefix : test_prefix();
    options.password = world->redis ? world->redis->password : NULL;
    options.command_timeout_ms = 20000; /* a machine under load is no fault; those have a test of their own */
    options.connect_timeout_ms = 20000;
    options.read_only = read_only;
    if (store_open(&store, world->url, &options, &err) < 0) {
        fprintf(stderr, "%s: %s\n", world->url, err.message);
        exit(1);
    }
    return store;
}

static int run_lmdb(int (*run)(const struct test_world *))
{
    struct test_world world = {.name = "lmdb", .dir = "/tmp/embsum-lmdb-XXXXXX"};
    char command[128];
    if (!mkdtemp(world.dir)) {
        perror("mkdtemp");
        exit(1);
    }
    snprintf(world.url, sizeof world.url, "lmdb:%s/store", world.dir);
    const int failed = run(&world);
    snprintf(command, sizeof command, "rm -rf '%s'", world.dir);
    return failed + (system(command) != 0);
}

static int run_redis(int (*run)(const struct test_world *))
{
    struct test_redis open, locked;
    test_redis_start(&open, NULL);
    test_redis_start(&locked, PASSWORD);
    struct test_world tcp = {.name = "redis tcp", .redis = &open};
    struct test_world unix_socket = {.name = "redis unix", .redis = &open};
    struct test_world auth = {.name = "redis auth, db 3", .redis = &locked, .database = 3};
    struct test_world user = {.name = "redis user, unix, db 3", .redis = &locked, .database = 3};
    snprintf(tcp.url, sizeof tcp.url, "redis://127.0.0.1:%d/0", open.port);
    snprintf(unix_socket.url, sizeof unix_socket.url, "redis+unix:%s", open.socket);
    snprintf(auth.url, sizeof auth.url, "redis://127.0.0.1:%d/3", locked.port);
    snprintf(user.url, sizeof user.url, "redis+unix:%s?user=default&db=3", locked.socket);
    const int failed = run(&tcp) + run(&unix_socket) + run(&auth) + run(&user);
    test_redis_stop(&open);
    test_redis_stop(&locked);
    return failed;
}

int test_worlds(int (*run)(const struct test_world *world))
{
    int failed = run_lmdb(run);
    const bool redis = test_redis_installed();
    if (redis)
        failed += run_redis(run);
    else
        fprintf(stderr, "SKIPPED: redis-server is not installed, so the Redis backend was NOT tested\n");
    return failed ? 1 : redis ? 0 : 77;
}
