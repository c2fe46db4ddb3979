/* What a store says of itself, for `embsum doctor`: asked on a production store, so all of this is bounded in time, reads
 * little, and holds nobody up. A store that was opened read_only may be asked, too.
 *
 *     struct store_inspection it;
 *     store_inspect(link, &it, &err);
 *     if (it.in_memory && strcmp(it.policy, "noeviction") != 0) ...
 */
#ifndef EMBSUM_STORE_STORE_INSPECT_H
#define EMBSUM_STORE_STORE_INSPECT_H

#include "store/store.h"

/* What a backend has no such thing of, or does not tell, is 0, false or "". Of a cluster: sums over its masters, and of words the
 * one to worry about. */
struct store_inspection {
    bool in_memory;  /* a server (Redis) that keeps all in memory; else files of this machine (LMDB) */
    char server[64]; /* "Redis 7.0.15", "LMDB 0.9.24" */
    char
        refused[32]; /* the first command that this user may not give; what it would have told is not known */
    uint64_t keys;   /* of all that is in the database, by whomever */
    uint64_t used;   /* bytes */
    uint64_t limit;  /* bytes: maxmemory, the size of the map; 0: there is none */
    uint64_t room;   /* bytes that still fit; UINT64_MAX: as many as the machine has */
    uint64_t machine; /* bytes: all memory of the server's machine; what is free on the file system */
    uint64_t lock;    /* token of the writer who holds the lock; 0: nobody does */
    int64_t lock_ms;  /* for how much longer; -1: without end */
    uint64_t clients, clients_max; /* connections; readers of an LMDB store */

    /* Redis */
    char role[16];            /* "master", "slave" */
    char policy[32];          /* maxmemory-policy */
    char persistence[32];     /* "append-only file", "snapshots", "none" */
    bool save_failed;         /* the last time */
    uint64_t evicted;         /* keys, since it was started */
    size_t masters, replicas; /* replicas: of the master that has the fewest */
    bool replicated;          /* sentinels or a cluster: a write is to be on a replica */
    int64_t clock;            /* its time, seconds since 1970 */

    /* LMDB */
    char filesystem[16]; /* "ext4", "nfs", ... or the kernel's number for it */
};
int store_inspect(struct store_link *link, struct store_inspection *out, struct err *err);

/* Could a value be written now? Nothing is left behind, also if the caller dies: Redis is given a key that expires, of an
 * LMDB store the files' rights and the file system are looked at, since a transaction would wait for another writer's.
 * Fails as store_put() would; store_fault() tells why. */
int store_probe(struct store_link *link, struct err *err);

/* As store_scan(), for about most_ms milliseconds. *whole: all there are have been told (not set where fn ends the call). */
int store_sample(struct store_link *link, const char *generation, enum store_kind kind, int most_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err);

#endif
