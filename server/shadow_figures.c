/* What came out of the comparisons. Figures are of one pair of generations; with another they begin anew, as Prometheus
 * allows. */
#include "server/clock.h"
#include "server/shadow_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double tau_bounds[SHADOW_TAU_BUCKETS] = {-0.5, 0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1};
static const double difference_bounds[SHADOW_DIFFERENCE_BUCKETS] = {0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10};

/* ---- counting ---- */

void shadow_skip(struct shadow *shadow, enum shadow_skip why)
{
    atomic_fetch_add_explicit(&shadow->skipped[why], 1, memory_order_relaxed);
}

static size_t bucket_of(const double *bounds, size_t count, double value)
{
    size_t bucket = 0;
    while (bucket < count && value > bounds[bucket])
        bucket++;
    return bucket;
}

/* Those of this pair; the first of it begins with zeros. NULL: no memory. */
static struct shadow_figures *figures_of(struct shadow *shadow, const char *live, const char *name)
{
    struct shadow_figures *figures = atomic_load(&shadow->figures);
    if (figures && strcmp(figures->live, live) == 0 && strcmp(figures->name, name) == 0)
        return figures;
    struct shadow_figures *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return NULL;
    memcpy(fresh->live, live, strlen(live) + 1);
    memcpy(fresh->name, name, strlen(name) + 1);
    fresh->before = figures;
    atomic_store(&shadow->figures, fresh);
    return fresh;
}

void shadow_figures_free(struct shadow_figures *figures)
{
    while (figures) {
        struct shadow_figures *before = figures->before;
        free(figures);
        figures = before;
    }
}

static void add(atomic_int_fast64_t *to, int64_t more)
{
    atomic_fetch_add_explicit(to, more, memory_order_relaxed);
}

static int64_t get(const atomic_int_fast64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

/* Millionths; differences without bounds are cut, so that one of them does not outweigh all others for ever. */
static int64_t millionths(double value)
{
    return (int64_t)llround(1e6 * (value < 1000 ? value : 1000));
}

bool shadow_count(struct shadow *shadow, const struct shadow_sample *sample, const struct store_shadow *sums,
    const struct shadow_agreement *agreements, size_t count)
{
    struct shadow_figures *figures =
        figures_of(shadow, sample->generations[SHADOW_LIVE]->name, sample->generations[SHADOW_OTHER]->name);
    if (!figures)
        return false;
    atomic_int_fast64_t *sum = figures->sums;
    for (size_t i = 0; i < count; i++) {
        const struct shadow_agreement *agreement = &agreements[i];
        add(&sum[STORE_SHADOW_SHARED], (int64_t)agreement->shared);
        add(&figures->overlap[agreement->shared], 1);
        if (!isnan(agreement->tau)) {
            add(&sum[STORE_SHADOW_TAUS], 1);
            add(&sum[STORE_SHADOW_TAU], millionths(agreement->tau));
            add(&figures->tau[bucket_of(tau_bounds, SHADOW_TAU_BUCKETS, agreement->tau)], 1);
        }
        if (!isnan(agreement->difference)) {
            add(&sum[STORE_SHADOW_DIFFERENCES], 1);
            add(&sum[STORE_SHADOW_DIFFERENCE], millionths(agreement->difference));
            add(&figures->difference[bucket_of(
                    difference_bounds, SHADOW_DIFFERENCE_BUCKETS, agreement->difference)],
                1);
        }
    }
    add(&sum[STORE_SHADOW_BOTH], sums->sums[STORE_SHADOW_BOTH]);
    add(&sum[STORE_SHADOW_LIVE_ALONE], sums->sums[STORE_SHADOW_LIVE_ALONE]);
    add(&sum[STORE_SHADOW_ALONE], sums->sums[STORE_SHADOW_ALONE]);
    add(&sum[STORE_SHADOW_RANKINGS], (int64_t)count);
    add(&sum[STORE_SHADOW_REQUESTS], 1);
    return true;
}

/* ---- into the store ---- */

/* Has a call that failed certainly not been done? Otherwise what it was to add is given up: a request that is counted twice is
 * worse than one that is not. */
static bool was_not_done(int code, enum store_fault fault)
{
    if (code != -ERR_UNAVAILABLE)
        return code != -ERR_NOT_FOUND;
    return fault != STORE_TIMEOUT && fault != STORE_IO && fault != STORE_OTHER;
}

/* Who may not write, or writes to what is full or damaged, is told once, and again when it has been well in between. */
static void tell(struct shadow *shadow, int code, enum store_fault fault, const struct err *err)
{
    const bool passing =
        code == -ERR_NOT_FOUND ||
        (code == -ERR_UNAVAILABLE && (fault == STORE_CONNECT || fault == STORE_TIMEOUT || fault == STORE_IO ||
                                         fault == STORE_PAUSED || fault == STORE_LOADING));
    if (code < 0 && !passing && !shadow->told)
        log_err(shadow->service->log, LOG_WARN,
            "shadow: the store does not take the figures, which are in /metrics alone", err);
    shadow->told = code < 0 && (shadow->told || !passing);
}

/* Since when a call that writes has been under way. True: nobody waits for it any more, and the service may be gone. */
static bool set_saving(struct shadow *shadow, uint64_t since_ms)
{
    pthread_mutex_lock(&shadow->lock);
    shadow->saving_ms = since_ms;
    const bool abandoned = shadow->abandoned;
    pthread_cond_broadcast(&shadow->changed);
    pthread_mutex_unlock(&shadow->lock);
    return abandoned;
}

/* What was counted while this reads is saved the next time, if not now. */
int shadow_save(struct shadow *shadow, struct err *err)
{
    struct shadow_figures *figures = atomic_load(&shadow->figures);
    struct err why = ERR_INIT;
    struct store_shadow more = {0};
    bool any = false;
    for (size_t i = 0; figures && i < STORE_SHADOW_SUMS; i++) {
        more.sums[i] = get(&figures->sums[i]) - get(&figures->saved[i]);
        any |= more.sums[i] != 0;
    }
    if (!any)
        return 0;
    memcpy(more.live, figures->live, sizeof more.live);
    set_saving(shadow, clock_ms());
    const int code = store_shadow_add(shadow->link, figures->name, &more, &why);
    const enum store_fault fault = store_fault(shadow->link);
    const bool abandoned = set_saving(shadow, 0);
    for (size_t i = 0; (code == 0 || !was_not_done(code, fault)) && i < STORE_SHADOW_SUMS; i++)
        add(&figures->saved[i], more.sums[i]);
    if (!abandoned) /* the log may be gone otherwise */
        tell(shadow, code, fault, &why);
    return code < 0 ? err_set(err, (enum err_code) - code, "%s", why.message) : 0;
}

/* ---- /metrics ---- */

static void head(struct writer *w, const char *name, const char *type, const char *help)
{
    writer_printf(w, "# HELP embsum_shadow_%s %s\n# TYPE embsum_shadow_%s %s\n", name, help, name, type);
}

static void single(struct writer *w, const char *name, const char *type, const char *help, uint64_t value)
{
    head(w, name, type, help);
    writer_printf(w, "embsum_shadow_%s %" PRIu64 "\n", name, value);
}

/* counts[i] is of those up to bounds[i], the last of those above all. */
static void histogram(struct writer *w, const char *name, const char *help, const double *bounds,
    const atomic_int_fast64_t *counts, size_t count, double sum)
{
    int64_t below = 0;
    head(w, name, "histogram", help);
    for (size_t i = 0; i < count; i++) {
        below += get(&counts[i]);
        writer_printf(w, "embsum_shadow_%s_bucket{le=\"%g\"} %" PRId64 "\n", name, bounds[i], below);
    }
    below += get(&counts[count]);
    writer_printf(w,
        "embsum_shadow_%s_bucket{le=\"+Inf\"} %" PRId64 "\nembsum_shadow_%s_sum %.9g\n"
        "embsum_shadow_%s_count %" PRId64 "\n",
        name, below, name, sum, name, below);
}

static void write_agreement(struct writer *w, const struct shadow_figures *figures)
{
    int64_t sum[STORE_SHADOW_SUMS];
    double shares[SHADOW_BEST + 1];
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++)
        sum[i] = get(&figures->sums[i]);
    for (size_t i = 0; i <= SHADOW_BEST; i++)
        shares[i] = (double)i / SHADOW_BEST;
    single(w, "requests_total", "counter", "Requests that were ranked on both generations.",
        (uint64_t)sum[STORE_SHADOW_REQUESTS]);
    histogram(w, "overlap", "The share of a ranking's ten best that both generations have there.", shares,
        figures->overlap, SHADOW_BEST + 1, (double)sum[STORE_SHADOW_SHARED] / SHADOW_BEST);
    histogram(w, "tau", "Kendall's tau-b of the two rankings.", tau_bounds, figures->tau, SHADOW_TAU_BUCKETS,
        (double)sum[STORE_SHADOW_TAU] / 1e6);
    histogram(w, "difference",
        "The root mean square of the scores' differences, in standard deviations of the live ones.",
        difference_bounds, figures->difference, SHADOW_DIFFERENCE_BUCKETS,
        (double)sum[STORE_SHADOW_DIFFERENCE] / 1e6);
    head(w, "candidates_total", "counter", "Candidates by the generations that have them.");
    writer_printf(w,
        "embsum_shadow_candidates_total{in=\"both\"} %" PRId64 "\n"
        "embsum_shadow_candidates_total{in=\"live\"} %" PRId64 "\n"
        "embsum_shadow_candidates_total{in=\"shadow\"} %" PRId64 "\n",
        sum[STORE_SHADOW_BOTH], sum[STORE_SHADOW_LIVE_ALONE], sum[STORE_SHADOW_ALONE]);
    single(w, "unsaved_requests", "gauge", "Of these, those whose figures are not in the store yet.",
        (uint64_t)(sum[STORE_SHADOW_REQUESTS] - get(&figures->saved[STORE_SHADOW_REQUESTS])));
}

static void write_generation(struct writer *w, struct shadow *shadow)
{
    struct hot_stats users, contents;
    head(w, "info", "gauge", "The generation in memory that is ranked on beside the live one.");
    pthread_mutex_lock(&shadow->lock);
    struct live_generation *generation = shadow->current;
    if (generation)
        live_generation_hold(generation);
    pthread_mutex_unlock(&shadow->lock);
    if (!generation)
        return;
    writer_printf(w, "embsum_shadow_info{generation=\"%s\"} 1\n", generation->name);
    hot_stats(matrices_hot(generation->users), &users);
    hot_stats(matrices_hot(generation->contents), &contents);
    head(w, "hot_bytes", "gauge", "Bytes of memory that its matrices take.");
    writer_printf(w,
        "embsum_shadow_hot_bytes{kind=\"user\"} %zu\nembsum_shadow_hot_bytes{kind=\"content\"} %zu\n",
        users.bytes, contents.bytes);
    live_generation_release(generation);
}

void shadow_write(struct shadow *shadow, struct writer *w)
{
    static const char *const reasons[SHADOW_SKIPS] = {
        [SHADOW_BUSY] = "busy",
        [SHADOW_QUEUE_FULL] = "queue_full",
        [SHADOW_FEW] = "few_candidates",
        [SHADOW_NO_USER] = "no_user",
        [SHADOW_UNAVAILABLE] = "unavailable",
        [SHADOW_NO_MEMORY] = "no_memory",
    };
    static const struct shadow_figures nothing;
    if (!shadow)
        return;
    const struct shadow_figures *figures = atomic_load(&shadow->figures);
    write_generation(w, shadow);
    single(w, "loads_total", "counter", "Generations loaded to be ranked on beside the live one.",
        atomic_load_explicit(&shadow->loads, memory_order_relaxed));
    single(w, "refusals_total", "counter", "Generations that were to be, and were incomplete or damaged.",
        atomic_load_explicit(&shadow->refusals, memory_order_relaxed));
    head(w, "skipped_total", "counter", "Requests that were to be ranked on both and were not, by reason.");
    for (size_t i = 0; i < SHADOW_SKIPS; i++)
        writer_printf(w, "embsum_shadow_skipped_total{reason=\"%s\"} %" PRIu64 "\n", reasons[i],
            (uint64_t)atomic_load_explicit(&shadow->skipped[i], memory_order_relaxed));
    write_agreement(w, figures ? figures : &nothing);
}
