/* A second generation, which is not live yet, beside the live one: a share of what has been answered is ranked on both, and
 * how far the two agree is counted, so that a switch is decided on figures.
 *
 *     shadow.c          which generation it is: loaded, followed, given up, handed over when it becomes live (the watcher)
 *     shadow_sample.c   which requests: copied while they are answered, put into a short queue
 *     shadow_rank.c     both rankings (the ranker, which has the processor while nobody else wants it)
 *     shadow_figures.c  what came out: /metrics, and the sums in the store
 *
 * Nothing of it is waited for by who answers; what there is no room or no time for is left out and counted. NULL is a shadow
 * that is off, everywhere. */
#ifndef EMBSUM_SERVER_SHADOW_H
#define EMBSUM_SERVER_SHADOW_H

#include "core/err.h"

struct live_generation;
struct rank_job;
struct service;
struct shadow;
struct shadow_sample;
struct writer;

/* *out stays NULL where the configuration's share is 0. */
int shadow_new(struct shadow **out, struct service *service, struct err *err);
/* The watcher; without it shadow_poll and shadow_save do its work. */
int shadow_start(struct shadow *shadow, struct err *err);
/* While the pools still run; no sample is taken any more, and what waits is left out. */
void shadow_stop(struct shadow *shadow);
void shadow_free(struct shadow *shadow);

/* One look at the store. 0 if the generation in memory is the one that it should be, with all its changes, or there is to be
 * none. */
int shadow_poll(struct shadow *shadow, struct err *err);

/* Add what was counted since the last time to the sums in the store. */
int shadow_save(struct shadow *shadow, struct err *err);

/* The generation of this name, which has become live, where it is the one in memory; the caller's then. NULL: it is not. Waits
 * while it is being loaded. For the thread that watches the live one. */
struct live_generation *shadow_hand_over(struct shadow *shadow, const char *name);

/* Before a job that has been answered is given back: a copy of what it asked, where it is to be ranked on both; NULL mostly. */
struct shadow_sample *shadow_sample(struct shadow *shadow, const struct rank_job *job);
/* When its answer is on its way. The sample is gone then; NULL is allowed. */
void shadow_rank(struct shadow_sample *sample);

/* Its part of /metrics. */
void shadow_write(struct shadow *shadow, struct writer *w);

#endif
