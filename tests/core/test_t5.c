/* Relative position buckets against PyTorch's (tests/golden/buckets.txt), and what must not matter to T5: how sequences
 * are packed. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/t5.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model *model;

static void test_buckets(void **state)
{
    (void)state;
    FILE *file = fopen("tests/golden/buckets.txt", "r");
    int bidirectional, buckets, distance, lines = 0;
    assert_non_null(file);
    while (fscanf(file, "%d %d %d", &bidirectional, &buckets, &distance) == 3) {
        for (long relative = -300; relative <= 300; relative++) {
            int want;
            assert_int_equal(fscanf(file, "%d", &want), 1);
            const size_t got = t5_bucket(relative, bidirectional != 0, (size_t)buckets, (size_t)distance);
            if (got != (size_t)want)
                fail_msg("%d %d %d at %ld: %zu instead of %d", bidirectional, buckets, distance, relative,
                    got, want);
        }
        lines++;
    }
    fclose(file);
    assert_true(lines >= 6);
}

static double distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(difference / norm);
}

static void test_packing_does_not_matter(void **state)
{
    (void)state;
    enum { SEQUENCES = 9, MOST = 150 };
    const size_t d = model->config.d_model;
    struct t5_scratch *scratch;
    struct rng rng = rng_seed(8, 0);
    size_t offsets[SEQUENCES + 1] = {0};
    int32_t ids[SEQUENCES * MOST];
    for (size_t s = 0; s < SEQUENCES; s++)
        offsets[s + 1] = offsets[s] + 1 + rng_next(&rng) % MOST;
    for (size_t i = 0; i < offsets[SEQUENCES]; i++)
        ids[i] = (int32_t)(rng_next(&rng) % model->config.vocab_size);
    float *packed = calloc(offsets[SEQUENCES] * d, sizeof *packed), *alone = calloc(MOST * d, sizeof *alone);
    assert_int_equal(t5_scratch_new(&scratch, NULL), 0);
    assert_int_equal(t5_encode(packed, model, ids, offsets, SEQUENCES, scratch, NULL), 0);
    for (size_t s = 0; s < SEQUENCES; s++) {
        const size_t one[2] = {0, offsets[s + 1] - offsets[s]};
        assert_int_equal(t5_encode(alone, model, ids + offsets[s], one, 1, scratch, NULL), 0);
        assert_true(distance(packed + offsets[s] * d, alone, one[1] * d) < 1e-5);
    }
    t5_scratch_free(scratch);
    free(packed);
    free(alone);
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0 || model_load(&model, "tests/golden/tiny", NULL, &err) < 0) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_free(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets), cmocka_unit_test(test_packing_does_not_matter)};
    return cmocka_run_group_tests_name("t5", tests, setup, teardown);
}
