/* Ids of users and contents: the one rule for what an id may be, and a map from ids to dense indices. */
#ifndef EMBSUM_CORE_ID_H
#define EMBSUM_CORE_ID_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_MAX 512 /* bytes */

/* Is text[0..len) valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)? */
bool utf8_valid(const char *text, size_t len);

/* An id is 1 to ID_MAX bytes of UTF-8 without white space and control characters: histories and impressions
 * are separated by spaces, and ids are part of store keys and log lines. ERR_INVALID says what is wrong. */
int id_check(const char *id, size_t len, struct err *err);

/* Ids in the order they were added, each with its index 0, 1, ... Owns copies of the ids.
 * Zero-initialised is empty and valid. Any number of threads may call id_map_find at once; none while one
 * adds. */
struct id_map {
    char *bytes; /* all ids, each with a NUL behind it */
    size_t bytes_used, bytes_size;
    size_t *offset; /* of id i in bytes */
    uint32_t *length;
    uint64_t *hash;
    size_t count, capacity;
    uint32_t *slot; /* open addressing over hash: index + 1, or 0 */
    size_t slot_mask;
};

void id_map_done(struct id_map *map);

/* Index of the id, or -1. The empty id is an id like any other here. */
ptrdiff_t id_map_find(const struct id_map *map, const char *id, size_t len);

/* Index of the id, added if it is new (*added says so; added may be NULL), or -ERR_NOMEM. */
ptrdiff_t id_map_add(struct id_map *map, const char *id, size_t len, bool *added);

/* NUL-terminated id of an index below map->count; valid until the next add. */
static inline const char *id_map_get(const struct id_map *map, size_t index)
{
    return map->bytes + map->offset[index];
}

#endif
