/* Every kernel of core/linear.h and core/attention.h against the plain one, in every dtype, at sizes that fill tiles,
 * panels and vectors and at sizes that do not; and that a row's result is the same bytes wherever the row stands. */
#include "core/array.h"
#include "core/attention.h"
#include "core/half.h"
#include "core/linear.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *normals(struct rng *rng, size_t count, double deviation)
{
    float *x = array_floats(count, false);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(rng_normal(rng) * deviation);
    return x;
}

static double distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

/* ---- products ---- */

/* A matrix beside rows of x, made by one kernel. */
struct side {
    struct linear *linear;
    struct linear_rows rows;
    float *y;
};

enum { Y_PAD = 3 }; /* floats between two rows of y, which nobody may touch */
static const float UNTOUCHED = 77;

static void side_make(struct side *side, enum linear_dtype dtype, const char *kernel, const float *w,
    size_t outputs, size_t inputs, bool transposed, size_t count)
{
    const struct linear_weight weight = {
        w, outputs, inputs, transposed ? 1 : inputs, transposed ? outputs : 1};
    struct err err = ERR_INIT;
    if (linear_new(&side->linear, dtype, kernel, &weight, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(linear_kernel(side->linear), kernel);
    const size_t stride = linear_stride(dtype, inputs), size = count * (outputs + Y_PAD);
    side->rows = (struct linear_rows){
        (uint32_t *)array_floats(count * stride, true), stride, array_floats(count, true), false};
    side->y = array_floats(size, false);
    for (size_t i = 0; i < size; i++)
        side->y[i] = UNTOUCHED;
}

static void side_done(struct side *side)
{
    linear_free(side->linear);
    free(side->rows.units);
    free(side->rows.scales);
    free(side->y);
}

enum maker { CONVERT, NORM, RELU, GATED, MAKERS };

static void fill(
    struct side *side, enum maker maker, const float *x, const float *weight, size_t inputs, size_t count)
{
    if (maker == CONVERT)
        linear_convert(&side->rows, side->linear, x, 2 * inputs, count);
    else if (maker == NORM)
        linear_norm(&side->rows, side->linear, x, weight, 1e-6f, count);
    else
        linear_activate(&side->rows, side->linear, x, 2 * inputs, maker == GATED, count);
}

/* A rounding to bfloat16 or int8 may fall to the other side, hence more than float32's error for those. */
static const double tolerance[LINEAR_DTYPES] = {1e-6, 1e-3, 2e-3};

static void check_store(struct side *fast, struct side *plain, size_t outputs, size_t count, double most)
{
    for (enum linear_store store = LINEAR_SET; store <= LINEAR_RELU; store++) {
        for (int bf16 = 0; bf16 <= (store != LINEAR_ADD); bf16++) {
            float *wide[2] = {NULL, NULL};
            struct side *const sides[2] = {fast, plain};
            for (int s = 0; s < 2; s++) {
                const struct linear_out out = {sides[s]->y, outputs + Y_PAD, store, bf16};
                wide[s] = calloc(count * outputs, sizeof **wide);
                for (size_t i = 0; i < count * (outputs + Y_PAD); i++)
                    sides[s]->y[i] = UNTOUCHED;
                linear_apply(&out, sides[s]->linear, &sides[s]->rows, count);
                for (size_t r = 0; r < count; r++)
                    for (size_t o = 0; o < outputs + Y_PAD; o++) {
                        const size_t at = r * (outputs + Y_PAD) + o;
                        const float value =
                            bf16 ? bf16_to_f32(((const uint16_t *)sides[s]->y)[at]) : sides[s]->y[at];
                        if (o < outputs)
                            wide[s][r * outputs + o] = value - (store == LINEAR_ADD ? UNTOUCHED : 0.0f);
                        else if (!bf16)
                            assert_true(value == UNTOUCHED);
                    }
            }
            const double limit = bf16 ? fmax(most, 1e-3) : store == LINEAR_ADD ? fmax(most, 1e-5) : most;
            const double found = distance(wide[0], wide[1], count * outputs);
            if (!(found <= limit))
                fail_msg("%s %zu x %zu, store %d, bf16 %d: %g", linear_kernel(fast->linear), count, outputs,
                    (int)store, bf16, found);
            free(wide[0]);
            free(wide[1]);
        }
    }
}

static void check_product(
    enum linear_dtype dtype, const char *kernel, size_t outputs, size_t inputs, size_t count, struct rng *rng)
{
    const bool transposed = rng_next(rng) % 2;
    float *w = normals(rng, outputs * inputs, 1), *x = normals(rng, count * 2 * inputs, 1),
          *weight = normals(rng, inputs, 1);
    for (enum maker maker = CONVERT; maker < MAKERS; maker++) {
        struct side fast, plain;
        side_make(&fast, dtype, kernel, w, outputs, inputs, transposed, count);
        side_make(&plain, dtype, "plain", w, outputs, inputs, transposed, count);
        fill(&fast, maker, x, weight, inputs, count);
        fill(&plain, maker, x, weight, inputs, count);
        check_store(&fast, &plain, outputs, count, tolerance[dtype]);
        side_done(&fast);
        side_done(&plain);
    }
    free(w);
    free(x);
    free(weight);
}

static void test_products(void **state)
{
    (void)state;
    static const struct {
        size_t outputs, inputs, count;
    } sizes[] = {{1, 1, 1}, {3, 5, 2}, {32, 8, 12}, {33, 37, 13}, {64, 64, 25}, {95, 129, 11}, {31, 130, 40},
        {160, 512, 7}};
    struct rng rng = rng_seed(11, 0);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 1; linear_kernel_name(i); i++)
            for (size_t s = 0; linear_kernel_runs(i, dtype) && s < sizeof sizes / sizeof *sizes; s++)
                check_product(
                    dtype, linear_kernel_name(i), sizes[s].outputs, sizes[s].inputs, sizes[s].count, &rng);
}

/* How far each dtype is from the numbers it was given, as float64 multiplies them. */
static void test_errors(void **state)
{
    (void)state;
    enum { OUTPUTS = 96, INPUTS = 512, COUNT = 48 };
    static const double most[LINEAR_DTYPES] = {1e-6, 4e-3, 1.6e-2};
    struct rng rng = rng_seed(12, 0);
    float *w = normals(&rng, OUTPUTS * INPUTS, 1), *x = normals(&rng, COUNT * 2 * INPUTS, 1);
    float *exact = calloc(COUNT * OUTPUTS, sizeof *exact);
    for (size_t r = 0; r < COUNT; r++)
        for (size_t o = 0; o < OUTPUTS; o++) {
            double sum = 0;
            for (size_t k = 0; k < INPUTS; k++)
                sum += (double)x[r * 2 * INPUTS + k] * (double)w[o * INPUTS + k];
            exact[r * OUTPUTS + o] = (float)sum;
        }
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 0; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            struct side side;
            side_make(&side, dtype, linear_kernel_name(i), w, OUTPUTS, INPUTS, false, COUNT);
            fill(&side, CONVERT, x, NULL, INPUTS, COUNT);
            linear_apply(
                &(struct linear_out){side.y, OUTPUTS, LINEAR_SET, false}, side.linear, &side.rows, COUNT);
            const double found = distance(side.y, exact, COUNT * OUTPUTS);
            print_message("%-9s %-12s %.1e\n", linear_dtype_name(dtype), linear_kernel_name(i), found);
            assert_true(found < most[dtype]);
            side_done(&side);
        }
    free(w);
    free(x);
    free(exact);
}

/* A row alone, among any number of others and at any place gives the same bytes. */
static void test_company_does_not_matter(void **state)
{
    (void)state;
    enum { OUTPUTS = 80, INPUTS = 204, COUNT = 61 };
    struct rng rng = rng_seed(13, 0);
    float *w = normals(&rng, OUTPUTS * INPUTS, 1), *x = normals(&rng, COUNT * 2 * INPUTS, 1);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 1; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            struct side all, some;
            side_make(&all, dtype, linear_kernel_name(i), w, OUTPUTS, INPUTS, false, COUNT);
            side_make(&some, dtype, linear_kernel_name(i), w, OUTPUTS, INPUTS, false, COUNT);
            const struct linear_out out = {all.y, OUTPUTS, LINEAR_SET, false},
                                    part = {some.y, OUTPUTS, LINEAR_SET, false};
            fill(&all, CONVERT, x, NULL, INPUTS, COUNT);
            linear_apply(&out, all.linear, &all.rows, COUNT);
            for (size_t first = 0; first < COUNT; first += 5)
                for (size_t count = 1; first + count <= COUNT; count += 1 + count / 2) {
                    fill(&some, CONVERT, x + first * 2 * INPUTS, NULL, INPUTS, count);
                    linear_apply(&part, some.linear, &some.rows, count);
                    assert_memory_equal(some.y, all.y + first * OUTPUTS, count * OUTPUTS * sizeof *some.y);
                }
            side_done(&all);
            side_done(&some);
        }
    free(w);
    free(x);
}

/* ---- attention ---- */

static uint16_t *rounded(const float *x, size_t count)
{
    uint16_t *halves = malloc(count * sizeof *halves);
    for (size_t i = 0; i < count; i++)
        halves[i] = f32_to_bf16(x[i]);
    return halves;
}

static void check_attention(bool bf16, size_t i, size_t length, size_t d_kv, struct rng *rng)
{
    const size_t stride = 3 * d_kv + 5, most = 2 * length + ATTENTION_PAD;
    float *qkv = normals(rng, length * stride, 1 / sqrt(sqrt((double)d_kv))), *bias = normals(rng, most, 1);
    uint16_t *halves = rounded(qkv, length * stride);
    float *context = calloc(2 * length * d_kv, sizeof *context);
    void *scratch = array_floats(attention_scratch(length, d_kv) / sizeof(float), false);
    memset(scratch, 0xff, attention_scratch(length, d_kv)); /* NaN */
    struct attention a = {
        length, d_kv, qkv, qkv + d_kv, qkv + 2 * d_kv, stride, bias + length - 1, context, d_kv};
    if (bf16) {
        a.q = halves;
        a.k = halves + d_kv;
        a.v = halves + 2 * d_kv;
    }
    const struct linear_kernel *kernel, *plain;
    bool got;
    kernel = attention_choose(&got, bf16, linear_kernel_name(i));
    assert_int_equal(got, bf16);
    plain = attention_choose(&got, bf16, "plain");
    assert_int_equal(got, bf16);
    attention_run(kernel, bf16, &a, scratch);
    a.context = context + length * d_kv;
    attention_run(plain, bf16, &a, scratch);
    const double found = distance(context, a.context, length * d_kv);
    if (!(found <= (bf16 ? 3e-3 : 2e-6)))
        fail_msg("%s, %zu x %zu, bf16 %d: %g", linear_kernel_name(i), length, d_kv, bf16, found);
    free(qkv);
    free(bias);
    free(halves);
    free(context);
    free(scratch);
}

static void test_attention(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 5, 12, 16, 31, 33, 64, 70, 130}, widths[] = {1, 7, 8, 33, 64};
    struct rng rng = rng_seed(14, 0);
    for (int bf16 = 0; bf16 <= 1; bf16++)
        for (size_t i = 1; linear_kernel_name(i); i++)
            for (size_t l = 0; attention_kernel_runs(i, bf16) && l < sizeof lengths / sizeof *lengths; l++)
                for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
                    check_attention(bf16, i, lengths[l], widths[w], &rng);
}

static void test_names(void **state)
{
    (void)state;
    const float one = 1;
    const struct linear_weight weight = {&one, 1, 1, 1, 1}, huge = {&one, 65537, 1, 0, 0};
    struct linear *linear;
    enum linear_dtype dtype;
    struct err err = ERR_INIT;
    assert_int_equal(linear_new(&linear, LINEAR_F32, "none", &weight, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "plain, portable"));
    assert_int_equal(linear_new(&linear, LINEAR_F32, NULL, &huge, &err), -ERR_INVALID);
    assert_int_equal(linear_dtype_parse(&dtype, "float16", &err), -ERR_INVALID);
    for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++) {
        assert_int_equal(linear_dtype_parse(&dtype, linear_dtype_name(i), NULL), 0);
        assert_int_equal(dtype, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_company_does_not_matter), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_names)};
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
