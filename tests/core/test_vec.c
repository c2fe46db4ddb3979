/* The elementwise kernels against float64. */
#include "core/rng.h"
#include "core/vec.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <string.h>

enum { MOST = 600 };

static void fill(struct rng *rng, float *x, size_t count, double scale)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(scale * rng_normal(rng));
}

static void test_softmax(void **state)
{
    (void)state;
    struct rng rng = rng_seed(3, 0);
    float x[MOST], bias[MOST], got[MOST];
    for (int i = 0; i < 2000; i++) {
        const size_t count = 1 + rng_next(&rng) % MOST;
        fill(&rng, x, count, pow(10, rng_uniform(&rng) * 4 - 2));
        fill(&rng, bias, count, 1);
        memcpy(got, x, sizeof got);
        vec_softmax(got, i % 2 ? bias : NULL, count);
        double top = -INFINITY, sum = 0, total = 0;
        for (size_t k = 0; k < count; k++) {
            x[k] += i % 2 ? bias[k] : 0;
            top = fmax(top, (double)x[k]);
        }
        for (size_t k = 0; k < count; k++)
            sum += exp((double)x[k] - top);
        for (size_t k = 0; k < count; k++) {
            const double want = exp((double)x[k] - top) / sum;
            /* float32's exponent x is itself rounded to |x| 2^-24: that much of e^x is unknown */
            assert_true(fabs((double)got[k] - want) <= want * (1e-6 + 1.2e-7 * (top - (double)x[k])) + 1e-37);
            total += (double)got[k];
        }
        assert_true(fabs(total - 1) < 1e-5);
    }
}

static void test_combine(void **state)
{
    (void)state;
    enum { ROWS = 70, WIDTH = 150 };
    struct rng rng = rng_seed(5, 0);
    float weights[ROWS], rows[ROWS * WIDTH], got[WIDTH + 1];
    for (int i = 0; i < 500; i++) {
        const size_t count = rng_next(&rng) % (ROWS + 1), width = 1 + rng_next(&rng) % WIDTH,
                     stride = width + rng_next(&rng) % (WIDTH + 1 - width);
        fill(&rng, weights, ROWS, 1);
        fill(&rng, rows, ROWS * WIDTH, 1);
        got[width] = 7;
        vec_combine(got, weights, rows, stride, count, width);
        for (size_t k = 0; k < width; k++) {
            double want = 0;
            for (size_t r = 0; r < count; r++)
                want += (double)weights[r] * (double)rows[r * stride + k];
            assert_true(fabs((double)got[k] - want) <= 1e-5);
        }
        assert_true(got[width] == 7);
    }
}

static void test_rms_norm(void **state)
{
    (void)state;
    struct rng rng = rng_seed(4, 0);
    float x[3 * MOST], weight[MOST], got[3 * MOST];
    for (int i = 0; i < 500; i++) {
        const size_t d = 1 + rng_next(&rng) % MOST;
        fill(&rng, x, 3 * d, 2);
        fill(&rng, weight, d, 1);
        vec_rms_norm(got, x, weight, 3, d, 1e-6f);
        for (size_t r = 0; r < 3; r++) {
            double sum = 0;
            for (size_t k = 0; k < d; k++)
                sum += (double)x[r * d + k] * (double)x[r * d + k];
            for (size_t k = 0; k < d; k++) {
                const double want = (double)weight[k] * (double)x[r * d + k] / sqrt(sum / (double)d + 1e-6);
                assert_true(fabs((double)got[r * d + k] - want) <= 1e-6 * fabs(want) + 1e-30);
            }
        }
    }
}

static void test_tanh(void **state)
{
    (void)state;
    struct rng rng = rng_seed(5, 0);
    float x[MOST], got[MOST];
    for (int i = 0; i < 500; i++) {
        fill(&rng, x, MOST, pow(10, rng_uniform(&rng) * 6 - 4));
        x[0] = 0.25f;
        x[1] = 0.0f;
        memcpy(got, x, sizeof got);
        vec_tanh(got, MOST);
        for (size_t k = 0; k < MOST; k++)
            assert_true(fabs((double)got[k] - tanh((double)x[k])) <= 3e-7 * fabs(tanh((double)x[k])));
    }
}

static void test_square_sum(void **state)
{
    (void)state;
    struct rng rng = rng_seed(6, 0);
    float x[9000];
    for (size_t count = 0; count < 9000; count += 997) {
        double want = 0;
        fill(&rng, x, count, 3);
        for (size_t i = 0; i < count; i++)
            want += (double)x[i] * (double)x[i];
        assert_true(fabs(vec_square_sum(x, count) - want) <= 1e-6 * want);
    }
}

static void test_gated_gelu(void **state)
{
    (void)state;
    struct rng rng = rng_seed(6, 0);
    float x[4 * MOST], got[2 * MOST];
    for (int i = 0; i < 500; i++) {
        const size_t d = 1 + rng_next(&rng) % MOST;
        fill(&rng, x, 4 * d, i % 2 ? 1 : 20);
        vec_gated_gelu(got, x, 2, d);
        for (size_t r = 0; r < 2; r++)
            for (size_t k = 0; k < d; k++) {
                const double g = (double)x[r * 2 * d + k], l = (double)x[r * 2 * d + d + k];
                const double want = 0.5 * g * (1 + tanh(sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * l;
                assert_true(fabs((double)got[r * d + k] - want) <= 2e-6 * fabs(g * l) + 1e-30);
            }
    }
}

static void test_small_ones(void **state)
{
    (void)state;
    float x[5] = {-1, 2, 0, 5, 5}, y[5] = {1, 1, 1, 1, 1};
    assert_int_equal(vec_argmax(x, 5), 3); /* the first among equals */
    assert_int_equal(vec_argmax(x, 1), 0);
    vec_add_scaled(y, 2, x, 5);
    assert_true(y[0] == -1 && y[1] == 5 && y[4] == 11);
    vec_add(y, x, 5);
    assert_true(y[0] == -2 && y[4] == 16);
    vec_relu(x, 5);
    assert_true(x[0] == 0 && x[1] == 2 && x[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_combine), cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_rms_norm), cmocka_unit_test(test_tanh), cmocka_unit_test(test_square_sum),
        cmocka_unit_test(test_gated_gelu), cmocka_unit_test(test_small_ones)};
    return cmocka_run_group_tests_name("vec", tests, NULL, NULL);
}
