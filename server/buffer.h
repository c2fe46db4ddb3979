/* Memory that one thread uses again and again, aligned for the scoring kernels. Zero-initialised is empty and valid. */
#ifndef EMBSUM_SERVER_BUFFER_H
#define EMBSUM_SERVER_BUFFER_H

#include <stddef.h>

struct buffer {
    void *at;    /* aligned to 64 bytes */
    size_t size; /* bytes of room */
};

/* Room for so many bytes; what was there is lost where it has to grow. NULL: no memory, and the buffer is empty. */
void *buffer_room(struct buffer *buffer, size_t bytes);
void buffer_done(struct buffer *buffer);

#endif
