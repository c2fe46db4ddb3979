/* A redis-server of the test's own: in a temporary folder, on a unix socket and on a free port of 127.0.0.1.
 * It ends with the test, also if that crashes (the kernel kills it when its parent dies). */
#ifndef EMBSUM_TESTS_LIB_REDIS_H
#define EMBSUM_TESTS_LIB_REDIS_H

#include <stdbool.h>
#include <sys/types.h>

struct test_redis {
    pid_t pid; /* 0: not running */
    int port;
    char dir[256], socket[288];
    const char *password; /* NULL: none */
    char more[8][96];     /* further options of the command line; "" ends them */
};

bool test_redis_installed(void);

/* Starts a server and waits until it answers; ends the test with a message if it does not. */
void test_redis_start(struct test_redis *redis, const char *password);

/* The same in two steps: a folder and a port, then the server, with what has been put into more meanwhile. */
void test_redis_prepare(struct test_redis *redis, const char *password);

/* Kill it as a crash would, and start it again on the same port and socket, without its data. */
void test_redis_kill(struct test_redis *redis);
void test_redis_restart(struct test_redis *redis);

/* Kill it and remove its folder. */
void test_redis_stop(struct test_redis *redis);

/* Run redis-cli with the given arguments (a shell's words) against it; the test ends if that fails. */
void test_redis_cli(const struct test_redis *redis, const char *arguments);

/* Run redis-cli until its output holds a text; the test ends if that takes longer than 20 s. */
void test_redis_await(const struct test_redis *redis, const char *arguments, const char *says);

/* A free TCP port of 127.0.0.1. */
int test_free_port(void);

#endif
