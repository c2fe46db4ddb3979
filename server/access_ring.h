/* Records from one thread to another through a ring of bytes. The one that writes never waits: a record for which there
 * is no room is left out, and it is told so. No lock, no malloc. */
#ifndef EMBSUM_SERVER_ACCESS_RING_H
#define EMBSUM_SERVER_ACCESS_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct access_ring {
    _Alignas(64) atomic_size_t written; /* bytes ever; the writing thread's */
    _Alignas(64) atomic_size_t taken;   /* the other's */
    size_t size;
    char *bytes;
};

struct access_piece {
    const void *data;
    size_t len;
};

bool access_ring_init(struct access_ring *ring, size_t size); /* a power of two; false: no memory */
void access_ring_done(struct access_ring *ring);

/* The pieces, one behind the other, as one record; all or nothing. */
bool access_ring_put(struct access_ring *ring, const struct access_piece *pieces, size_t count);

/* The bytes of the next record, copied into `out`; 0: there is none. A record longer than size is dropped: the writer
 * puts none. */
size_t access_ring_take(struct access_ring *ring, void *out, size_t size);

bool access_ring_is_half_full(struct access_ring *ring); /* for the writing thread */

#endif
