/* One generation in memory: its shapes, the scorer for them, and its users and contents. */
#ifndef EMBSUM_SERVER_LIVE_GENERATION_H
#define EMBSUM_SERVER_LIVE_GENERATION_H

#include "core/scorer.h"
#include "server/catalogue.h"
#include "server/category_index.h"
#include "server/matrices.h"
#include "store/manifest.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct config;
struct service;
struct worker;

/* Does this processor have the kernel that the configuration asks for, for its dtype? ERR_INVALID says what it has. */
int live_generation_check(const struct config *config, struct err *err);

/* Read-only once it is live, but for what has locks of its own. */
struct live_generation {
    char name[STORE_GENERATION_MAX];
    struct manifest manifest; /* m, n, d: the shapes of everything in the generation */
    enum scorer_dtype dtype;
    struct scorer *scorer;
    void *proj;         /* W_s, packed */
    void *default_user; /* A of the empty history, packed; NULL: unknown users are not ranked */
    struct matrices *users, *contents;
    /* What a refresh inside the generation says of it now; the manifest stays as it was when it was loaded. */
    atomic_size_t user_count, content_count;
    _Atomic time_t refreshed; /* 0: never */
    time_t loaded;
    double load_seconds;
    atomic_size_t holders; /* requests, and the watcher */

    pthread_mutex_t catalogue_lock; /* over the two pointers */
    struct catalogue *catalogue;
    struct category_index *categories;

    /* The watcher's. */
    struct live_generation *next;
    char cursor[STORE_CURSOR_MAX]; /* changes up to here are in memory */
    uint64_t manifest_ms;          /* when the manifest was last read */
};

/* Load what the store holds under this name, verify it, and bring into memory what is asked for in the generation before
 * (NULL: there is none) or, where the configuration says so, all that fits. Uses the watcher's link and the readers; the
 * watcher is the thread that watches the generation. ERR_CORRUPT: the generation is not what it should be. */
int live_generation_load(struct live_generation **out, struct worker *watcher, const char *name,
    const struct live_generation *before, struct err *err);
bool live_generation_idle(
    struct live_generation *generation); /* the watcher alone holds it, nothing is under way */
void live_generation_free(struct live_generation *generation); /* NULL is allowed */

/* Free those of a list that are idle. */
void live_generation_sweep(struct live_generation **retired);

/* All contents, and those of a category (NULL: there is none of the name); to be released. */
struct catalogue *live_generation_catalogue(struct live_generation *generation);
struct catalogue *live_generation_category(struct live_generation *generation, const struct store_id *name);

/* Call fn for each category that a content is in, in the order of their names, under a lock: fn is short. */
void live_generation_categories_of(struct live_generation *generation, const struct store_id *content,
    void (*fn)(void *ctx, const struct store_id *name), void *ctx);

/* Let those who watch see what this manifest says of it. */
void live_generation_describe(struct live_generation *generation, const struct manifest *manifest);

/* At most so many changes are followed at a time. */
#define LIVE_CHANGES_AT_ONCE 4096

/* Follow the changes behind the cursor. *count receives how many there were. ERR_UNAVAILABLE: not all, try again.
 * ERR_NOT_FOUND: some have been trimmed, and the generation is to be loaded anew. */
int live_generation_follow(
    struct live_generation *generation, struct worker *watcher, size_t *count, struct err *err);

/* One more, and one less, of those who hold it; taking hold needs what keeps it from being given up meanwhile. */
static inline void live_generation_hold(struct live_generation *generation)
{
    atomic_fetch_add_explicit(&generation->holders, 1, memory_order_relaxed);
}

static inline void live_generation_release(struct live_generation *generation)
{
    atomic_fetch_sub_explicit(&generation->holders, 1, memory_order_release);
}

#endif
