/* The best of many at the price of int8: the answer is the float32 kernel's, on data of every kind and in every kernel,
 * and a bound that were too small would be noticed. EMBSUM_LONG=1 decides on tens of millions. */
#include "core/rng.h"
#include "core/scorer.h"
#include "core/scorer_both.h"
#include "core/scorer_int.h"
#include "tests/core/scorers.h"
#include "tests/lib/scratch.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    GAUSSIAN, /* as in the benchmark */
    SHARP,    /* one pair has all the weight */
    FLAT,     /* all pairs weigh the same */
    TINY,     /* numbers of 1e-12 to 0.1 */
    LARGE,    /* contents of 1e3 to 1e20, users small or large */
    GATED,    /* gates on one side of zero, few pairs have most of the weight: as in make bench */
    ONE_HOT,  /* a single number in a row */
    ALIKE,    /* the rows of a user are nearly the same */
    CLOSE,    /* contents are nearly the same */
    EQUAL,    /* contents are the same, or one of two */
    GRID,     /* int8 holds all numbers */
    HOSTILE,  /* int8's errors conspire with the user */
    BROKEN,   /* here and there an infinity, a NaN, a row of zeros */
    KINDS
};
static const char *const kind_names[] = {"gaussian", "sharp", "flat", "tiny", "large", "gated", "one-hot",
    "alike", "close", "equal", "grid", "hostile", "broken"};

static bool is_long(void)
{
    return getenv("EMBSUM_LONG") != NULL;
}

static void *aligned(size_t bytes)
{
    void *memory;
    assert_int_equal(posix_memalign(&memory, 64, (bytes + 63) / 64 * 64), 0);
    memset(memory, 0xFF, bytes); /* NaN in every float: what is not written must not be read */
    return memory;
}

static size_t pick(struct rng *rng, size_t from, size_t to)
{
    return from + rng_next(rng) % (to - from + 1);
}

/* ---- matrices ---- */

static void normals(struct rng *rng, float *numbers, size_t count, double deviation)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = (float)(rng_normal(rng) * deviation);
}

/* The size of a kind's numbers: products of two have the right size for their logits. */
static double deviation_of(enum kind kind, struct rng *rng, size_t d)
{
    const double root = pow((double)d, -0.25);
    switch (kind) {
    case SHARP:
        return root * 2;
    case FLAT:
        return root * 0.01;
    case TINY:
        return pow(10, -1 - 11 * rng_uniform(rng));
    case LARGE:
        return pow(10, 3 + 17 * rng_uniform(rng));
    default:
        return root * (0.3 + rng_uniform(rng));
    }
}

static void make_user(struct rng *rng, float *a, enum kind kind, double deviation, size_t m, size_t d)
{
    normals(rng, a, m * d,
        kind == LARGE && rng_uniform(rng) < 0.8 ? 1 / (deviation * sqrt((double)d)) : deviation);
    if (kind == HOSTILE) /* int8 holds the first row */
        for (size_t k = 0; k < d; k++)
            a[k] = a[k] > 0 ? (float)deviation : -(float)deviation;
    if (kind == ALIKE || kind == HOSTILE)
        for (size_t i = d; i < m * d; i++)
            a[i] = a[i % d] + 0.01F * a[i];
    if (kind == GRID)
        for (size_t i = 0; i < m * d; i++)
            a[i] = i % d ? (float)((int)pick(rng, 0, 254) - 127) / 64 : 127.0F / 64;
    if (kind == BROKEN && rng_uniform(rng) < 0.3)
        a[pick(rng, 0, m * d - 1)] = rng_uniform(rng) < 0.5 ? NAN : INFINITY;
}

/* A row between the steps of int8, mostly on the side to which the user points, or always on the other: the products of
 * int8 are off by nearly as much as they may be. base: what the rows of all contents share. */
static void make_hostile(
    struct rng *rng, float *row, const float *base, const float *a, double deviation, size_t d)
{
    const float step = (float)deviation / 40, side = rng_uniform(rng) < 0.9 ? 0.49F : -0.49F;
    for (size_t k = 0; k < d; k++) {
        float x = roundf(base[k] / step);
        x = x > 126 ? 126 : x < -126 ? -126 : x;
        /* The ends, which set int8's steps and leave the row's middle at zero. */
        row[k] = k < 2 ? (k ? -127 : 127) * step : step * (x + (a[k] > 0 ? side : -side));
    }
}

/* rows: n of b, then n of gates. */
static void make_content(struct rng *rng, float *rows, const float *base, const float *a, enum kind kind,
    double deviation, size_t n, size_t d)
{
    const size_t size = 2 * n * d;
    normals(rng, rows, size, deviation);
    if (kind == CLOSE)
        for (size_t i = 0; i < size; i++)
            rows[i] = base[i] + 0.003F * rows[i];
    if (kind == EQUAL) {
        memcpy(rows, base, size * sizeof *rows);
        rows[0] += rng_uniform(rng) < 0.5 ? (float)deviation : 0;
    }
    if (kind == GRID)
        for (size_t i = 0; i < size; i++)
            rows[i] = i % d ? (float)((int)pick(rng, 0, 254) - 127) / 512 : 127.0F / 512;
    if (kind == HOSTILE)
        for (size_t r = 0; r < 2 * n; r++)
            make_hostile(rng, rows + r * d, base + r * d, a, deviation, d);
    if (kind == GATED)
        for (size_t i = n * d; i < size; i++)
            rows[i] = rows[i] > 0 ? 4 * rows[i] : -0.1F * rows[i];
    if (kind == ONE_HOT)
        for (size_t r = 0; r < 2 * n; r++) {
            const float x = rows[r * d];
            memset(rows + r * d, 0, d * sizeof *rows);
            rows[r * d + pick(rng, 0, d - 1)] = 4 * x;
        }
    if (kind == BROKEN && rng_uniform(rng) < 0.1)
        rows[pick(rng, 0, size - 1)] = rng_uniform(rng) < 0.5 ? NAN : -INFINITY;
    if (kind == BROKEN && rng_uniform(rng) < 0.1)
        memset(rows + pick(rng, 0, 2 * n - 1) * d, 0, d * sizeof *rows);
}

/* ---- one pool of contents ---- */

struct pool {
    enum kind kind;
    size_t m, n, d, count;
    double deviation;
    struct scorer *scorer, *f32;
    void *user, *f32_user, *scratch;
    const void **contents, **f32_contents;
    float *a, *base, *scores, *sorted, *expected;
    unsigned char *kept;
};

static void pool_user(struct pool *p, struct rng *rng)
{
    make_user(rng, p->a, p->kind, p->deviation, p->m, p->d);
    scorer_pack_user(p->scorer, p->user, p->a);
    scorer_pack_user(p->f32, p->f32_user, p->a);
}

static struct pool pool_make(
    struct rng *rng, enum kind kind, const char *kernel, size_t m, size_t n, size_t d, size_t count)
{
    struct pool p = {kind, m, n, d, count, deviation_of(kind, rng, d), .scorer = NULL};
    p.scorer = scorer_make(SCORER_F32_INT8, kernel, m, n, d);
    /* As the scorer of both does: the same kernel if it has float32, else the fastest. */
    if (scorer_new(&p.f32, SCORER_F32, kernel, m, n, d, NULL) < 0)
        p.f32 = scorer_make(SCORER_F32, NULL, m, n, d);
    p.user = aligned(scorer_user_bytes(p.scorer));
    p.f32_user = aligned(scorer_user_bytes(p.f32));
    p.scratch = aligned(scorer_best_bytes(p.scorer, count, count));
    p.contents = malloc(count * sizeof *p.contents);
    p.f32_contents = malloc(count * sizeof *p.f32_contents);
    p.a = malloc(m * d * sizeof(float));
    p.base = malloc(2 * n * d * sizeof(float));
    p.scores = malloc(count * sizeof(float));
    p.sorted = malloc(count * sizeof(float));
    p.expected = malloc(count * sizeof(float));
    p.kept = malloc(count);
    pool_user(&p, rng);
    normals(rng, p.base, 2 * n * d, p.deviation);
    float *rows = malloc(2 * n * d * sizeof *rows);
    for (size_t c = 0; c < count; c++) {
        void *content = aligned(scorer_content_bytes(p.scorer)), *f32 = aligned(scorer_content_bytes(p.f32));
        make_content(rng, rows, p.base, p.a, kind, p.deviation, n, d);
        scorer_pack_content(p.scorer, content, rows, rows + n * d);
        scorer_pack_content(p.f32, f32, rows, rows + n * d);
        p.contents[c] = content;
        p.f32_contents[c] = f32;
    }
    free(rows);
    return p;
}

static void pool_done(struct pool *p)
{
    for (size_t c = 0; c < p->count; c++) {
        free((void *)(uintptr_t)p->contents[c]);
        free((void *)(uintptr_t)p->f32_contents[c]);
    }
    scorer_free(p->scorer);
    scorer_free(p->f32);
    void *const memory[] = {p->user, p->f32_user, p->scratch, p->contents, p->f32_contents, p->a, p->base,
        p->scores, p->sorted, p->expected, p->kept};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
}

/* ---- the check ---- */

static int downwards(const void *x, const void *y)
{
    const float a = *(const float *)x, b = *(const float *)y;
    return (a < b) - (a > b);
}

/* What float32 says of all, and the same from the best to the worst, without NaN. Returns how many are sorted. */
static size_t expect(struct pool *p)
{
    const void *user = p->f32_user;
    size_t sorted = 0;
    scorer_run(p->f32, p->expected, &user, 1, p->f32_contents, p->count);
    for (size_t c = 0; c < p->count; c++)
        if (!isnan(p->expected[c]))
            p->sorted[sorted++] = p->expected[c];
    qsort(p->sorted, sorted, sizeof *p->sorted, downwards);
    return sorted;
}

/* Runs scorer_best() and returns how many of its decisions are wrong. */
static size_t wrong(struct pool *p, size_t sorted, size_t k, float floor, size_t *rescored)
{
    memset(p->scores, 0xFF, p->count * sizeof *p->scores);
    memset(p->kept, 7, p->count);
    const size_t scored =
        scorer_best(p->scorer, p->scores, p->kept, p->user, p->contents, p->count, k, floor, p->scratch);
    const float kth = k == 0 ? INFINITY : k <= sorted ? p->sorted[k - 1] : -INFINITY;
    size_t faults = 0, kept = 0;
    for (size_t c = 0; c < p->count; c++) {
        const float expected = p->expected[c];
        kept += p->kept[c] == 1;
        if (p->kept[c] == 1)
            faults += memcmp(&p->scores[c], &expected, sizeof expected) != 0;
        else
            faults += p->kept[c] != 0 || !(expected < kth || expected < floor);
    }
    *rescored += scored;
    return faults + (scored != kept);
}

enum way { FIRST, SOME_ROWS, ALL_ROWS, SECOND, WAYS };

/* Products, reaches and loose lanes, from those of the way before. */
static bool prepare(struct pool *p, struct rng *rng, enum way way, const struct scorer_bound_content *content,
    float *products, float *loose)
{
    const struct scorer *rough = p->scorer->rough;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    const struct scorer_bound_user user = scorer_both_bound_user(p->scorer, p->user);
    const size_t lanes = rough->panels * SCORER_LANES;
    if (way == FIRST || way == SECOND) {
        bounder->products(rough, products, false, &user.passes[0], content, (const char *[3]){NULL});
        for (size_t i = 0; i < lanes; i++)
            loose[i] = 1;
        if (way == SECOND)
            bounder->products(rough, products, true, &user.passes[1], content, (const char *[3]){NULL});
        return true;
    }
    for (uint32_t i = 0; i < p->m && p->n % SCORER_PAIRS == 0; i++) {
        if (loose[i] == 0 || (way == SOME_ROWS && rng_uniform(rng) < 0.7))
            continue;
        const uint32_t refined[SCORER_REFINED] = {i};
        for (size_t r = 0; r < 2 * p->n; r++)
            products[r * lanes + i] -= user.passes[0].left_sums[i] * content->means[r];
        bounder->refine(rough, products, user.rows[1], content->first, refined, 1);
        bounder->refine(rough, products, user.rows[0], content->second, refined, 1);
        loose[i] = 0;
    }
    return p->n % SCORER_PAIRS == 0;
}

/* The bound itself beside what float32 says, after the first and the second pass and with some and all rows of the user
 * refined: how many are too small. *nearest: the largest error as a share of its bound. */
static size_t below(struct pool *p, struct rng *rng, size_t faults[WAYS], double *nearest)
{
    const struct scorer *rough = p->scorer->rough;
    const struct scorer_bounder *bounder = rough->kernel->bounder;
    const struct scorer_bound_user user = scorer_both_bound_user(p->scorer, p->user);
    const size_t lanes = rough->panels * SCORER_LANES;
    float *products = aligned(2 * p->n * lanes * sizeof(float)),
          *weights = aligned((p->n + 1) * lanes * sizeof(float)), *loose = aligned(lanes * sizeof(float)),
          *y = aligned(scorer_norms(p->n) * sizeof(float)), *z = aligned(scorer_norms(p->n) * sizeof(float));
    size_t sum = 0;
    for (size_t c = 0; c < p->count; c++) {
        const struct scorer_bound_content content = scorer_both_bound_content(p->scorer, p->contents[c]);
        for (enum way way = 0; way < WAYS; way++) {
            const struct scorer_known *known = user.passes[way == SECOND].known;
            struct scorer_reach reach;
            struct scorer_moments moments;
            if (!prepare(p, rng, way, &content, products, loose))
                continue;
            scorer_bound_reach(&reach, y, z, known, content.norms, p->n);
            bounder->weigh(rough, &moments, weights, products, user.passes[0].packed);
            bounder->moments(rough, &moments, weights, products, loose, y, z);
            const float upper = scorer_bound_upper(known, &reach, &moments, p->m * p->n, way != FIRST);
            if (!(upper < INFINITY))
                continue;
            const bool fault = !(p->expected[c] <= upper);
            faults[way] += fault;
            sum += fault;
            const double share =
                ((double)p->expected[c] - (double)moments.score) / ((double)upper - (double)moments.score);
            *nearest = share > *nearest ? share : *nearest;
        }
    }
    free(products);
    free(weights);
    free(loose);
    free(y);
    free(z);
    return sum;
}

/* Some k and floors for a user. Returns the wrong decisions. */
static size_t wrong_of_user(
    struct pool *p, struct rng *rng, size_t *decisions, size_t *rescored, double *nearest)
{
    const size_t sorted = expect(p);
    const size_t ks[] = {1, pick(rng, 2, 10), pick(rng, 1, p->count), p->count / 3};
    size_t ways[WAYS] = {0}, faults = below(p, rng, ways, nearest);
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        const float floor =
            sorted && rng_uniform(rng) < 0.3 ? p->sorted[pick(rng, 0, sorted - 1)] : -INFINITY;
        size_t scored = 0;
        faults += wrong(p, sorted, ks[i], floor, &scored);
        *decisions += p->count;
        if (i == 1)
            *rescored += scored;
    }
    return faults;
}

/* ---- tests ---- */

/* Kernels that have a bound. */
static const char *kernel_of(size_t round)
{
    const char *names[16];
    size_t count = 0;
    for (size_t i = 0; scorer_kernel_name(i); i++)
        if (scorer_kernel_runs(i, SCORER_F32_INT8) && strcmp(scorer_kernel_name(i), "plain") != 0)
            names[count++] = scorer_kernel_name(i);
    return names[round % count];
}

static void test_answers(void **state)
{
    (void)state;
    struct rng rng = rng_seed(4, 0);
    const size_t pools = is_long() ? 250 : test_rounds(24), users = is_long() ? 20 : 6;
    size_t all = 0;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        size_t decisions = 0, rescored = 0, contents = 0;
        double nearest = 0;
        for (size_t i = 0; i < pools; i++) {
            const bool usual = i % 8 == 0;
            struct pool p = pool_make(&rng, kind, kernel_of(i), usual ? 32 : pick(&rng, 1, i % 5 ? 40 : 80),
                usual || i % 3 == 0 ? 4 : pick(&rng, 1, 9), i % 16 == 0 ? 512 : pick(&rng, 1, 130),
                pick(&rng, 20, 200));
            for (size_t u = 0; u < users; u++) {
                const size_t faults = wrong_of_user(&p, &rng, &decisions, &rescored, &nearest);
                if (faults)
                    fail_msg("%zu wrong: %s, %s, m %zu n %zu d %zu, %zu contents", faults, kind_names[kind],
                        scorer_kernel(p.scorer), p.m, p.n, p.d, p.count);
                contents += p.count;
                pool_user(&p, &rng);
            }
            pool_done(&p);
        }
        print_message(
            "%-10s %8zu decisions; the best 2 to 10: %5.1f %% rescored; an error of %5.1f %% of its bound\n",
            kind_names[kind], decisions, 100 * (double)rescored / (double)contents, 100 * nearest);
        all += decisions;
    }
    print_message("%zu decisions\n", all);
    assert_true(all > (is_long() ? 10000000 : test_rounds(200000)));
}

/* The same check with a bound that is too small: the constants that are packed with the user are shrunk. */
static void shrink(struct pool *p, float factor)
{
    struct scorer_known *known =
        (struct scorer_known *)(uintptr_t)scorer_both_bound_user(p->scorer, p->user).passes[0].known;
    for (size_t pass = 0; pass < SCORER_PASSES; pass++) {
        known[pass].alpha *= factor;
        known[pass].phi *= factor;
        known[pass].left *= factor;
        known[pass].last *= factor;
    }
}

static size_t wrong_when_shrunk(enum kind kind, float factor)
{
    struct rng rng = rng_seed(5, 0);
    size_t faults = 0;
    for (size_t i = 0; i < 20; i++) {
        struct pool p =
            pool_make(&rng, kind, NULL, kind == HOSTILE ? 1 : 32, kind == HOSTILE ? 1 : 4, 128, 200);
        size_t rescored = 0;
        const size_t sorted = expect(&p);
        shrink(&p, factor);
        faults += wrong(&p, sorted, 10, -INFINITY, &rescored);
        pool_done(&p);
    }
    return faults;
}

static void test_small_bounds_are_noticed(void **state)
{
    (void)state;
    assert_int_equal(wrong_when_shrunk(HOSTILE, 1), 0);
    assert_true(wrong_when_shrunk(HOSTILE, 0.5F) > 0);
    assert_int_equal(wrong_when_shrunk(CLOSE, 1), 0);
    assert_true(wrong_when_shrunk(CLOSE, 1.0F / 64) > 0);
}

/* All ways to the bound, on numbers that do not conspire: their errors are a small part of what they might be. */
static void test_small_bounds_are_noticed_in_every_way(void **state)
{
    (void)state;
    struct rng rng = rng_seed(9, 0);
    struct pool p = pool_make(&rng, GATED, NULL, 32, 4, 128, 200);
    size_t ways[WAYS] = {0};
    double nearest = 0;
    expect(&p);
    assert_int_equal(below(&p, &rng, ways, &nearest), 0);
    shrink(&p, 1.0F / 128);
    below(&p, &rng, ways, &nearest);
    /* Where all rows are refined, what is left is less than the rounding of a softmax. */
    assert_true(ways[FIRST] > 0);
    assert_true(ways[SOME_ROWS] > 0);
    assert_true(ways[SECOND] > 0);
    pool_done(&p);
}

/* More contents than are looked at together: later blocks profit from earlier ones. */
static void test_many(void **state)
{
    (void)state;
    struct rng rng = rng_seed(6, 0);
    struct pool p = pool_make(&rng, GAUSSIAN, NULL, 8, 2, 64, 5000);
    size_t rescored = 0;
    const size_t sorted = expect(&p);
    assert_int_equal(wrong(&p, sorted, 10, -INFINITY, &rescored), 0);
    print_message("the best 10 of 5000: %zu rescored\n", rescored);
    assert_in_range(rescored, 10, 1000);
    const float floor = p.sorted[9];
    rescored = 0;
    assert_int_equal(wrong(&p, sorted, p.count, floor, &rescored), 0);
    assert_in_range(rescored, 10, 1000);
    rescored = 0;
    assert_int_equal(wrong(&p, sorted, 2 * p.count, -INFINITY, &rescored), 0);
    assert_int_equal(rescored, p.count);
    rescored = 0;
    assert_int_equal(wrong(&p, sorted, 0, -INFINITY, &rescored), 0);
    assert_int_equal(rescored, 0);
    pool_done(&p);
}

/* What has no bound scores everything. */
static void test_without_bound(void **state)
{
    (void)state;
    struct rng rng = rng_seed(7, 0);
    struct pool p = pool_make(&rng, GAUSSIAN, "plain", 5, 3, 33, 40);
    size_t rescored = 0;
    assert_int_equal(wrong(&p, expect(&p), 3, -INFINITY, &rescored), 0);
    assert_int_equal(rescored, p.count);
    assert_int_equal(scorer_best_bytes(p.f32, p.count, 3), 0);
    assert_int_equal(
        scorer_best(p.f32, p.scores, p.kept, p.f32_user, p.f32_contents, p.count, 3, -INFINITY, NULL),
        p.count);
    assert_memory_equal(p.scores, p.expected, p.count * sizeof *p.scores);
    pool_done(&p);
}

/* All other functions of a scorer of both are float32's. */
static void test_float32(void **state)
{
    (void)state;
    enum { M = 3, N = 2, D = 17, COUNT = 300 };
    struct rng rng = rng_seed(8, 0);
    struct pool p = pool_make(&rng, GAUSSIAN, NULL, M, N, D, COUNT);
    float a[M * D], b[N * D], gate[N * D], f32_b[N * D], f32_gate[N * D], scores[2 * COUNT];
    const void *users[2] = {p.user, p.user};
    expect(&p);
    scorer_run(p.scorer, scores, users, 2, p.contents, COUNT);
    assert_memory_equal(scores, p.expected, COUNT * sizeof *scores);
    assert_memory_equal(scores + COUNT, p.expected, COUNT * sizeof *scores);
    scorer_unpack_user(p.scorer, a, p.user);
    assert_memory_equal(a, p.a, sizeof a);
    scorer_unpack_content(p.scorer, b, gate, p.contents[7]);
    scorer_unpack_content(p.f32, f32_b, f32_gate, p.f32_contents[7]);
    assert_memory_equal(b, f32_b, sizeof b);
    assert_memory_equal(gate, f32_gate, sizeof gate);
    assert_string_equal(scorer_dtype_name(SCORER_F32_INT8), "float32+int8");
    assert_int_equal(scorer_proj_bytes(p.scorer), scorer_proj_bytes(p.f32));
    pool_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_small_bounds_are_noticed),
        cmocka_unit_test(test_small_bounds_are_noticed_in_every_way),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_without_bound),
        cmocka_unit_test(test_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
