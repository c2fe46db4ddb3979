#include "server/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Most requests are small, and many of them may wait at once; one that needs more than FIRST gets CHUNK, which has room for a
 * thousand candidates. */
enum { FIRST = 16 * 1024, CHUNK = 128 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* of data */
    alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + align - 1) / align * align;
    struct arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - arena->used < size) {
        const size_t least = chunk ? CHUNK : FIRST, room = size > least ? size : least;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk)
            return NULL;
        chunk->size = room;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->used = 0;
    }
    void *memory = chunk->data + arena->used;
    arena->used += size;
    return memset(memory, 0, size);
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : arena_alloc(arena, total);
}

char *arena_copy(struct arena *arena, const char *data, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    if (copy && len)
        memcpy(copy, data, len);
    return copy;
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *chunk = arena->chunks;
    while (chunk && chunk->next) { /* the first is outgrown */
        struct arena_chunk *next = chunk->next;
        chunk->next = next->next;
        free(next);
    }
    if (chunk && chunk->size > CHUNK) { /* one huge request must not hold its memory for ever */
        free(chunk);
        chunk = NULL;
    }
    arena->chunks = chunk;
    arena->used = 0;
}

void arena_done(struct arena *arena)
{
    while (arena->chunks) {
        struct arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
    *arena = (struct arena){0};
}
