/* The stores that a contract test runs on: each backend in each form of its URL, started by the test itself.
 */
#ifndef EMBSUM_TESTS_LIB_STORES_H
#define EMBSUM_TESTS_LIB_STORES_H

#include "store/store.h"
#include "tests/lib/redis.h"

struct test_world {
    const char *name; /* "lmdb", "redis tcp", ... */
    char url[256];
    char dir[64];             /* lmdb: its folder */
    struct test_redis *redis; /* redis: its server, and the database in use */
    int database;
};

/* Call run (which returns the number of failed tests) for each world. Returns the exit code of the program:
 * 77 with a loud line if all passed but redis-server is not installed. */
int test_worlds(int (*run)(const struct test_world *world));

/* A prefix that no other test has, so that tests share a server without seeing each other. */
const char *test_prefix(void);

/* Open with the given prefix (NULL: a new one), or end the test. */
struct store *test_store_open(const struct test_world *world, const char *prefix, bool read_only);

#endif
