/* Ids of users and contents and names of categories: the one rule for what each may be, and a map from ids to dense
 * indices. */
#ifndef EMBSUM_CORE_ID_H
#define EMBSUM_CORE_ID_H

#include "core/err.h"

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ID_MAX 512 /* bytes */
#define CATEGORY_MAX ID_MAX

/* Is text[0..len) valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)? */
bool utf8_valid(const char *text, size_t len);

/* An id is 1 to ID_MAX bytes of UTF-8 without white space and control characters: histories and impressions
 * are separated by spaces, and ids are part of store keys and log lines. ERR_INVALID says what is wrong. */
int id_check(const char *id, size_t len, struct err *err);

/* A category is 1 to CATEGORY_MAX bytes of UTF-8 without control characters; "world news" is one. */
int category_check(const char *name, size_t len, struct err *err);

/* Plain bytes are visible ASCII but for the quote and the backslash: what ordinary ids are made of. 1 to ID_MAX
 * of them are an id, and stand in JSON as they are; whatever else wants a closer look.
 *
 * Marks the bytes of a word (the first is the lowest) that are not plain with their high bit. The lowest mark is
 * right; a borrow or a carry can only add marks above one. A byte below 0x80 gets one from the subtraction if it
 * is at most ' ', from the addition if it is DEL, and from the last two if the exclusive or left 0 of it. */
static inline uint64_t id_not_plain(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u;
    return (word | (word - '!' * ones) | (word + ones) | ((word ^ '"' * ones) - ones) |
               ((word ^ '\\' * ones) - ones)) &
           0x80 * ones;
}

/* 1 to 7 bytes in a word, zeros (which are not plain) above them, and no byte read beyond them. */
static inline uint64_t id_short_word(const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (len < 4)
        return bytes[0] | (uint64_t)bytes[len / 2] << len / 2 * 8 | (uint64_t)bytes[len - 1] << (len - 1) * 8;
    uint32_t first, last;
    memcpy(&first, text, sizeof first);
    memcpy(&last, text + len - sizeof last, sizeof last);
    return le32toh(first) | (uint64_t)le32toh(last) << (len - sizeof last) * 8;
}

/* How many bytes at the beginning of text[0..len) are plain. */
static inline size_t id_plain_span(const char *text, size_t len)
{
    size_t at = 0;
    for (uint64_t word, marks; len - at >= sizeof word; at += sizeof word) {
        memcpy(&word, text + at, sizeof word);
        marks = id_not_plain(le64toh(word));
        if (marks)
            return at + (size_t)__builtin_ctzll(marks) / 8;
    }
    if (at == len)
        return len;
    return at + (size_t)__builtin_ctzll(id_not_plain(id_short_word(text + at, len - at))) / 8;
}

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

struct id_text {
    const char *bytes;
    size_t len;
};

/* index[i] = what id_map_find says of ids[i]. The look-ups of a large map wait for memory; these wait side by side. */
void id_map_find_all(ptrdiff_t *index, const struct id_map *map, const struct id_text *ids, size_t count);

/* Index of the id, added if it is new (*added says so; added may be NULL), or -ERR_NOMEM. */
ptrdiff_t id_map_add(struct id_map *map, const char *id, size_t len, bool *added);

/* NUL-terminated id of an index below map->count; valid until the next add. */
static inline const char *id_map_get(const struct id_map *map, size_t index)
{
    return map->bytes + map->offset[index];
}

#endif
