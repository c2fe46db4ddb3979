/* The live generation in memory: what the store's pointer names, loaded beside the one before and swapped in by
 * one pointer. Requests in flight finish on the generation that they have begun with. */
#ifndef EMBSUM_SERVER_LIVE_H
#define EMBSUM_SERVER_LIVE_H

#include "server/live_generation.h"

struct live;
struct service;

/* The service's store, log, configuration and threads are used; they outlive it, but see live_stop. */
int live_new(struct live **out, struct service *service, struct err *err);
int live_start(struct live *live, struct err *err); /* the watcher; without it live_poll does its work */
void live_stop(struct live *live);                  /* ends the watcher; NULL is allowed */
void live_free(struct live *live);                  /* nothing may be acquired, no thread be at work */

struct live_generation *live_acquire(struct live *live);
void live_release(struct live_generation *generation); /* NULL is allowed */

/* One look at the store: a new live generation is loaded, changes inside the one in memory are followed (or, where
 * some have been missed, it is loaded anew). 0 if
 * the generation in memory is the live one afterwards, with all its changes. For the watcher, and for tests that want
 * to know when. */
int live_poll(struct live *live, struct err *err);

/* Let the watcher look now, at a generation that was refused, too. Returns at once. */
void live_hurry(struct live *live);

struct live_stats {
    uint64_t loads, refusals, changes;
    time_t checked; /* when what is in memory was last seen to be what is live in the store; 0: never */
    char refused[STORE_GENERATION_MAX]; /* the live one in the store that is damaged; empty: none */
    char reason[512];
};
void live_stats(struct live *live, struct live_stats *out);

#endif
