/* Several redis-servers of the test's own that belong together. They end with the test. */
#ifndef EMBSUM_TESTS_LIB_REDIS_SET_H
#define EMBSUM_TESTS_LIB_REDIS_SET_H

#include "tests/lib/redis.h"

#include <stddef.h>

/* A master, its replica and the sentinels that watch them. Who wants to know of a guarded sentinel needs the password of
 * the others. */
struct test_sentinels {
    struct test_redis nodes[2]; /* the first is the master to begin with */
    struct test_redis sentinels[3];
    size_t count;  /* of sentinels */
    char url[256]; /* redis+sentinel://127.0.0.1:1,127.0.0.1:2/embsum */
};
void test_sentinels_start(struct test_sentinels *set, const char *password, size_t count, bool guarded);
void test_sentinels_stop(struct test_sentinels *set);

/* Masters that share the slots of a cluster, the first ones, and a replica of each behind them if there are to be any. */
struct test_cluster {
    struct test_redis nodes[6];
    size_t masters, count;
    char url[256]; /* redis+cluster://127.0.0.1:1,127.0.0.1:2,... */
};
void test_cluster_start(struct test_cluster *cluster, const char *password, size_t masters, bool replicas);
void test_cluster_stop(struct test_cluster *cluster);

#endif
