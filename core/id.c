#include "core/id.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

bool utf8_valid(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text, *const end = p + len;
    while (p < end) {
        uint64_t word; /* most texts are mostly ASCII */
        if (end - p >= (ptrdiff_t)sizeof word &&
            (memcpy(&word, p, sizeof word), !(word & 0x8080808080808080u))) {
            p += sizeof word;
            continue;
        }
        if (*p < 0x80) {
            p++;
            continue;
        }
        size_t more;
        unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte (RFC 3629, section 4) */
        if (*p >= 0xC2 && *p <= 0xDF) {
            more = 1;
        } else if ((*p & 0xF0) == 0xE0) {
            more = 2;
            if (*p == 0xE0)
                low = 0xA0;
            else if (*p == 0xED)
                high = 0x9F;
        } else if (*p >= 0xF0 && *p <= 0xF4) {
            more = 3;
            if (*p == 0xF0)
                low = 0x90;
            else if (*p == 0xF4)
                high = 0x8F;
        } else {
            return false;
        }
        if ((size_t)(end - p) <= more || p[1] < low || p[1] > high)
            return false;
        for (size_t i = 2; i <= more; i++)
            if ((p[i] & 0xC0) != 0x80)
                return false;
        p += more + 1;
    }
    return true;
}

int id_check(const char *id, size_t len, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "an id must not be empty");
    if (len > ID_MAX)
        return err_set(err, ERR_INVALID, "an id has %zu bytes; at most %d are allowed", len, ID_MAX);
    const size_t plain = id_plain_span(id, len);
    if (plain == len)
        return 0;
    for (size_t i = plain; i < len; i++) {
        const unsigned char c = (unsigned char)id[i];
        if (c <= ' ' || c == 0x7F)
            return err_set(err, ERR_INVALID,
                "an id holds the byte 0x%02x at offset %zu; spaces and control "
                "characters are not allowed",
                c, i);
    }
    if (!utf8_valid(id + plain, len - plain))
        return err_set(err, ERR_INVALID, "an id is not valid UTF-8");
    return 0;
}

int category_check(const char *name, size_t len, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "a category must not be empty");
    if (len > CATEGORY_MAX)
        return err_set(
            err, ERR_INVALID, "a category has %zu bytes; at most %d are allowed", len, CATEGORY_MAX);
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c < ' ' || c == 0x7F)
            return err_set(err, ERR_INVALID,
                "a category holds the byte 0x%02x at offset %zu; control characters are not allowed", c, i);
    }
    if (!utf8_valid(name, len))
        return err_set(err, ERR_INVALID, "a category is not valid UTF-8");
    return 0;
}

void id_map_done(struct id_map *map)
{
    if (!map)
        return;
    free(map->bytes);
    free(map->offset);
    free(map->length);
    free(map->hash);
    free(map->slot);
    *map = (struct id_map){0};
}

/* The slot that holds the id, or the empty one where it belongs. */
static size_t find_slot(const struct id_map *map, const char *id, size_t len, uint64_t hash)
{
    size_t at = (size_t)hash & map->slot_mask;
    while (map->slot[at]) {
        const size_t index = map->slot[at] - 1;
        if (map->hash[index] == hash && map->length[index] == len &&
            memcmp(map->bytes + map->offset[index], id, len) == 0)
            break;
        at = (at + 1) & map->slot_mask;
    }
    return at;
}

ptrdiff_t id_map_find(const struct id_map *map, const char *id, size_t len)
{
    if (!map->count)
        return -1;
    return (ptrdiff_t)map->slot[find_slot(map, id, len, XXH3_64bits(id, len))] - 1;
}

enum {
    ABREAST = 32
}; /* look-ups under way at once; enough to hide the waiting, few enough for the first cache */

void id_map_find_all(ptrdiff_t *index, const struct id_map *map, const struct id_text *ids, size_t count)
{
    uint64_t hash[ABREAST];
    if (!map->count) {
        for (size_t i = 0; i < count; i++)
            index[i] = -1;
        return;
    }
    for (size_t done = 0; done < count; done += ABREAST) {
        const size_t some = count - done < ABREAST ? count - done : ABREAST;
        for (size_t i = 0; i < some; i++) {
            hash[i] = XXH3_64bits(ids[done + i].bytes, ids[done + i].len);
            __builtin_prefetch(&map->slot[hash[i] & map->slot_mask]);
        }
        for (size_t i = 0; i < some; i++) { /* the slot's own entry is nearly always the one */
            const size_t entry = map->slot[hash[i] & map->slot_mask];
            if (!entry)
                continue;
            __builtin_prefetch(&map->hash[entry - 1]);
            __builtin_prefetch(&map->length[entry - 1]);
            __builtin_prefetch(&map->offset[entry - 1]);
        }
        for (size_t i = 0; i < some; i++) {
            const size_t entry = map->slot[hash[i] & map->slot_mask];
            if (entry && map->hash[entry - 1] == hash[i])
                __builtin_prefetch(map->bytes + map->offset[entry - 1]);
        }
        for (size_t i = 0; i < some; i++) {
            const struct id_text *id = &ids[done + i];
            index[done + i] = (ptrdiff_t)map->slot[find_slot(map, id->bytes, id->len, hash[i])] - 1;
        }
    }
}

/* Make room for one more id: entries double, and the slots stay at most half full. */
static int grow(struct id_map *map)
{
    if (map->count < map->capacity)
        return 0;
    const size_t capacity = map->capacity ? 2 * map->capacity : 64, slots = 2 * capacity;
    if (capacity >= UINT32_MAX)
        return -ERR_NOMEM;
    size_t *offset = realloc(map->offset, capacity * sizeof *offset);
    if (offset)
        map->offset = offset;
    uint32_t *length = realloc(map->length, capacity * sizeof *length);
    if (length)
        map->length = length;
    uint64_t *hash = realloc(map->hash, capacity * sizeof *hash);
    if (hash)
        map->hash = hash;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!offset || !length || !hash || !slot) {
        free(slot);
        return -ERR_NOMEM;
    }
    for (size_t i = 0; i < map->count; i++) {
        size_t at = (size_t)map->hash[i] & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)i + 1;
    }
    free(map->slot);
    map->slot = slot;
    map->slot_mask = slots - 1;
    map->capacity = capacity;
    return 0;
}

ptrdiff_t id_map_add(struct id_map *map, const char *id, size_t len, bool *added)
{
    const uint64_t hash = XXH3_64bits(id, len);
    if (len > UINT32_MAX || grow(map) < 0)
        return -ERR_NOMEM;
    const size_t at = find_slot(map, id, len, hash);
    if (added)
        *added = !map->slot[at];
    if (map->slot[at])
        return (ptrdiff_t)map->slot[at] - 1;
    if (map->bytes_size - map->bytes_used < len + 1) {
        const size_t size = 2 * map->bytes_size + len + 1024;
        char *bytes = realloc(map->bytes, size);
        if (!bytes)
            return -ERR_NOMEM;
        map->bytes = bytes;
        map->bytes_size = size;
    }
    const size_t index = map->count++;
    map->offset[index] = map->bytes_used;
    map->length[index] = (uint32_t)len;
    map->hash[index] = hash;
    if (len)
        memcpy(map->bytes + map->bytes_used, id, len);
    map->bytes[map->bytes_used + len] = '\0';
    map->bytes_used += len + 1;
    map->slot[at] = (uint32_t)index + 1;
    return (ptrdiff_t)index;
}
