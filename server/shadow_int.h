/* What the files of the shadow share. */
#ifndef EMBSUM_SERVER_SHADOW_INT_H
#define EMBSUM_SERVER_SHADOW_INT_H

#include "server/shadow.h"
#include "server/top.h"
#include "server/worker.h"

#include <semaphore.h>

enum {
    SHADOW_QUEUE = 16,      /* samples that wait, or are ranked */
    SHADOW_WINDOW = 128,    /* candidates that are scored at a time, in one generation */
    SHADOW_BEST = 10,       /* the overlap is that of so many */
    SHADOW_COMPARED = 4096, /* candidates of a ranking, at most, whose scores are compared */
};

/* Why a request that was chosen was not compared. */
enum shadow_skip {
    SHADOW_BUSY,        /* requests waited */
    SHADOW_QUEUE_FULL,  /* it came too soon after others */
    SHADOW_FEW,         /* there are no more candidates than the best that are compared */
    SHADOW_NO_USER,     /* one of the generations cannot rank any of its users */
    SHADOW_UNAVAILABLE, /* what it takes could not be read */
    SHADOW_NO_MEMORY,
    SHADOW_SKIPS
};

/* ---- shadow_sample.c ---- */

enum { SHADOW_LIVE, SHADOW_OTHER, SHADOW_SIDES };

struct shadow_sample {
    struct shadow *shadow;
    atomic_int state;   /* SHADOW_FREE, SHADOW_TAKEN by one thread, SHADOW_READY to be ranked */
    uint_fast64_t turn; /* in their order */
    struct live_generation *generations[SHADOW_SIDES]; /* held */
    struct arena arena;
    struct store_id *users;
    uint64_t *user_hashes;
    size_t user_count;
    /* What is ranked: in the arena, or the live generation's catalogue. */
    const struct store_id *ids;
    const uint64_t *hashes;
    size_t count;
    struct catalogue *catalogue; /* held; NULL: candidates were named */
    struct store_id category;    /* of it; len 0: all */
    struct store_id *exclude;
    size_t exclude_count;
};
enum { SHADOW_FREE, SHADOW_TAKEN, SHADOW_READY };

/* The next one in turn; NULL: none is ready. And back, when it is done with. */
struct shadow_sample *shadow_next_sample(struct shadow *shadow);
void shadow_give_sample(struct shadow_sample *sample);

/* ---- shadow_rank.c ---- */

/* How two rankings of the same candidates agree. */
struct shadow_agreement {
    size_t shared; /* of the SHADOW_BEST best */
    double tau;    /* Kendall's tau-b; NaN: one ties all */
    double
        difference; /* of the scores, in standard deviations of the live ones; NaN: they are all the same */
};

/* The thread; it ends when shadow->stopping is set and shadow->ready posted. */
void *shadow_rank_all(void *shadow);

/* ---- shadow_figures.c ---- */

enum { SHADOW_TAU_BUCKETS = 11, SHADOW_DIFFERENCE_BUCKETS = 8 };

/* Of one pair of generations. One thread adds; others may read at any time. */
struct shadow_figures {
    struct shadow_figures
        *before; /* of another pair, for shadow_free: whoever reads them is not waited for */
    char live[STORE_GENERATION_MAX], name[STORE_GENERATION_MAX];
    atomic_int_fast64_t sums[STORE_SHADOW_SUMS];
    atomic_int_fast64_t overlap[SHADOW_BEST + 2], tau[SHADOW_TAU_BUCKETS + 1],
        difference[SHADOW_DIFFERENCE_BUCKETS + 1];
    atomic_int_fast64_t saved[STORE_SHADOW_SUMS]; /* of the sums; the watcher writes it */
};

void shadow_skip(struct shadow *shadow, enum shadow_skip why);

/* Add one sample's sums of candidates, and how each of its rankings agreed. False: no memory. */
bool shadow_count(struct shadow *shadow, const struct shadow_sample *sample, const struct store_shadow *sums,
    const struct shadow_agreement *agreements, size_t count);
void shadow_figures_free(struct shadow_figures *figures);

/* ---- shadow.c ---- */

struct shadow {
    struct service *service;
    /* A store and a link of its own for writing: an embedded store's writers wait for each other, at times for long. */
    struct store *store;
    struct store_link *link;
    pthread_t watcher, ranker;
    bool watches, ranks;

    pthread_mutex_t lock;   /* over what follows; the ranker never takes it, see shadow_rank.c */
    pthread_cond_t changed; /* any of it */
    bool ended;             /* the watcher has */
    uint64_t saving_ms;     /* since when it has been writing; 0: it is not */
    bool abandoned;         /* it never came back from that; what it uses stays */
    struct live_generation *current;
    char working[STORE_GENERATION_MAX]; /* on this generation, which is loaded or followed */

    atomic_bool stopping;
    atomic_bool present; /* there is a current one */
    atomic_uint_fast64_t seed, turns;
    sem_t ready; /* samples */
    struct shadow_sample samples[SHADOW_QUEUE];

    /* The watcher's alone, but for the counters. */
    struct live_generation *retired;
    char refused[STORE_GENERATION_MAX];
    uint64_t refused_ms;
    bool told; /* that the store takes no figures */
    atomic_uint_fast64_t loads, refusals;

    _Atomic(struct shadow_figures *) figures; /* NULL: nothing was compared yet */
    atomic_uint_fast64_t skipped[SHADOW_SKIPS];
};

#endif
