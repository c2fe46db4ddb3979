/* What the contract tests of the store share: the stores to run on (each backend in each form of its URL, started
 * by the test itself), a store of one's own for each test, and short ways to put, get and look. */
#ifndef EMBSUM_TESTS_LIB_STORES_H
#define EMBSUM_TESTS_LIB_STORES_H

#include "core/id.h"
#include "store/store.h"
#include "tests/lib/redis.h"
#include "tests/lib/scratch.h"

#include <string.h>

/* ---- worlds ---- */

struct test_world {
    const char *name; /* "lmdb", "redis tcp", ... */
    char url[320];
    const char *password; /* NULL: none */
};

/* Call run, which returns the number of failed tests, in each world. Returns the exit code of the program: 77 with
 * a loud line if all passed but redis-server is not installed. */
int test_worlds(int (*run)(const char *world_name));

/* Run an array of tests by that name in the world in turn. */
#define test_group(name, world_name, tests)                                                                  \
    cmocka_run_group_tests_name(test_group_name(name, world_name), tests, NULL, NULL)
const char *test_group_name(const char *name, const char *world_name);

/* Open the world's store under a prefix, or end the test. */
struct store *test_store_open(const char *prefix, bool read_only);

/* What each test gets as its state: a store under a prefix that no other test has. */
struct test_store {
    char prefix[32];
    struct store *store;
    struct store_link *link;
};
int test_store_setup(void **state);
int test_store_teardown(void **state);
#define store_test(fn) cmocka_unit_test_setup_teardown(fn, test_store_setup, test_store_teardown)

/* ---- short ways; each fails the test if a call of the store does ---- */

/* Expect 0 from a call that reports to a `struct err err`. */
#define ok(call) test_ok(call, #call, &err, __FILE__, __LINE__)
void test_ok(int rc, const char *call, const struct err *err, const char *file, int line);

void test_sleep_ms(long ms);
long long test_now_ms(void);

static inline struct store_id id_of(const char *text)
{
    return (struct store_id){text, strlen(text)};
}

void put_text(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text);

/* Contents N0 to N<count - 1> whose values are their ids. */
void put_many(struct store_link *link, const char *generation, size_t count);

/* Copies of values, in the order of the ids, each with a NUL behind it; data is NULL where there is none. */
struct copies {
    char **data;
    size_t *len;
    unsigned *calls;
    size_t count;
};
struct copies get_copies(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count);
void free_copies(struct copies *copies);

/* Is the value under an id the text (NULL: nothing)? */
void assert_value(
    struct store_link *link, const char *generation, enum store_kind kind, const char *id, const char *text);

/* The ids of a scan, each of which came once. */
struct id_map scan_ids(struct store_link *link, const char *generation, enum store_kind kind);
size_t scan_count(struct store_link *link, const char *generation, enum store_kind kind);

/* The state of a generation, -1 if the table has none of the name. token may be NULL. */
int state_of(struct store_link *link, const char *name, uint64_t *token);

/* Is the generation (NULL: none) live? */
void assert_live(struct store_link *link, const char *name);

/* Read at most max changes; text is what comes: "uU1 cN2 ". */
void assert_changes(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, const char *text);

#endif
