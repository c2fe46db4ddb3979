#include "server/access_ring.h"

#include <stdlib.h>
#include <string.h>

bool access_ring_init(struct access_ring *ring, size_t size)
{
    atomic_init(&ring->written, 0);
    atomic_init(&ring->taken, 0);
    ring->size = size;
    ring->bytes = malloc(size);
    return ring->bytes != NULL;
}

void access_ring_done(struct access_ring *ring)
{
    free(ring->bytes);
    ring->bytes = NULL;
}

/* at counts bytes for ever; where it lies in the ring is its remainder. */
static void copy_in(struct access_ring *ring, size_t at, const void *data, size_t len)
{
    const size_t from = at & (ring->size - 1), first = ring->size - from < len ? ring->size - from : len;
    if (first)
        memcpy(ring->bytes + from, data, first);
    if (len > first)
        memcpy(ring->bytes, (const char *)data + first, len - first);
}

static void copy_out(const struct access_ring *ring, size_t at, void *data, size_t len)
{
    const size_t from = at & (ring->size - 1), first = ring->size - from < len ? ring->size - from : len;
    memcpy(data, ring->bytes + from, first);
    memcpy((char *)data + first, ring->bytes, len - first);
}

bool access_ring_put(struct access_ring *ring, const struct access_piece *pieces, size_t count)
{
    size_t at = atomic_load_explicit(&ring->written, memory_order_relaxed), len = 0;
    for (size_t i = 0; i < count; i++)
        len += pieces[i].len;
    if (at + sizeof len + len - atomic_load_explicit(&ring->taken, memory_order_acquire) > ring->size)
        return false;
    copy_in(ring, at, &len, sizeof len);
    at += sizeof len;
    for (size_t i = 0; i < count; i++) {
        copy_in(ring, at, pieces[i].data, pieces[i].len);
        at += pieces[i].len;
    }
    atomic_store_explicit(&ring->written, at, memory_order_release);
    return true;
}

size_t access_ring_take(struct access_ring *ring, void *out, size_t size)
{
    const size_t at = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    size_t len;
    if (at == atomic_load_explicit(&ring->written, memory_order_acquire))
        return 0;
    copy_out(ring, at, &len, sizeof len);
    if (len <= size)
        copy_out(ring, at + sizeof len, out, len);
    atomic_store_explicit(&ring->taken, at + sizeof len + len, memory_order_release);
    return len <= size ? len : 0;
}

bool access_ring_is_half_full(struct access_ring *ring)
{
    return atomic_load_explicit(&ring->written, memory_order_relaxed) -
               atomic_load_explicit(&ring->taken, memory_order_relaxed) >
           ring->size / 2;
}
