/* Generation on packed weights, in every dtype and on every kernel that runs here: against the decoder under teacher
 * forcing, which is fed what was generated; and that neither who is decoded together nor in which order changes a bit. */
#include "core/engine.h"
#include "core/gemm.h"
#include "core/half.h"
#include "core/rng.h"
#include "core/t5_train.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More users than are in flight at a time, with states of their own to read. Their numbers are bfloat16's. */
enum { USERS = 75, MOST = 60 };
struct company {
    struct engine_summary users[USERS];
    float *states, *z;
    uint16_t *halves;
    int32_t *tokens;
};

static struct company company_make(const struct engine *engine, double spread)
{
    const struct model_config *c = &engine_model(engine)->config;
    const size_t d = c->d_model, longest = c->max_summary_tokens;
    struct rng rng = rng_seed(9, 0);
    struct company company = {.states = calloc(USERS * MOST * d, sizeof *company.states),
        .z = calloc(USERS * d, sizeof *company.z),
        .halves = calloc(USERS * MOST * d, sizeof *company.halves),
        .tokens = calloc(USERS * longest, sizeof *company.tokens)};
    const bool wide = engine_state_bytes(engine) == sizeof *company.states;
    for (size_t i = 0; i < USERS * MOST * d; i++) {
        company.halves[i] = f32_to_bf16((float)(spread * rng_normal(&rng)));
        company.states[i] = bf16_to_f32(company.halves[i]);
    }
    for (size_t u = 0; u < USERS; u++) {
        const size_t at = u * MOST * d;
        company.users[u] =
            (struct engine_summary){.states = wide ? (void *)(company.states + at) : company.halves + at,
                .state_count = 1 + rng_next(&rng) % MOST,
                .tokens = company.tokens + u * longest,
                .z = company.z + u * d};
    }
    return company;
}

static void company_drop(struct company *company)
{
    free(company->states);
    free(company->z);
    free(company->halves);
    free(company->tokens);
}

static struct engine *engine_make(const struct model *model, enum linear_dtype dtype, const char *kernel)
{
    struct engine *engine;
    struct err err = ERR_INIT;
    if (engine_new(&engine, model, dtype, kernel, &err) < 0)
        fail_msg("%s", err.message);
    return engine;
}

static void generate(
    const struct engine *engine, struct engine_summary *users, size_t count, struct engine_scratch *scratch)
{
    assert_int_equal(engine_generate(engine, users, count, scratch, NULL), 0);
}

/* ---- against the teacher ---- */

struct judge {
    const struct model *model;
    struct t5_scratch *scratch;
    struct t5_tape *tape;
    float *hidden;
    int32_t *ids;
    double difference, norm; /* squares of z's and of the judge's */
    size_t tokens, equal;    /* that the judge would have taken */
};

static size_t best_word(const struct model *model, const float *state)
{
    size_t best = 0;
    double most = -INFINITY;
    for (size_t w = 0; w < model->config.vocab_size; w++) {
        double logit = 0;
        for (size_t i = 0; i < model->config.d_model; i++)
            logit += (double)state[i] * (double)model->lm_head[w * model->config.d_model + i];
        best = logit > most ? w : best;
        most = fmax(most, logit);
    }
    return best;
}

/* Fed the generated tokens, the decoder's last state is z, and each state predicts the next token. */
static void judge_user(struct judge *j, const struct engine_summary *user, const float *states)
{
    const struct model_config *c = &j->model->config;
    const size_t d = c->d_model, offsets[2] = {0, user->token_count + 1}, sources[2] = {0, user->state_count};
    const struct t5_teacher teacher = {j->ids, offsets, states, sources, 1};
    j->ids[0] = c->decoder_start_id;
    memcpy(j->ids + 1, user->tokens, user->token_count * sizeof *j->ids);
    assert_int_equal(t5_decode_forward(
                         j->hidden, j->tape, j->model, &teacher, (struct t5_dropout){0, 0}, j->scratch, NULL),
        0);
    for (size_t i = 0; i < d; i++) {
        const double want = (double)j->hidden[user->token_count * d + i];
        j->difference += pow((double)user->z[i] - want, 2);
        j->norm += want * want;
    }
    for (size_t i = 0; i <= user->token_count; i++) {
        if (i == c->max_summary_tokens)
            continue; /* ended for want of room */
        const int32_t next = i < user->token_count ? user->tokens[i] : c->eos_id;
        j->equal += best_word(j->model, j->hidden + i * d) == (size_t)next;
        j->tokens++;
    }
}

static void judge_engine(struct judge *j, const struct engine *engine, double tolerance, double share)
{
    const size_t d = j->model->config.d_model, longest = j->model->config.max_summary_tokens;
    struct company company = company_make(engine, 1);
    struct engine_scratch *scratch;
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    assert_int_equal(t5_scratch_new(&j->scratch, NULL), 0);
    assert_int_equal(t5_tape_new(&j->tape, NULL), 0);
    j->hidden = calloc((longest + 1) * d, sizeof *j->hidden);
    j->ids = calloc(longest + 1, sizeof *j->ids);
    j->difference = j->norm = 0;
    j->tokens = j->equal = 0;
    generate(engine, company.users, USERS, scratch);
    for (size_t u = 0; u < USERS; u++)
        judge_user(j, &company.users[u], company.states + u * MOST * d);
    const double error = sqrt(j->difference / j->norm);
    print_message("%-9s %-12s %.1e %zu of %zu tokens\n", linear_dtype_name(engine_dtype(engine)),
        engine_kernel(engine), error, j->equal, j->tokens);
    assert_true(error < tolerance);
    assert_true((double)j->equal >= share * (double)j->tokens);
    t5_tape_free(j->tape);
    t5_scratch_free(j->scratch);
    engine_scratch_free(scratch);
    company_drop(&company);
    free(j->hidden);
    free(j->ids);
}

static struct model *tiny, *gated;

/* Relative, Frobenius, of all users' z. Each token is judged given those before it, so that one which is nearly as likely as
 * another counts once. The models are not trained: what rounding does to them is what it does to random weights. */
static void test_against_teacher(void **state)
{
    (void)state;
    const double tolerance[LINEAR_DTYPES] = {2e-6, 2e-2, 2e-2}, share[LINEAR_DTYPES] = {1, 0.97, 0.97};
    const struct model *const models[] = {tiny, gated};
    for (size_t m = 0; m < 2; m++) {
        struct judge judge = {.model = models[m]};
        for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
            for (size_t i = 0; linear_kernel_name(i); i++) {
                if (!linear_kernel_runs(i, dtype))
                    continue;
                struct engine *engine = engine_make(models[m], dtype, linear_kernel_name(i));
                judge_engine(&judge, engine, tolerance[dtype], share[dtype]);
                engine_free(engine);
            }
    }
}

/* ---- determinism ---- */

static void assert_same(
    const struct engine_summary *got, const struct engine_summary *want, const struct model *model)
{
    assert_int_equal(got->token_count, want->token_count);
    assert_memory_equal(got->tokens, want->tokens, want->token_count * sizeof *want->tokens);
    assert_memory_equal(got->z, want->z, model->config.d_model * sizeof *want->z);
}

/* All users together; each alone; shuffled, in calls of random numbers of users. */
static void check_company(const struct engine *engine)
{
    const struct model *model = engine_model(engine);
    struct rng rng = rng_seed(10, 0);
    struct engine_scratch *scratch;
    struct company company = company_make(engine, 3), other = company_make(engine, 3);
    size_t order[USERS], least = SIZE_MAX, most = 0;
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    generate(engine, company.users, USERS, scratch);
    for (size_t u = 0; u < USERS; u++) {
        const size_t length = company.users[u].token_count;
        generate(engine, &other.users[u], 1, scratch);
        assert_same(&other.users[u], &company.users[u], model);
        least = length < least ? length : least;
        most = length > most ? length : most;
        order[u] = u;
    }
    assert_true(least < most && most == model->config.max_summary_tokens);
    for (size_t u = USERS; u-- > 1;) {
        const size_t k = rng_next(&rng) % (u + 1), kept = order[u];
        const struct engine_summary user = other.users[u];
        order[u] = order[k];
        order[k] = kept;
        other.users[u] = other.users[k];
        other.users[k] = user;
    }
    for (size_t done = 0, count; done < USERS; done += count) {
        count = 1 + rng_next(&rng) % (USERS - done);
        generate(engine, other.users + done, count, scratch);
    }
    for (size_t u = 0; u < USERS; u++)
        assert_same(&other.users[u], &company.users[order[u]], model);
    engine_scratch_free(scratch);
    company_drop(&company);
    company_drop(&other);
}

static void test_company_does_not_matter(void **state)
{
    (void)state;
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 0; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            struct engine *engine = engine_make(tiny, dtype, linear_kernel_name(i));
            check_company(engine);
            engine_free(engine);
        }
}

/* Nothing is summarised by nobody. */
static void test_no_users(void **state)
{
    (void)state;
    struct engine_scratch *scratch;
    struct engine *engine = engine_make(tiny, LINEAR_F32, NULL);
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    generate(engine, NULL, 0, scratch);
    engine_scratch_free(scratch);
    engine_free(engine);
}

/* The token that a user's summary begins with. */
static int32_t first_token(const struct model *model, enum linear_dtype dtype)
{
    struct engine_scratch *scratch;
    struct engine *engine = engine_make(model, dtype, NULL);
    struct company company = company_make(engine, 1);
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    generate(engine, company.users, 1, scratch);
    assert_true(company.users[0].token_count > 0);
    const int32_t token = company.users[0].tokens[0];
    engine_scratch_free(scratch);
    company_drop(&company);
    engine_free(engine);
    return token;
}

/* The vocabulary is more than is looked at at a time: the likeliest is found to the last word, and the first of equals. */
static void test_every_word(void **state)
{
    (void)state;
    const size_t d = gated->config.d_model, last = gated->config.vocab_size - 1;
    float *words = gated->params + (gated->lm_head - gated->params);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        const int32_t token = first_token(gated, dtype);
        float *kept = malloc((last + 1) * d * sizeof *kept);
        assert_true(token > 0 && (size_t)token < last);
        memcpy(kept, words, (last + 1) * d * sizeof *kept);
        const float *likeliest = kept + (size_t)token * d;
        memcpy(words + last * d, likeliest, d * sizeof *words);
        assert_int_equal(first_token(gated, dtype), token);
        memcpy(words, likeliest, d * sizeof *words);
        assert_int_equal(first_token(gated, dtype), 0);
        for (size_t i = 0; i < d; i++)
            words[last * d + i] = 2 * likeliest[i];
        assert_int_equal(first_token(gated, dtype), last);
        memcpy(words, kept, (last + 1) * d * sizeof *kept);
        free(kept);
    }
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char config[] =
        "{\"model_type\": \"t5\", \"d_model\": 20, \"d_kv\": 6, \"d_ff\": 31, \"num_heads\": 3, "
        "\"num_layers\": 1, \"num_decoder_layers\": 2, \"vocab_size\": 9001, "
        "\"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
        "\"embsum\": {\"max_summary_tokens\": 20, \"sos_token_id\": 8000}}";
    char folder[256];
    scratch_make(folder);
    const int result =
        gemm_init(&err) < 0 || model_load(&tiny, "tests/golden/tiny", NULL, &err) < 0 ||
        model_init(&gated, scratch_write(folder, "config.json", config, sizeof config - 1), 3, &err) < 0;
    scratch_remove(folder);
    if (result)
        print_error("%s\n", err.message);
    return -result;
}

static int teardown(void **state)
{
    (void)state;
    model_free(tiny);
    model_free(gated);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_teacher),
        cmocka_unit_test(test_company_does_not_matter), cmocka_unit_test(test_no_users),
        cmocka_unit_test(test_every_word)};
    return cmocka_run_group_tests_name("generate", tests, setup, teardown);
}
