/* A server on 127.0.0.1 that answers whatever it is sent with the bytes it was told to, whole or in drops. */
#ifndef EMBSUM_TESTS_LIB_REDIS_FAKE_H
#define EMBSUM_TESTS_LIB_REDIS_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct fake_redis {
    int port, listener;
    pthread_t thread;
    atomic_bool stop;
    atomic_int connections; /* accepted so far */
    const char *reply;      /* to each message; NULL: none, ever */
    /* In place of a reply: called with each message; what it writes is the answer. */
    void (*script)(struct fake_redis *fake, const char *message, char *answer, size_t size);
    void *ctx;   /* the script's */
    int drop_ms; /* a pause after each byte, if not 0 */
    bool close_after_reply;
};

/* The fields of the answer are set before; the rest is set here. Ends the test if it cannot. */
void fake_redis_start(struct fake_redis *fake);
void fake_redis_stop(struct fake_redis *fake);

#endif
