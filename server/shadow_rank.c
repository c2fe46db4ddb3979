/* A thread that has the processor only while nobody else wants it (SCHED_IDLE), so that whoever is answered waits neither for
 * its turn nor for what it would leave of a worker's share of the time. Rejected: the workers' pool, behind all requests and a
 * tenth of a millisecond at a time. The kernel takes a worker that has just done so for one that has had its share, and lets
 * others go first when a request comes (tests/RESULTS.md has both). The price: it must hold no lock that others want, for it
 * may lose the processor at any moment and get it back much later. Samples and figures do without; malloc's and the readers'
 * are met only by what is larger than before, or not in memory.
 *
 * Both sides are treated alike, the live one is ranked again: its answer may hold only the best of candidates some of which
 * the other generation does not have. What is not in memory is asked of the store, as for a request, but never pushes out
 * anything of the live generation; of a catalogue nothing is asked for. */
#include "core/kendall.h"
#include "server/clock.h"
#include "server/shadow_int.h"

#include <math.h>
#include <string.h>

enum { WAIT_NS = 1000 * 1000 * 1000, WALK = 4096 /* ids of a catalogue that are looked through at a time */ };

struct side {
    struct live_generation *generation;
    const void **matrices;         /* of the users; then of those that both can rank */
    uint8_t status[SHADOW_WINDOW]; /* of the window's candidates */
    float *window;                 /* their scores, SHADOW_WINDOW a user */
    float *scores;                 /* of those that are compared, `room` a user */
    struct top *tops;              /* the best of each user */
};

/* What is done with one sample. */
struct run {
    struct gather gather; /* the first member */
    sem_t *arrived;
    struct shadow *shadow;
    struct worker *self;
    struct shadow_sample *sample;
    struct side sides[SHADOW_SIDES];
    size_t users;     /* that both can rank */
    bool unavailable; /* some user of some side */
    /* The window in hand. */
    struct store_id ids[SHADOW_WINDOW];
    uint64_t hashes[SHADOW_WINDOW];
    uint32_t index[SHADOW_WINDOW]; /* into the sample's ids */
    size_t count;
    float *scratch; /* scores of those that were found */
    /* The walk through the candidates. */
    size_t next, next_other;     /* in the sample's ids; in the other generation's catalogue */
    struct catalogue *catalogue; /* that one, held */
    unsigned char *excluded;     /* a mark for each of the sample's ids; NULL: none is */
    size_t found;                /* of the live catalogue in the other one */
    size_t room, stride;         /* for scores; every so many-th candidate is compared */
    size_t kept;
    struct store_shadow sums;
};

enum { DONE = -1 }; /* in place of an enum shadow_skip */

/* ---- looking for matrices ---- */

typedef void use_fn(struct run *run, struct side *side, const uint32_t *index, size_t count);

static void tell_arrived(struct gather *gather)
{
    sem_post(((struct run *)(void *)gather)->arrived);
}

static bool gather_init(struct run *run)
{
    struct arena *arena = &run->sample->arena;
    const size_t users = run->sample->user_count, most = users > SHADOW_WINDOW ? users : SHADOW_WINDOW;
    run->gather = (struct gather){
        .blocks = arena_array(arena, most, sizeof(void *)),
        .status = arena_array(arena, most, 1),
        .missed = arena_array(arena, most, sizeof(uint32_t)),
        .done = tell_arrived,
    };
    return run->gather.blocks && run->gather.status && run->gather.missed;
}

/* Have all of run->gather's ids used that can be found in `from`; index has room for as many. */
static void look(
    struct run *run, struct side *side, struct matrices *from, bool fetch, use_fn *use, uint32_t *index)
{
    struct gather *gather = &run->gather;
    struct hot *hot = matrices_hot(from);
    const size_t number = worker_slot(run->self);
    size_t count = 0;
    gather->from = from;
    gather->mode = side == &run->sides[SHADOW_LIVE] ? HOT_FILL : HOT_KEEP;
    gather->deadline_ns = clock_ns() + WAIT_NS;
    hot_enter(hot, number);
    gather_look(gather, number);
    for (size_t i = 0; i < gather->count; i++)
        if (gather->blocks[i])
            index[count++] = (uint32_t)i;
    use(run, side, index, count);
    hot_leave(hot, number);
    if (!fetch || !gather->missed_count)
        return;
    gather_fetch(gather);
    if (!gather_arrived(gather))
        while (sem_wait(run->arrived) < 0)
            ;
    count = 0;
    for (size_t i = 0; i < gather->missed_count; i++)
        if (gather->blocks[gather->missed[i]])
            index[count++] = gather->missed[i];
    use(run, side, index, count);
    gather_free(gather);
}

/* ---- users ---- */

static void copy_users(struct run *run, struct side *side, const uint32_t *index, size_t count)
{
    const size_t bytes = matrices_bytes(run->gather.from);
    struct buffer *blocks = side == &run->sides[SHADOW_LIVE] ? &run->self->matrices : &run->self->blocks;
    for (size_t i = 0; i < count; i++)
        side->matrices[index[i]] =
            memcpy((char *)blocks->at + index[i] * bytes, run->gather.blocks[index[i]], bytes);
}

/* As the daemon would rank them, see rank.c. */
static void stand_in(struct run *run, struct side *side)
{
    for (size_t u = 0; u < run->sample->user_count; u++) {
        const uint8_t status = run->gather.status[u];
        run->unavailable |= status == MATRIX_UNAVAILABLE;
        if (status != MATRIX_HERE && status != MATRIX_UNAVAILABLE &&
            run->shadow->service->config->rank.default_user)
            side->matrices[u] = side->generation->default_user;
    }
}

static int find_users(struct run *run)
{
    struct shadow_sample *sample = run->sample;
    const size_t count = sample->user_count;
    uint32_t *index = arena_array(&sample->arena, count, sizeof *index);
    run->gather.ids = sample->users;
    run->gather.hashes = sample->user_hashes;
    run->gather.count = count;
    for (size_t s = 0; s < SHADOW_SIDES; s++) {
        struct side *side = &run->sides[s];
        struct matrices *from = side->generation->users;
        side->matrices = arena_array(&sample->arena, count, sizeof(void *));
        if (!index || !side->matrices ||
            !buffer_room(s ? &run->self->blocks : &run->self->matrices, count * matrices_bytes(from)))
            return SHADOW_NO_MEMORY;
        look(run, side, from, true, copy_users, index);
        stand_in(run, side);
    }
    for (size_t u = 0; u < count; u++) {
        if (!run->sides[0].matrices[u] || !run->sides[1].matrices[u])
            continue;
        for (size_t s = 0; s < SHADOW_SIDES; s++)
            run->sides[s].matrices[run->users] = run->sides[s].matrices[u];
        run->users++;
    }
    return run->users ? DONE : run->unavailable ? SHADOW_UNAVAILABLE : SHADOW_NO_USER;
}

/* ---- candidates ---- */

/* Room for what is known of each user that both can rank. */
static bool make_room(struct run *run)
{
    struct arena *arena = &run->sample->arena;
    const size_t users = run->users, count = run->sample->count;
    run->stride = (count + SHADOW_COMPARED - 1) / SHADOW_COMPARED;
    run->room = count < SHADOW_COMPARED ? count : SHADOW_COMPARED;
    run->scratch = arena_array(arena, users * SHADOW_WINDOW, sizeof *run->scratch);
    bool good = run->scratch != NULL;
    for (size_t s = 0; good && s < SHADOW_SIDES; s++) {
        struct side *side = &run->sides[s];
        side->window = arena_array(arena, users * SHADOW_WINDOW, sizeof *side->window);
        side->scores = arena_array(arena, users * run->room, sizeof *side->scores);
        side->tops = arena_array(arena, users, sizeof *side->tops);
        good = side->window && side->scores && side->tops;
        for (size_t u = 0; good && u < users; u++) {
            side->tops[u].k = SHADOW_BEST;
            side->tops[u].hits = arena_array(arena, SHADOW_BEST, sizeof *side->tops[u].hits);
            good = side->tops[u].hits;
        }
    }
    return good;
}

/* The whole catalogue, or the category, in the other generation as well; and what is to be left out. */
static bool open_catalogue(struct run *run)
{
    struct shadow_sample *sample = run->sample;
    struct live_generation *other = run->sides[SHADOW_OTHER].generation;
    if (!sample->catalogue)
        return true;
    run->catalogue = sample->category.len ? live_generation_category(other, &sample->category)
                                          : live_generation_catalogue(other);
    run->excluded =
        sample->exclude_count ? arena_array(&sample->arena, sample->count, sizeof *run->excluded) : NULL;
    if (sample->exclude_count && !run->excluded)
        return false;
    for (size_t i = 0; i < sample->exclude_count; i++) {
        const ptrdiff_t at = catalogue_find(sample->catalogue, &sample->exclude[i]);
        if (at >= 0)
            run->excluded[at] = 1;
    }
    return true;
}

static void add_candidate(struct run *run, size_t at)
{
    run->ids[run->count] = run->sample->ids[at];
    run->hashes[run->count] = run->sample->hashes[at];
    run->index[run->count++] = (uint32_t)at;
}

/* Is the id in the other generation's catalogue? Both are in one order, and asked in that order. */
static bool other_has(struct run *run, const struct store_id *id)
{
    const struct catalogue *other = run->catalogue;
    int order = 1;
    while (other && run->next_other < other->count &&
           (order = catalogue_compare(&other->ids[run->next_other], id)) < 0)
        run->next_other++;
    return other && run->next_other < other->count && order == 0;
}

/* The next candidates that both have, as far as that is known. False: there are no more. */
static bool next_window(struct run *run)
{
    const struct shadow_sample *sample = run->sample;
    run->count = 0;
    if (run->next == sample->count)
        return false;
    for (size_t walked = 0; walked < WALK && run->next < sample->count && run->count < SHADOW_WINDOW;
         walked++, run->next++) {
        if (!sample->catalogue) {
            add_candidate(run, run->next);
            continue;
        }
        const bool both = other_has(run, &sample->ids[run->next]);
        run->found += both;
        if (run->excluded && run->excluded[run->next])
            continue;
        if (both)
            add_candidate(run, run->next);
        else
            run->sums.sums[STORE_SHADOW_LIVE_ALONE]++;
    }
    return true;
}

static void score(struct run *run, struct side *side, const uint32_t *index, size_t count)
{
    const void *blocks[SHADOW_WINDOW];
    for (size_t i = 0; i < count; i++)
        blocks[i] = run->gather.blocks[index[i]];
    if (count)
        scorer_run(side->generation->scorer, run->scratch, side->matrices, run->users, blocks, count);
    for (size_t u = 0; u < run->users; u++)
        for (size_t i = 0; i < count; i++)
            side->window[u * SHADOW_WINDOW + index[i]] = run->scratch[u * count + i];
}

static void keep_candidate(struct run *run, size_t i)
{
    const bool compared = run->sums.sums[STORE_SHADOW_BOTH]++ % (int64_t)run->stride == 0;
    for (size_t s = 0; s < SHADOW_SIDES; s++) {
        struct side *side = &run->sides[s];
        for (size_t u = 0; u < run->users; u++) {
            const float value = side->window[u * SHADOW_WINDOW + i];
            top_add(&side->tops[u], value, run->index[i]);
            if (compared)
                side->scores[u * run->room + run->kept] = value;
        }
    }
    run->kept += compared;
}

/* The window has been scored on both sides. */
static int close_window(struct run *run)
{
    const uint8_t *live = run->sides[SHADOW_LIVE].status, *other = run->sides[SHADOW_OTHER].status;
    for (size_t i = 0; i < run->count; i++) {
        const bool unavailable = live[i] == MATRIX_UNAVAILABLE || other[i] == MATRIX_UNAVAILABLE;
        if (unavailable && !run->sample->catalogue)
            return SHADOW_UNAVAILABLE;
        if (unavailable) /* of a catalogue: not in memory */
            continue;
        if (live[i] == MATRIX_HERE && other[i] == MATRIX_HERE)
            keep_candidate(run, i);
        else if (live[i] == MATRIX_HERE)
            run->sums.sums[STORE_SHADOW_LIVE_ALONE]++;
        else if (other[i] == MATRIX_HERE)
            run->sums.sums[STORE_SHADOW_ALONE]++;
    }
    return DONE;
}

static int score_candidates(struct run *run)
{
    uint32_t index[SHADOW_WINDOW];
    int code = make_room(run) && open_catalogue(run) ? DONE : SHADOW_NO_MEMORY;
    while (code == DONE && !atomic_load_explicit(&run->shadow->stopping, memory_order_relaxed) &&
           next_window(run)) {
        run->gather.ids = run->ids;
        run->gather.hashes = run->hashes;
        run->gather.count = run->count;
        for (size_t s = 0; s < SHADOW_SIDES; s++) {
            struct side *side = &run->sides[s];
            look(run, side, side->generation->contents, !run->sample->catalogue, score, index);
            memcpy(side->status, run->gather.status, run->count);
        }
        code = close_window(run);
    }
    if (run->catalogue)
        run->sums.sums[STORE_SHADOW_ALONE] = (int64_t)(run->catalogue->count - run->found);
    return code == DONE && run->sums.sums[STORE_SHADOW_BOTH] <= SHADOW_BEST ? SHADOW_FEW : code;
}

/* ---- the comparison ---- */

static size_t count_shared(const struct top *live, const struct top *other)
{
    size_t shared = 0;
    for (size_t i = 0; i < live->count; i++)
        for (size_t k = 0; k < other->count; k++)
            shared += live->hits[i].index == other->hits[k].index;
    return shared;
}

/* sqrt(sum (other - live)^2 / sum (live - mean live)^2) */
static double difference(const float *live, const float *other, size_t count)
{
    double mean = 0, spread = 0, off = 0;
    for (size_t i = 0; i < count; i++)
        mean += (double)live[i] / (double)count;
    for (size_t i = 0; i < count; i++) {
        spread += ((double)live[i] - mean) * ((double)live[i] - mean);
        off += ((double)other[i] - (double)live[i]) * ((double)other[i] - (double)live[i]);
    }
    return spread > 0 ? sqrt(off / spread) : (double)NAN;
}

static int compare(struct run *run)
{
    const struct side *live = &run->sides[SHADOW_LIVE], *other = &run->sides[SHADOW_OTHER];
    struct arena *arena = &run->sample->arena;
    struct shadow_agreement *agreements = arena_array(arena, run->users, sizeof *agreements);
    uint32_t *ranks = arena_array(arena, 3 * run->kept + 1, sizeof *ranks);
    if (!agreements || !ranks)
        return SHADOW_NO_MEMORY;
    for (size_t u = 0; u < run->users; u++) {
        const float *x = live->scores + u * run->room, *y = other->scores + u * run->room;
        agreements[u] = (struct shadow_agreement){
            .shared = count_shared(&live->tops[u], &other->tops[u]),
            .tau = kendall_tau_b(x, y, run->kept, ranks),
            .difference = difference(x, y, run->kept),
        };
    }
    return shadow_count(run->shadow, run->sample, &run->sums, agreements, run->users) ? DONE
                                                                                      : SHADOW_NO_MEMORY;
}

/* ---- from sample to sample ---- */

static void rank_one(struct shadow *shadow, struct shadow_sample *sample, sem_t *arrived)
{
    struct run run = {
        .arrived = arrived, .shadow = shadow, .self = shadow->service->shadow_ranker, .sample = sample};
    for (size_t s = 0; s < SHADOW_SIDES; s++)
        run.sides[s].generation = sample->generations[s];
    int code = gather_init(&run) ? find_users(&run) : SHADOW_NO_MEMORY;
    if (code == DONE)
        code = score_candidates(&run);
    const bool stopping = atomic_load(&shadow->stopping); /* then not all has been seen */
    if (code == DONE && !stopping)
        code = compare(&run);
    if (code != DONE && !stopping)
        shadow_skip(shadow, (enum shadow_skip)code);
    catalogue_release(run.catalogue);
    shadow_give_sample(sample);
}

void *shadow_rank_all(void *ctx)
{
    struct shadow *shadow = ctx;
    sem_t arrived;
    pthread_setname_np(pthread_self(), "shadow rank");
    sem_init(&arrived, 0, 0);
    for (;;) {
        while (sem_wait(&shadow->ready) < 0)
            ;
        struct shadow_sample *sample = shadow_next_sample(shadow);
        const bool stopping = atomic_load(&shadow->stopping);
        if (sample && stopping)
            shadow_give_sample(sample);
        else if (sample)
            rank_one(shadow, sample, &arrived);
        else if (stopping)
            break;
    }
    sem_destroy(&arrived);
    return NULL;
}
