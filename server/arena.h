/* Memory that lives as long as one request: allocated by moving a pointer, given back all at once.
 *
 *     char *copy = arena_copy(&arena, text, len);
 *     ...
 *     arena_reset(&arena);
 *
 * Belongs to one thread. Zero-initialised is empty and valid. */
#ifndef EMBSUM_SERVER_ARENA_H
#define EMBSUM_SERVER_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* the newest first */
    size_t used;                /* of the newest */
};

/* size bytes, zeroed, aligned for any type; NULL when memory is short. */
void *arena_alloc(struct arena *arena, size_t size);

/* count x size, NULL also if the product overflows. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* A copy with a NUL behind it. */
char *arena_copy(struct arena *arena, const char *data, size_t len);

/* Forget all allocations. What an ordinary request needs is kept, so that the next one never calls malloc. */
void arena_reset(struct arena *arena);
void arena_done(struct arena *arena);

#endif
