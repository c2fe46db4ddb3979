#include "tests/lib/redis_set.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOWN_AFTER_MS 500

/* Each is told of the others, whom it would find by itself some seconds later. */
static void write_config(const struct test_sentinels *set, size_t which)
{
    char path[288];
    const struct test_redis *const nodes = set->nodes;
    snprintf(path, sizeof path, "%s/sentinel.conf", set->sentinels[which].dir);
    FILE *const file = fopen(path, "w");
    if (!file) {
        perror(path);
        exit(1);
    }
    fprintf(file, "sentinel myid %040zu\nsentinel monitor embsum 127.0.0.1 %d %zu\n", which + 1,
        nodes[0].port, set->count / 2 + 1);
    if (nodes[0].password)
        fprintf(file, "sentinel auth-pass embsum \"%s\"\n", nodes[0].password);
    if (set->sentinels[which].password)
        fprintf(file, "requirepass \"%s\"\n", set->sentinels[which].password);
    fprintf(file, "sentinel down-after-milliseconds embsum %d\nsentinel failover-timeout embsum 3000\n",
        DOWN_AFTER_MS);
    fprintf(file, "sentinel known-replica embsum 127.0.0.1 %d\n", nodes[1].port);
    for (size_t i = 0; i < set->count; i++)
        if (i != which)
            fprintf(
                file, "sentinel known-sentinel embsum 127.0.0.1 %d %040zu\n", set->sentinels[i].port, i + 1);
    fclose(file);
}

/* The replica says that it is one, and confirms what its master has written, here a write without a key. It confirms nothing before
 * its first answer to the master, up to a second later. WAIT goes by what its own connection has written. */
static void await_replica(const struct test_redis *master, const struct test_redis *replica)
{
    test_redis_await(replica, "role", "connected");
    test_redis_await(master, "<<'END'\nflushall\nwait 1 500\nEND\n", "OK\n1");
}

void test_sentinels_start(struct test_sentinels *set, const char *password, size_t count, bool guarded)
{
    char known[64];
    set->count = count;
    test_redis_start(&set->nodes[0], password);
    test_redis_prepare(&set->nodes[1], password);
    snprintf(set->nodes[1].more[0], sizeof *set->nodes[1].more, "--replicaof");
    snprintf(set->nodes[1].more[1], sizeof *set->nodes[1].more, "127.0.0.1 %d", set->nodes[0].port);
    test_redis_restart(&set->nodes[1]);
    await_replica(&set->nodes[0], &set->nodes[1]);
    for (size_t i = 0; i < count; i++)
        test_redis_prepare(&set->sentinels[i], guarded ? password : NULL);
    size_t len = (size_t)snprintf(set->url, sizeof set->url, "redis+sentinel://");
    for (size_t i = 0; i < count; i++) {
        struct test_redis *const sentinel = &set->sentinels[i];
        write_config(set, i);
        char dir[81]; /* a copy: gcc takes the two members for one */
        snprintf(dir, sizeof dir, "%.80s", sentinel->dir);
        snprintf(sentinel->more[0], sizeof *sentinel->more, "%s/sentinel.conf", dir);
        snprintf(sentinel->more[1], sizeof *sentinel->more, "--sentinel");
        test_redis_restart(sentinel);
        len += (size_t)snprintf(
            set->url + len, sizeof set->url - len, "%s127.0.0.1:%d", i ? "," : "", sentinel->port);
    }
    snprintf(set->url + len, sizeof set->url - len, "/embsum");
    snprintf(known, sizeof known, "slaves=1,sentinels=%zu", count);
    for (size_t i = 0; i < count; i++)
        test_redis_await(&set->sentinels[i], "info sentinel", known);
}

void test_sentinels_stop(struct test_sentinels *set)
{
    for (size_t i = 0; i < set->count; i++)
        test_redis_stop(&set->sentinels[i]);
    for (size_t i = 0; i < 2; i++)
        test_redis_stop(&set->nodes[i]);
}

/* ---- a cluster ---- */

static void add_option(struct test_redis *redis, const char *name, const char *value)
{
    size_t i = 0;
    while (redis->more[i][0])
        i++;
    snprintf(redis->more[i], sizeof redis->more[i], "--%s", name);
    snprintf(redis->more[i + 1], sizeof redis->more[i + 1], "%s", value);
}

static void start_node(struct test_redis *redis, const char *password)
{
    char bus[16];
    test_redis_prepare(redis, password);
    snprintf(bus, sizeof bus, "%d", test_free_port());
    add_option(redis, "cluster-enabled", "yes");
    add_option(redis, "cluster-node-timeout", "1000");
    add_option(redis, "cluster-port", bus); /* the usual one, 10000 above, may not be a port at all */
    test_redis_restart(redis);
}

static void tell(const struct test_redis *redis, const char *format, ...)
{
    char command[256];
    va_list more;
    va_start(more, format);
    vsnprintf(command, sizeof command, format, more);
    va_end(more);
    test_redis_cli(redis, command);
}

/* The id of a node, which others are told. */
static void read_id(const struct test_redis *redis, char id[41])
{
    char path[300];
    snprintf(path, sizeof path, "%s/nodes.conf", redis->dir);
    FILE *const file = fopen(path, "r");
    char line[512];
    id[0] = '\0';
    while (file && fgets(line, sizeof line, file))
        if (strstr(line, " myself"))
            snprintf(id, 41, "%.40s", line);
    if (file)
        fclose(file);
}

void test_cluster_start(struct test_cluster *cluster, const char *password, size_t masters, bool replicas)
{
    char known[64], id[41];
    *cluster = (struct test_cluster){.masters = masters, .count = replicas ? 2 * masters : masters};
    size_t len = (size_t)snprintf(cluster->url, sizeof cluster->url, "redis+cluster://");
    for (size_t i = 0; i < cluster->count; i++) {
        struct test_redis *const node = &cluster->nodes[i];
        start_node(node, password);
        len += (size_t)snprintf(
            cluster->url + len, sizeof cluster->url - len, "%s127.0.0.1:%d", i ? "," : "", node->port);
        tell(node, "config set cluster-migration-barrier 10");
        tell(node, "cluster set-config-epoch %zu", i + 1);
        if (i < masters)
            tell(node, "cluster addslotsrange %zu %zu", i * 16384 / masters, (i + 1) * 16384 / masters - 1);
        if (i)
            tell(&cluster->nodes[0], "cluster meet 127.0.0.1 %d %s", node->port, node->more[5]);
    }
    snprintf(known, sizeof known, "cluster_known_nodes:%zu", cluster->count);
    for (size_t i = 0; i < cluster->count; i++)
        test_redis_await(&cluster->nodes[i], "cluster info", known);
    for (size_t i = masters; i < cluster->count; i++) {
        read_id(&cluster->nodes[i - masters], id);
        tell(&cluster->nodes[i], "cluster replicate %s", id);
    }
    for (size_t i = masters; i < cluster->count; i++)
        await_replica(&cluster->nodes[i - masters], &cluster->nodes[i]);
    for (size_t i = 0; i < cluster->count; i++)
        test_redis_await(&cluster->nodes[i], "cluster info", "cluster_state:ok");
}

void test_cluster_stop(struct test_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        test_redis_stop(&cluster->nodes[i]);
}
