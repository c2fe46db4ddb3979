/* The scoring kernels: every one that runs here beside the plain one on the same packed numbers, and both beside the
 * definition in float64. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/score.h"
#include "core/scorer.h"
#include "tests/core/scorers.h"
#include "tests/lib/scratch.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double UNIT = 0x1p-24; /* half an ulp of float32 */

static void *aligned(size_t bytes)
{
    void *memory;
    assert_int_equal(posix_memalign(&memory, 64, (bytes + 63) / 64 * 64), 0);
    memset(memory, 0xFF, bytes); /* NaN in every float: what is not written must not be read */
    return memory;
}

/* One user and one content, packed, and the numbers that are scored. */
struct pair {
    size_t m, n, d;
    struct scorer *plain;
    void *user, *content;
    float *a, *b, *gate;
};

static struct pair pair_make(
    enum scorer_dtype dtype, const float *a, const float *b, const float *gate, size_t m, size_t n, size_t d)
{
    struct pair p = {m, n, d, scorer_make(dtype, "plain", m, n, d), NULL, NULL, NULL, NULL, NULL};
    p.user = aligned(scorer_user_bytes(p.plain));
    p.content = aligned(scorer_content_bytes(p.plain));
    scorer_pack_user(p.plain, p.user, a);
    scorer_pack_content(p.plain, p.content, b, gate);
    p.a = malloc(m * d * sizeof *p.a);
    p.b = malloc(n * d * sizeof *p.b);
    p.gate = malloc(n * d * sizeof *p.gate);
    scorer_unpack_user(p.plain, p.a, p.user);
    scorer_unpack_content(p.plain, p.b, p.gate, p.content);
    return p;
}

static void pair_done(struct pair *p)
{
    scorer_free(p->plain);
    free(p->user);
    free(p->content);
    free(p->a);
    free(p->b);
    free(p->gate);
}

static float *normals(struct rng *rng, size_t count, double scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(scale * rng_normal(rng));
    return x;
}

static float run_one(const struct scorer *scorer, const struct pair *p)
{
    float score = NAN;
    scorer_run(scorer, &score, (const void *const *)&p->user, 1, (const void *const *)&p->content, 1);
    return score;
}

static double largest(const float *x, const float *y, size_t rows_x, size_t rows_y, size_t d)
{
    double most = 0;
    for (size_t i = 0; i < rows_x; i++) {
        for (size_t j = 0; j < rows_y; j++) {
            double sum = 0;
            for (size_t k = 0; k < d; k++)
                sum += fabs((double)x[i * d + k] * (double)y[j * d + k]);
            most = fmax(most, sum);
        }
    }
    return most;
}

/* How far a kernel may be from the definition on the same numbers. A sum of d products in float32, each step rounded
 * once (twice without FMA), is off by at most about (d + 1) u of the sum of magnitudes, and in the mean by its root; the
 * integer sums of int8 are exact and rounded three times. A logit that is off by e changes each weight by a factor
 * e^e, so that the score moves by at most 2 e of the range of K; weights are rounded, too. */
static double allowed(enum scorer_dtype dtype, const struct pair *p, double low, double high)
{
    const double terms = dtype == SCORER_INT8 ? 4 : 4 * sqrt((double)p->d) + 4;
    const double similarity = terms * UNIT * largest(p->a, p->b, p->m, p->n, p->d);
    const double logit = terms * UNIT * largest(p->a, p->gate, p->m, p->n, p->d);
    const double shift = fmin(1, 2 * logit + 16 * UNIT + sqrt((double)(p->m * p->n)) * UNIT);
    return similarity + shift * (high - low) + 2 * UNIT * fmax(fabs(low), fabs(high)) + DBL_MIN;
}

static void check_pair(enum scorer_dtype dtype, const struct pair *p)
{
    double *similarities = malloc(p->m * p->n * sizeof *similarities), low = INFINITY, high = -INFINITY;
    const double right = score_plain(NULL, similarities, p->a, p->b, p->gate, p->m, p->n, p->d);
    for (size_t i = 0; i < p->m * p->n; i++) {
        low = fmin(low, similarities[i]);
        high = fmax(high, similarities[i]);
    }
    free(similarities);
    /* unpacked int8 are rounded to float32 once more */
    const double plain = (double)run_one(p->plain, p), bound = allowed(dtype, p, low, high);
    if (!(fabs(plain - right) <= bound))
        fail_msg("plain %s m %zu n %zu d %zu: %.9g, not %.9g", scorer_dtype_name(dtype), p->m, p->n, p->d,
            plain, right);
    for (size_t i = 1; scorer_kernel_name(i); i++) {
        if (!scorer_kernel_runs(i, dtype))
            continue;
        struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(i), p->m, p->n, p->d);
        const double got = (double)run_one(scorer, p);
        if (!(fabs(got - plain) <= bound))
            fail_msg("%s %s m %zu n %zu d %zu: %.9g, not %.9g +- %.2g", scorer_kernel_name(i),
                scorer_dtype_name(dtype), p->m, p->n, p->d, got, plain, bound);
        const double slack = allowed(dtype, p, 0, 0);
        assert_true(got >= low - slack && got <= high + slack);
        scorer_free(scorer);
    }
}

static size_t size(struct rng *rng, size_t most)
{
    return 1 + rng_next(rng) % most;
}

static void test_random_sizes(void **state)
{
    (void)state;
    struct rng rng = rng_seed(41, 0);
    for (size_t i = 0; i < test_rounds(600); i++) {
        const bool small = i % 4;
        const size_t m = size(&rng, small ? 40 : 100), n = size(&rng, small ? 6 : 20),
                     d = size(&rng, small ? 70 : 1100);
        const double scale = pow(10, rng_uniform(&rng) * 3 - 2) / sqrt(sqrt((double)d));
        float *a = normals(&rng, m * d, scale), *b = normals(&rng, n * d, scale),
              *gate = normals(&rng, n * d, scale);
        for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
            struct pair p = pair_make(dtype, a, b, gate, m, n, d);
            check_pair(dtype, &p);
            pair_done(&p);
        }
        free(a);
        free(b);
        free(gate);
    }
}

/* ---- one by one ---- */

/* All runnable kernels on 2 rows of content whose similarities and logits are chosen: the score of weights
 * 1 / (1 + e) and e / (1 + e) for similarities 0 and 1 is nearly e for small e, so that the exponential shows. */
static void test_exponential(void **state)
{
    (void)state;
    struct rng rng = rng_seed(42, 0);
    double worst = 0;
    for (size_t i = 0; i < test_rounds(3000); i++) {
        const float x = (float)(-86 * pow(rng_uniform(&rng), 2));
        const float a[2] = {1, 1}, b[4] = {0, 0, 1, 0}, gate[4] = {0, 0, x, 0};
        struct pair p = pair_make(SCORER_F32, a, b, gate, 1, 2, 2);
        const double e = exp((double)x), right = e / (1 + e);
        for (size_t k = 1; scorer_kernel_name(k); k++) {
            if (!scorer_kernel_runs(k, SCORER_F32))
                continue;
            struct scorer *scorer = scorer_make(SCORER_F32, scorer_kernel_name(k), 1, 2, 2);
            worst = fmax(worst, fabs((double)run_one(scorer, &p) - right) / right);
            scorer_free(scorer);
        }
        pair_done(&p);
    }
    print_message("worst relative error of e^x / (1 + e^x): %.1f half ulps\n", worst / UNIT);
    assert_true(worst < 5 * UNIT); /* the exponential 2, the sum, the quotient */
}

/* Integer sums are exact: with one row on each side every kernel gives the same similarity, bit for bit. */
static void test_equal_integers(void **state)
{
    (void)state;
    struct rng rng = rng_seed(43, 0);
    for (size_t i = 0; i < test_rounds(2000); i++) {
        const size_t d = size(&rng, 1100);
        float *a = normals(&rng, d, 1), *b = normals(&rng, d, 1);
        for (size_t k = 0; k < d && i % 3 == 0; k++) { /* all at the ends: the largest sums there are */
            a[k] = 1;
            b[k] = i % 2 ? -1 : 1;
        }
        struct pair p = pair_make(SCORER_INT8, a, b, b, 1, 1, d);
        const float first = run_one(p.plain, &p);
        float portable = NAN;
        for (size_t k = 1; scorer_kernel_name(k); k++) {
            if (!scorer_kernel_runs(k, SCORER_INT8))
                continue;
            struct scorer *scorer = scorer_make(SCORER_INT8, scorer_kernel_name(k), 1, 1, d);
            const float got = run_one(scorer, &p);
            portable = k == 1 ? got : portable;
            assert_memory_equal(&got, &portable, sizeof got);
            assert_true(fabs((double)got - (double)first) <= 4 * UNIT * fabs((double)first));
            scorer_free(scorer);
        }
        pair_done(&p);
        free(a);
        free(b);
    }
}

/* The quantised numbers are the nearest of [-127, 127] scales; the largest magnitude is at an end. */
static void test_quantised(void **state)
{
    (void)state;
    struct rng rng = rng_seed(44, 0);
    for (size_t i = 0; i < test_rounds(300); i++) {
        const size_t m = size(&rng, 40), n = size(&rng, 6), d = size(&rng, 90);
        const double scale = pow(10, rng_uniform(&rng) * 60 - 30);
        float *a = normals(&rng, m * d, scale), *b = normals(&rng, n * d, scale);
        if (i % 10 == 0)
            memset(b, 0, n * d * sizeof *b);
        struct pair p = pair_make(SCORER_INT8, a, b, b, m, n, d);
        for (size_t r = 0; r < m + n; r++) {
            const float *row = r < m ? a + r * d : b + (r - m) * d,
                        *got = r < m ? p.a + r * d : p.b + (r - m) * d;
            double top = 0;
            for (size_t k = 0; k < d; k++)
                top = fmax(top, fabs((double)row[k]));
            for (size_t k = 0; k < d; k++)
                assert_true(fabs((double)got[k] - (double)row[k]) <= top / 254 * (1 + 1e-5));
        }
        assert_memory_equal(p.b, p.gate, n * d * sizeof *p.b);
        pair_done(&p);
        free(a);
        free(b);
    }
}

/* Any float32 that there is, special ones often: packing rounds them all as one. */
static float any_float(struct rng *rng)
{
    static const uint32_t special[] = {0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001,
        0xFFFFFFFF, 0x7F7FFFFF, 0x7F7F8000, 0x00000001, 0x807FFFFF, 0x3F808000, 0x3F818000, 0x3F807FFF};
    const uint64_t draw = rng_next(rng);
    uint32_t bits = (uint32_t)draw;
    if (draw >> 32 & 1)
        bits = special[(draw >> 33) % (sizeof special / sizeof *special)];
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What int8 may be asked to round: halves of its steps, where ties are, and numbers of all sizes. */
static float any_finite(struct rng *rng, int kind)
{
    if (kind == 0)
        return (float)(rng_next(rng) % 509) / 2 - 127;
    const float x = any_float(rng);
    return isfinite(x) && (kind == 1 || fabsf(x) < 1) ? x : 1;
}

/* A content is packed to the same bytes by every kernel. */
static void test_pack_content(void **state)
{
    (void)state;
    struct rng rng = rng_seed(49, 0);
    for (size_t i = 0; i < test_rounds(400); i++) {
        const size_t n = size(&rng, 14), d = i % 2 ? size(&rng, 300) : 32 * size(&rng, 9);
        float *b = malloc(n * d * sizeof *b), *gate = malloc(n * d * sizeof *gate);
        for (enum scorer_dtype dtype = SCORER_F32; dtype <= SCORER_INT8; dtype++) {
            for (size_t k = 0; k < n * d; k++) {
                b[k] = dtype == SCORER_INT8 ? any_finite(&rng, (int)(i / 2 % 3)) : any_float(&rng);
                gate[k] = dtype == SCORER_INT8 ? any_finite(&rng, (int)(i / 2 % 3)) : any_float(&rng);
            }
            struct scorer *plain = scorer_make(dtype, "plain", 1, n, d);
            const size_t bytes = scorer_content_bytes(plain);
            void *want = aligned(bytes), *got = aligned(bytes);
            scorer_pack_content(plain, want, b, gate);
            for (size_t k = 1; scorer_kernel_name(k); k++) {
                if (!scorer_kernel_runs(k, dtype))
                    continue;
                struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(k), 1, n, d);
                memset(got, 0xFF, bytes);
                scorer_pack_content(scorer, got, b, gate);
                if (memcmp(got, want, bytes) != 0)
                    fail_msg("%s %s n %zu d %zu", scorer_dtype_name(dtype), scorer_kernel_name(k), n, d);
                scorer_free(scorer);
            }
            scorer_free(plain);
            free(want);
            free(got);
        }
        free(b);
        free(gate);
    }
}

/* Logits and similarities up to what float32 holds: no overflow, no NaN, the largest logit decides. */
static void test_huge(void **state)
{
    (void)state;
    struct rng rng = rng_seed(45, 0);
    for (size_t i = 0; i < test_rounds(400); i++) {
        const size_t m = size(&rng, 40), n = size(&rng, 6), d = size(&rng, 20);
        const double scale = pow(10, 2 + 13 * rng_uniform(&rng)); /* logits of 1e4 to 1e30 */
        float *a = normals(&rng, m * d, scale), *b = normals(&rng, n * d, scale),
              *gate = normals(&rng, n * d, scale);
        for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
            struct pair p = pair_make(dtype, a, b, gate, m, n, d);
            for (size_t k = 0; scorer_kernel_name(k); k++) {
                if (!scorer_kernel_runs(k, dtype))
                    continue;
                struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(k), m, n, d);
                assert_true(isfinite(run_one(scorer, &p)));
                scorer_free(scorer);
            }
            pair_done(&p);
        }
        free(a);
        free(b);
        free(gate);
    }
}

static void swap_rows(float *x, size_t i, size_t j, size_t d)
{
    for (size_t k = 0; k < d; k++) {
        const float t = x[i * d + k];
        x[i * d + k] = x[j * d + k];
        x[j * d + k] = t;
    }
}

/* Neither the order of A's rows nor of B's (with G's) matters; a pass over many users and contents is that of each pair
 * alone, bit for bit. */
static void test_orders_and_passes(void **state)
{
    (void)state;
    enum { USERS = 3, CONTENTS = 70 };
    struct rng rng = rng_seed(46, 0);
    for (size_t i = 0; i < test_rounds(40); i++) {
        const size_t m = size(&rng, 70), n = size(&rng, 9), d = size(&rng, 600);
        for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
            struct scorer *scorer = scorer_make(dtype, NULL, m, n, d);
            void *users[USERS], *contents[CONTENTS];
            float scores[USERS * CONTENTS], one, again;
            float *a = NULL, *b = NULL;
            for (size_t u = 0; u < USERS; u++) {
                free(a);
                a = normals(&rng, m * d, 0.2);
                users[u] = aligned(scorer_user_bytes(scorer));
                scorer_pack_user(scorer, users[u], a);
            }
            for (size_t c = 0; c < CONTENTS; c++) {
                free(b);
                b = normals(&rng, 2 * n * d, 0.2);
                contents[c] = aligned(scorer_content_bytes(scorer));
                scorer_pack_content(scorer, contents[c], b, b + n * d);
            }
            scorer_run(
                scorer, scores, (const void *const *)users, USERS, (const void *const *)contents, CONTENTS);
            for (size_t u = 0; u < USERS; u++) {
                for (size_t c = 0; c < CONTENTS; c++) {
                    scorer_run(scorer, &one, (const void *const *)users + u, 1,
                        (const void *const *)contents + c, 1);
                    assert_memory_equal(&one, scores + u * CONTENTS + c, sizeof one);
                }
            }
            const size_t j = rng_next(&rng) % n, k = rng_next(&rng) % n;
            swap_rows(a, rng_next(&rng) % m, rng_next(&rng) % m, d);
            swap_rows(b, j, k, d);
            swap_rows(b + n * d, j, k, d);
            scorer_pack_user(scorer, users[0], a);
            scorer_pack_content(scorer, contents[0], b, b + n * d);
            scorer_run(scorer, &again, (const void *const *)users, 1, (const void *const *)contents, 1);
            assert_true(fabs((double)again - (double)one) <= 1e-5 * fmax(1, fabs((double)one)));
            for (size_t u = 0; u < USERS; u++)
                free(users[u]);
            for (size_t c = 0; c < CONTENTS; c++)
                free(contents[c]);
            free(a);
            free(b);
            scorer_free(scorer);
        }
    }
}

/* ---- against the original numbers ---- */

static void test_error_of_dtypes(void **state)
{
    (void)state;
    enum { M = 32, N = 4, D = 512, CONTENTS = 400 };
    static const double limits[SCORER_DTYPES] = {2e-6, 5e-3, 2.5e-2, 2e-6};
    struct rng rng = rng_seed(47, 0);
    float *a = normals(&rng, M * D, 0.2), *b = normals(&rng, (size_t)CONTENTS * 2 * N * D, 0.2);
    double right[CONTENTS], mean = 0, variance = 0;
    for (size_t c = 0; c < CONTENTS; c++) {
        const float *rows = b + c * 2 * N * D;
        right[c] = score_plain(NULL, NULL, a, rows, rows + N * D, M, N, D);
        mean += right[c] / CONTENTS;
    }
    for (size_t c = 0; c < CONTENTS; c++)
        variance += (right[c] - mean) * (right[c] - mean) / CONTENTS;
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
        struct scorer *scorer = scorer_make(dtype, NULL, M, N, D);
        void *user = aligned(scorer_user_bytes(scorer)), *content = aligned(scorer_content_bytes(scorer));
        double square = 0;
        scorer_pack_user(scorer, user, a);
        for (size_t c = 0; c < CONTENTS; c++) {
            float score;
            scorer_pack_content(scorer, content, b + c * 2 * N * D, b + (c * 2 + 1) * N * D);
            scorer_run(scorer, &score, (const void *const *)&user, 1, (const void *const *)&content, 1);
            square += ((double)score - right[c]) * ((double)score - right[c]) / CONTENTS;
        }
        const double share = sqrt(square / variance);
        print_message("%s, %s: error %.2g of the scores' deviation\n", scorer_dtype_name(dtype),
            scorer_kernel(scorer), share);
        assert_true(share < limits[dtype]);
        free(user);
        free(content);
        scorer_free(scorer);
    }
    free(a);
    free(b);
}

/* ---- gates ---- */

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * M_SQRT1_2);
}

/* A product with 1 shows gelu alone: its error in shares of |x|. */
static void test_gelu(void **state)
{
    (void)state;
    struct rng rng = rng_seed(48, 0);
    for (size_t k = 0; scorer_kernel_name(k); k++) {
        if (!scorer_kernel_runs(k, SCORER_F32))
            continue;
        struct scorer *scorer = scorer_make(SCORER_F32, scorer_kernel_name(k), 1, 1, 1);
        uint32_t *proj = aligned(scorer_proj_bytes(scorer));
        const float one = 1;
        double worst = 0;
        scorer_pack_proj(scorer, proj, &one);
        for (size_t i = 0; i < test_rounds(20000); i++) {
            const float x = (float)(i % 2 ? rng_normal(&rng) * 3 : pow(10, rng_uniform(&rng) * 12 - 10));
            float got;
            scorer_gate(scorer, &got, proj, &x, 1);
            worst = fmax(worst, fabs((double)got - gelu((double)x)) / fabs((double)x));
        }
        print_message("%s: gelu's worst error %.1e of |x|\n", scorer_kernel(scorer), worst);
        assert_true(worst < 3e-7);
        free(proj);
        scorer_free(scorer);
    }
}

/* Against float64, and for a scorer of bfloat16 gates against the operands rounded to bfloat16 (2^-9 each). */
static void test_gates(void **state)
{
    (void)state;
    struct rng rng = rng_seed(49, 0);
    for (size_t i = 0; i < test_rounds(60); i++) {
        const size_t rows = size(&rng, 75), d = size(&rng, i % 5 ? 90 : 700);
        float *w = normals(&rng, d * d, 1 / sqrt((double)d)), *b = normals(&rng, rows * d, 1);
        float *gate = malloc((rows * d + 1) * sizeof *gate);
        for (size_t k = 0; scorer_kernel_name(k); k++) {
            for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
                if (!scorer_kernel_runs(k, dtype))
                    continue;
                struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(k), 3, 2, d);
                void *proj = aligned(scorer_proj_bytes(scorer));
                scorer_pack_proj(scorer, proj, w);
                memset(gate, 0xFF, (rows * d + 1) * sizeof *gate);
                scorer_gate(scorer, gate, proj, b, rows);
                assert_true(isnan(gate[rows * d])); /* nothing behind the last */
                for (size_t at = 0; at < rows * d; at += 1 + rng_next(&rng) % 50) {
                    double sum = 0, size_of = 0, square = 0;
                    for (size_t j = 0; j < d; j++) {
                        const double term = (double)b[at / d * d + j] * (double)w[j * d + at % d];
                        sum += term;
                        size_of += fabs(term);
                        square += term * term;
                    }
                    /* 6 deviations of d independent roundings, each at most 2^-8 of its term */
                    const double bound =
                        dtype == SCORER_F32 ? 1e-6 * size_of : 6 * 0x1p-8 * sqrt(square) + 1e-6 * size_of;
                    if (!(fabs((double)gate[at] - gelu(sum)) <= 1.13 * bound)) /* gelu's steepest slope */
                        fail_msg("%s %s rows %zu d %zu at %zu: %.9g, not %.9g", scorer_kernel(scorer),
                            scorer_dtype_name(dtype), rows, d, at, (double)gate[at], gelu(sum));
                }
                free(proj);
                scorer_free(scorer);
            }
        }
        free(w);
        free(b);
        free(gate);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct scorer *scorer = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(scorer_new(&scorer, SCORER_F32, "avx512-vnni", 4, 4, 4, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "plain, portable"));
    assert_int_equal(scorer_new(&scorer, SCORER_F32, "mmx", 4, 4, 4, NULL), -ERR_INVALID);
    assert_int_equal(scorer_new(&scorer, SCORER_F32, NULL, 0, 4, 4, NULL), -ERR_INVALID);
    assert_int_equal(scorer_new(&scorer, SCORER_INT8, NULL, 4, 4, 65537, NULL), -ERR_INVALID);
    assert_null(scorer);
    scorer_free(NULL);
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
        scorer = scorer_make(dtype, NULL, 4, 4, 4);
        print_message("%s: %s\n", scorer_dtype_name(dtype), scorer_kernel(scorer));
        scorer_free(scorer);
    }
}

static int init(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_sizes),
        cmocka_unit_test(test_exponential), cmocka_unit_test(test_equal_integers),
        cmocka_unit_test(test_quantised), cmocka_unit_test(test_pack_content), cmocka_unit_test(test_huge),
        cmocka_unit_test(test_orders_and_passes), cmocka_unit_test(test_error_of_dtypes),
        cmocka_unit_test(test_gelu), cmocka_unit_test(test_gates), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("scorer", tests, init, NULL);
}
