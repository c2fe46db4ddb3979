/* Relative position buckets against PyTorch's (tests/golden/buckets.txt), and what must not matter to T5: how sequences
 * are packed, and who is decoded together. */
#include "core/gemm.h"
#include "core/half.h"
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

/* Users with sources of their own: some numbers to read, room for what is written. */
enum { USERS = 75, MOST = 60 };
struct company {
    struct t5_summary users[USERS];
    float *source, *z;
    uint16_t *halves;
    int32_t *tokens;
};

/* More users than are in flight at a time. Their numbers are bfloat16's. */
static struct company company_make(double spread)
{
    const size_t d = model->config.d_model, longest = model->config.max_summary_tokens;
    struct rng rng = rng_seed(9, 0);
    struct company company = {.source = calloc(USERS * MOST * d, sizeof *company.source),
        .z = calloc(USERS * d, sizeof *company.z),
        .halves = calloc(USERS * MOST * d, sizeof *company.halves),
        .tokens = calloc(USERS * longest, sizeof *company.tokens)};
    for (size_t i = 0; i < USERS * MOST * d; i++) {
        company.halves[i] = f32_to_bf16((float)(spread * rng_normal(&rng)));
        company.source[i] = bf16_to_f32(company.halves[i]);
    }
    for (size_t u = 0; u < USERS; u++)
        company.users[u] = (struct t5_summary){
            .source = {company.source + u * MOST * d, 1 + rng_next(&rng) % MOST, CROSS_F32},
            .tokens = company.tokens + u * longest,
            .z = company.z + u * d};
    return company;
}

static void company_drop(struct company *company)
{
    free(company->source);
    free(company->z);
    free(company->halves);
    free(company->tokens);
}

static void assert_same(const struct t5_summary *got, const struct t5_summary *want)
{
    assert_int_equal(got->token_count, want->token_count);
    assert_memory_equal(got->tokens, want->tokens, want->token_count * sizeof *want->tokens);
    assert_true(distance(got->z, want->z, model->config.d_model) < 1e-5);
}

static void test_company_does_not_matter(void **state)
{
    (void)state;
    struct t5_scratch *scratch;
    struct company company = company_make(3), other = company_make(3);
    size_t lengths[2] = {SIZE_MAX, 0};
    assert_int_equal(t5_scratch_new(&scratch, NULL), 0);
    assert_int_equal(t5_generate(company.users, USERS, model, scratch, NULL), 0);
    for (size_t u = 0; u < USERS; u++) { /* alone */
        const struct t5_summary *user = &company.users[u];
        assert_int_equal(t5_generate(&other.users[u], 1, model, scratch, NULL), 0);
        assert_same(&other.users[u], user);
        lengths[0] = user->token_count < lengths[0] ? user->token_count : lengths[0];
        lengths[1] = user->token_count > lengths[1] ? user->token_count : lengths[1];
    }
    assert_true(lengths[0] < lengths[1] && lengths[1] == model->config.max_summary_tokens);
    for (size_t u = 0; u < USERS / 2; u++) { /* in another order */
        const struct t5_summary swapped = other.users[u];
        other.users[u] = other.users[USERS - 1 - u];
        other.users[USERS - 1 - u] = swapped;
    }
    assert_int_equal(t5_generate(other.users, USERS, model, scratch, NULL), 0);
    for (size_t u = 0; u < USERS; u++)
        assert_same(&other.users[USERS - 1 - u], &company.users[u]);
    t5_scratch_free(scratch);
    company_drop(&company);
    company_drop(&other);
}

/* Nothing is summarised by nobody. */
static void test_no_users(void **state)
{
    (void)state;
    struct t5_scratch *scratch;
    assert_int_equal(t5_scratch_new(&scratch, NULL), 0);
    assert_int_equal(t5_generate(NULL, 0, model, scratch, NULL), 0);
    t5_scratch_free(scratch);
}

/* The same numbers in bfloat16: what the processor rounds on the way is all that may differ. */
static void test_half_sources(void **state)
{
    (void)state;
    struct t5_scratch *scratch;
    struct company wide = company_make(1), half = company_make(1);
    size_t same = 0;
    double worst = 0;
    assert_int_equal(t5_scratch_new(&scratch, NULL), 0);
    for (size_t u = 0; u < USERS; u++) {
        if (u % 3 == 0)
            continue;
        half.users[u].source.dtype = CROSS_BF16;
        half.users[u].source.states = half.halves + u * MOST * model->config.d_model;
    }
    assert_int_equal(t5_generate(wide.users, USERS, model, scratch, NULL), 0);
    assert_int_equal(t5_generate(half.users, USERS, model, scratch, NULL), 0);
    for (size_t u = 0; u < USERS; u++) {
        const struct t5_summary *got = &half.users[u], *want = &wide.users[u];
        if (u % 3 == 0)
            assert_same(got, want);
        if (got->token_count != want->token_count ||
            memcmp(got->tokens, want->tokens, want->token_count * sizeof *want->tokens) != 0)
            continue; /* two tokens were nearly as likely */
        same++;
        worst = fmax(worst, distance(got->z, want->z, model->config.d_model));
    }
    print_message(
        "%zu of %d users with the same tokens, worst relative error of z %.1e\n", same, USERS, worst);
    assert_true(same >= USERS * 9 / 10);
    assert_true(worst < 1e-2);
    t5_scratch_free(scratch);
    company_drop(&wide);
    company_drop(&half);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_packing_does_not_matter), cmocka_unit_test(test_company_does_not_matter),
        cmocka_unit_test(test_no_users), cmocka_unit_test(test_half_sources)};
    return cmocka_run_group_tests_name("t5", tests, setup, teardown);
}
