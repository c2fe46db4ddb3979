/* Every kernel of cross-attention beside the plain one: sizes that fill no vector, block or group; scores that overflow
 * where one is careless; and that neither the scratch's past nor where states lie changes a bit of the result. */
#include "core/cross.h"
#include "core/half.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One position: queries, and a source that ends where its block of memory does. */
struct position {
    size_t heads, d, len;
    struct cross_source source;
    void *states;
    float *query, *got, *want, *scratch;
};

static void put_state(struct position *p, size_t at, float x)
{
    if (p->source.dtype == CROSS_F32)
        ((float *)p->states)[at] = x;
    else
        ((uint16_t *)p->states)[at] = f32_to_bf16(x);
}

static float state(const struct position *p, size_t at)
{
    if (p->source.dtype == CROSS_F32)
        return ((const float *)p->states)[at];
    return bf16_to_f32(((const uint16_t *)p->states)[at]);
}

/* Queries are numbers of bfloat16 throughout, so that a kernel which rounds them sees the same ones. */
static struct position make(
    enum cross_dtype dtype, size_t heads, size_t d, size_t len, double spread, struct rng *rng)
{
    struct position p = {.heads = heads, .d = d, .len = len};
    p.states = malloc(len * d * (dtype == CROSS_F32 ? 4 : 2));
    p.source = (struct cross_source){p.states, len, dtype};
    p.query = malloc(heads * d * sizeof *p.query);
    p.got = malloc(heads * d * sizeof *p.got);
    p.want = malloc(heads * d * sizeof *p.want);
    p.scratch = aligned_alloc(64, (cross_scratch(heads, d) * sizeof(float) + 63) / 64 * 64);
    memset(p.scratch, 0xFF, cross_scratch(heads, d) * sizeof(float)); /* NaN */
    for (size_t i = 0; i < len * d; i++)
        put_state(&p, i, (float)rng_normal(rng));
    for (size_t i = 0; i < heads * d; i++)
        p.query[i] = bf16_to_f32(f32_to_bf16((float)(rng_normal(rng) * spread / sqrt((double)d))));
    return p;
}

static void drop(struct position *p)
{
    free(p->states);
    free(p->query);
    free(p->got);
    free(p->want);
    free(p->scratch);
}

static void run(struct position *p, const struct cross_kernel *kernel, float *context)
{
    cross_attend(kernel, context, p->query, &p->source, p->heads, p->d, p->scratch);
}

/* A kernel that rounds the softmax's weights to bfloat16 changes each by 2^-9 of it, and their sum by as much. */
static bool rounds_weights(const struct cross_kernel *kernel, enum cross_dtype dtype)
{
    return dtype == CROSS_BF16 && strcmp(cross_kernel_name(kernel), "avx512-bf16") == 0;
}

static void check(struct position *p, const struct cross_kernel *kernel)
{
    const enum cross_dtype dtype = p->source.dtype;
    const double tolerance = rounds_weights(kernel, dtype) ? 0x1p-8 : 4e-6;
    run(p, kernel, p->got);
    for (size_t h = 0; h < p->heads; h++)
        for (size_t j = 0; j < p->d; j++) {
            double most = 0;
            for (size_t t = 0; t < p->len; t++)
                most = fmax(most, fabs((double)state(p, t * p->d + j)));
            const double got = (double)p->got[h * p->d + j], want = (double)p->want[h * p->d + j];
            if (!(fabs(got - want) <= tolerance * most))
                fail_msg("%s, %s, %zu heads, d %zu, %zu tokens: head %zu column %zu is %g instead of %g",
                    cross_kernel_name(kernel), cross_dtype_name(dtype), p->heads, p->d, p->len, h, j, got,
                    want);
        }
}

static void check_all(struct position *p)
{
    run(p, cross_kernel(0), p->want);
    for (size_t i = 1; cross_kernel(i); i++)
        if (cross_kernel_runs(cross_kernel(i), p->source.dtype))
            check(p, cross_kernel(i));
}

static void test_sizes(void **state_)
{
    (void)state_;
    static const size_t heads[] = {1, 3, 4, 5, 8, 12, 16, 17},
                        widths[] = {1, 7, 15, 16, 31, 32, 33, 64, 96, 130},
                        lengths[] = {1, 2, 3, 12, 13, 47, 48, 49, 96, 97, 151};
    struct rng rng = rng_seed(41, 0);
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++)
        for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
                for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                    struct position p = make(dtype, heads[h], widths[w], lengths[l], 2, &rng);
                    check_all(&p);
                    drop(&p);
                }
}

/* As long as a source gets, at T5-small's size. */
static void test_long(void **state_)
{
    (void)state_;
    struct rng rng = rng_seed(42, 0);
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++) {
        struct position p = make(dtype, 8, 512, 7440, 3, &rng);
        check_all(&p);
        drop(&p);
    }
}

/* The best token's lead is so great that nothing else counts: the context is its state, whatever the scale. */
static void test_huge_scores(void **state_)
{
    (void)state_;
    static const double spreads[] = {1e7, 1e30};
    struct rng rng = rng_seed(43, 0);
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++)
        for (size_t s = 0; s < sizeof spreads / sizeof *spreads; s++) {
            struct position p = make(dtype, 5, 40, 101, spreads[s], &rng);
            check_all(&p);
            drop(&p);
        }
}

/* Every token outdoes those before it by far, or none does, or all are alike, near 0 and far below. */
static void test_slopes(void **state_)
{
    (void)state_;
    static const float slopes[] = {96, -96, 0, 1, -1}, offsets[] = {0, -30000, 30000};
    enum { D = 33, TOKENS = 150 };
    struct rng rng = rng_seed(44, 0);
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++)
        for (size_t s = 0; s < sizeof slopes / sizeof *slopes; s++)
            for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
                struct position p = make(dtype, 2, D, TOKENS, 0, &rng);
                for (size_t t = 0; t < TOKENS; t++) { /* exact in bfloat16 */
                    put_state(&p, t * D, (float)t);
                    put_state(&p, t * D + 1, 1);
                }
                for (size_t h = 0; h < 2; h++) {
                    p.query[h * D] = slopes[s];
                    p.query[h * D + 1] = bf16_to_f32(f32_to_bf16(offsets[o]));
                }
                check_all(&p);
                drop(&p);
            }
}

static void test_bits(void **state_)
{
    (void)state_;
    struct rng rng = rng_seed(45, 0);
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++)
        for (size_t i = 0; cross_kernel(i); i++) {
            const struct cross_kernel *kernel = cross_kernel(i);
            if (!cross_kernel_runs(kernel, dtype))
                continue;
            struct position p = make(dtype, 8, 64, 203, 2, &rng), other = make(dtype, 8, 64, 77, 9, &rng);
            const size_t size = p.heads * p.d * sizeof *p.got, width = dtype == CROSS_F32 ? 4 : 2,
                         bytes = p.len * p.d * width;
            run(&p, kernel, p.want);
            cross_attend(kernel, other.got, other.query, &other.source, 8, 64, p.scratch);
            char *elsewhere = malloc(bytes + width);
            memcpy(elsewhere + width, p.states, bytes);
            p.source.states = elsewhere + width;
            run(&p, kernel, p.got);
            assert_memory_equal(p.got, p.want, size);
            free(elsewhere);
            drop(&p);
            drop(&other);
        }
}

static void test_best(void **state_)
{
    (void)state_;
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++) {
        assert_true(cross_kernel_runs(cross_best(dtype), dtype));
        print_message("%s: %s\n", cross_dtype_name(dtype), cross_kernel_name(cross_best(dtype)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_long),
        cmocka_unit_test(test_huge_scores), cmocka_unit_test(test_slopes), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_best)};
    return cmocka_run_group_tests_name("cross", tests, NULL, NULL);
}
