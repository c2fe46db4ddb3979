#include "server/buffer.h"

#include <stdlib.h>

enum { ALIGN = 64 };

void *buffer_room(struct buffer *buffer, size_t bytes)
{
    if (bytes <= buffer->size && buffer->at)
        return buffer->at;
    buffer_done(buffer);
    const size_t size = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    buffer->at = size >= bytes ? aligned_alloc(ALIGN, size ? size : ALIGN) : NULL;
    buffer->size = buffer->at ? size : 0;
    return buffer->at;
}

void buffer_done(struct buffer *buffer)
{
    free(buffer->at);
    *buffer = (struct buffer){0};
}
