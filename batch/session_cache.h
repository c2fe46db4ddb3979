/* Encoder states of sessions, kept in a folder between runs: a user who has clicked once more costs one session instead of
 * fifteen.
 *
 * The folder is an LMDB environment of one machine, bounded in bytes: what was asked for least recently goes. Entries carry a
 * checksum of what they were made from and of what they hold; one that is damaged is a session that has to be encoded.
 * Nothing but time depends on it: a cache that cannot be read or written is told once, and the run goes on without.
 */
#ifndef EMBSUM_BATCH_SESSION_CACHE_H
#define EMBSUM_BATCH_SESSION_CACHE_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session_cache;

struct session_cache_options {
    const char *dir;    /* made if it is not there */
    size_t limit_bytes; /* at least 1 MiB */
    uint64_t settings;  /* hash of all that decides what a text's states are */
    size_t token_bytes; /* of one token's state */
    int32_t item_id;    /* the token that begins an item, [SOS] */
    size_t
        session_items; /* of a full session; one that is not full yet will not be asked for again, and is not kept */
};

/* ERR_BUSY: another process has it. ERR_CORRUPT: what is in the folder is no such cache, or damaged. */
int session_cache_open(
    struct session_cache **out, const struct session_cache_options *options, struct err *err);
/* Writes what is still in memory. NULL is allowed. */
void session_cache_close(struct session_cache *cache);

/* states (count x token_bytes) of a session's tokens, if they are there. Any number of threads at once; the types are those
 * of core/encode.h's struct encode_cache. */
bool session_cache_get(void *cache, const int32_t *ids, size_t count, void *states);
void session_cache_put(void *cache, const int32_t *ids, size_t count, const void *states);

struct session_cache_figures {
    size_t entries, bytes; /* that are stored */
    size_t hits, misses, damaged;
};
struct session_cache_figures session_cache_figures(struct session_cache *cache);

#endif
