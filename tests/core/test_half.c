/* Every 16-bit value there and back, and rounding against the nearest neighbours in float64. */
#include "core/half.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <math.h>

static void test_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f16 = f16_to_f32((uint16_t)h), bf16 = bf16_to_f32((uint16_t)h);
        if (isnan(f16))
            assert_true(isnan(f16_to_f32(f32_to_f16(f16))));
        else
            assert_int_equal(f32_to_f16(f16), h);
        if (isnan(bf16))
            assert_true(isnan(bf16_to_f32(f32_to_bf16(bf16))));
        else
            assert_int_equal(f32_to_bf16(bf16), h);
    }
}

static void test_known(void **state)
{
    (void)state;
    assert_int_equal(f32_to_f16(1.0f), 0x3C00);
    assert_int_equal(f32_to_f16(65504.0f), 0x7BFF);
    assert_int_equal(f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(f32_to_f16(0x1p-24f), 0x0001);
    assert_int_equal(f32_to_f16(0x1p-25f), 0x0000); /* half way: to even */
    assert_int_equal(f32_to_f16(-0x1.8p-24f), 0x8002);
    assert_int_equal(f32_to_bf16(1.0f), 0x3F80);
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3F80); /* half way: to even */
    assert_int_equal(f32_to_bf16(1.01171875f), 0x3F82);
}

/* The value chosen is at least as near as its two neighbours. */
static void check_nearest(float f, uint16_t h, float (*widen)(uint16_t))
{
    const double error = fabs((double)widen(h) - (double)f);
    for (int step = -1; step <= 1; step += 2) {
        const float other = widen((uint16_t)(h + step));
        if (isfinite(other) && signbit(other) == signbit(f))
            assert_true(error <= fabs((double)other - (double)f));
    }
}

static void test_nearest(void **state)
{
    (void)state;
    struct rng rng = rng_seed(5, 0);
    for (int i = 0; i < 1000000; i++) {
        const float f = (float)ldexp(rng_uniform(&rng) * 2 - 1, (int)(rng_next(&rng) % 42) - 26);
        if (f != 0 && fabsf(f) < 65504) {
            check_nearest(f, f32_to_f16(f), f16_to_f32);
            check_nearest(f, f32_to_bf16(f), bf16_to_f32);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_known), cmocka_unit_test(test_nearest)};
    return cmocka_run_group_tests_name("half", tests, NULL, NULL);
}
