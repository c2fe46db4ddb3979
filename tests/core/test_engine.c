/* The engine against t5_encode() and poly_attend(), in every dtype and on every kernel that runs here; that what is
 * beside a text, a session or a user changes no bit of its result; and that kept states give what fresh ones give. */
#include "core/encode.h"
#include "core/gemm.h"
#include "core/poly.h"
#include "core/rng.h"
#include "core/t5.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The golden one, whose feed-forward is T5 v1.0's, and one of random weights with v1.1's gated one. */
enum { MODELS = 2 };
static struct model *models[MODELS], *model;

static double distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(difference / norm);
}

static struct engine *engine_make(enum linear_dtype dtype, const char *kernel)
{
    struct engine *engine;
    struct err err = ERR_INIT;
    if (engine_new(&engine, model, dtype, kernel, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(engine_dtype(engine), dtype);
    assert_string_equal(engine_kernel(engine), kernel);
    return engine;
}

/* ---- texts ---- */

enum { TEXTS = 64, MOST = 150 }; /* more tokens than the engine takes through the layers at once */

static int32_t ids[TEXTS * MOST];
static size_t offsets[TEXTS + 1];
static struct encode_item texts[TEXTS];

static void make_texts(uint64_t seed)
{
    struct rng rng = rng_seed(seed, 0);
    for (size_t i = 0; i < TEXTS * MOST; i++)
        ids[i] = (int32_t)(rng_next(&rng) % model->config.vocab_size);
    for (size_t i = 0; i < TEXTS; i++) {
        const size_t length = 1 + rng_next(&rng) % (i % 3 ? 40 : MOST);
        offsets[i + 1] = offsets[i] + length;
        texts[i] = (struct encode_item){ids + offsets[i], length};
    }
    assert_true(offsets[TEXTS] > 2048);
}

/* ---- errors ---- */

/* Relative, Frobenius, without and with a gate, whose products have longer tails to quantise. The plain kernel, which
 * multiplies what was quantised in float64, lies as far off: it is the dtype that costs this, on weights of width 32. */
static const double tolerance[2][LINEAR_DTYPES] = {{2e-6, 1e-2, 3e-2}, {2e-6, 1.2e-2, 4e-2}};

static void check_states(const struct engine *engine, const float *want, double *worst)
{
    const size_t d = model->config.d_model, tokens = offsets[TEXTS];
    struct engine_scratch *scratch;
    struct engine_sequence sequences[TEXTS];
    float *got = calloc(tokens * d, sizeof *got);
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    for (size_t i = 0; i < TEXTS; i++)
        sequences[i] = (struct engine_sequence){texts[i].ids, texts[i].count, got + offsets[i] * d, NULL};
    assert_int_equal(engine_encode(engine, sequences, TEXTS, scratch, NULL), 0);
    *worst = fmax(*worst, distance(got, want, tokens * d));
    engine_scratch_free(scratch);
    free(got);
}

static void check_poly(const struct engine *engine)
{
    const size_t d = model->config.d_model, p = model->config.code_dim, most = 40;
    struct rng rng = rng_seed(22, 0);
    struct engine_scratch *scratch;
    float *z = calloc(offsets[TEXTS] * d, sizeof *z), *got = calloc(TEXTS * most * d, sizeof *got),
          *want = calloc(TEXTS * most * d, sizeof *want);
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    for (size_t i = 0; i < offsets[TEXTS] * d; i++)
        z[i] = (float)rng_normal(&rng);
    for (enum engine_head head = ENGINE_USER; head < ENGINE_HEADS; head++) {
        const bool user = head == ENGINE_USER;
        const size_t k = user ? model_m(&model->config) : model_n(&model->config);
        float *memory = calloc(poly_scratch(offsets, TEXTS, k, p), sizeof *memory);
        assert_true(k <= most);
        poly_attend(want, z, offsets, TEXTS, user ? model->user_codes : model->content_codes,
            user ? model->user_proj : model->content_proj, k, p, d, memory);
        assert_int_equal(engine_attend(got, NULL, engine, head, z, offsets, TEXTS, scratch, NULL), 0);
        assert_true(distance(got, want, TEXTS * k * d) < 2e-6);
        free(memory);
    }
    engine_scratch_free(scratch);
    free(z);
    free(got);
    free(want);
}

static void check_against_gemm(void)
{
    struct t5_scratch *scratch;
    float *want = calloc(offsets[TEXTS] * model->config.d_model, sizeof *want);
    assert_int_equal(t5_scratch_new(&scratch, NULL), 0);
    assert_int_equal(t5_encode(want, model, ids, offsets, TEXTS, scratch, NULL), 0);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        for (size_t i = 0; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            double worst = 0;
            struct engine *engine = engine_make(dtype, linear_kernel_name(i));
            check_states(engine, want, &worst);
            check_poly(engine);
            print_message("%-5s %-9s %-12s %.1e\n", model->config.gated ? "gated" : "relu",
                linear_dtype_name(dtype), linear_kernel_name(i), worst);
            assert_true(worst < tolerance[model->config.gated][dtype]);
            engine_free(engine);
        }
    }
    t5_scratch_free(scratch);
    free(want);
}

static void test_against_gemm(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        model = models[i];
        check_against_gemm();
    }
}

/* ---- determinism ---- */

/* Every text alone, all together, and in shuffled calls of random numbers of texts. */
static void check_contents(const struct engine *engine)
{
    const size_t size = model_n(&model->config) * model->config.d_model;
    struct rng rng = rng_seed(23, 0);
    struct encoder *encoder;
    struct encode_item some[TEXTS];
    size_t order[TEXTS];
    float *all = calloc(TEXTS * size, sizeof *all), *got = calloc(TEXTS * size, sizeof *got);
    assert_int_equal(encoder_new(&encoder, engine, NULL), 0);
    assert_int_equal(encode_contents(all, encoder, texts, TEXTS, NULL), 0);
    assert_int_equal(encoder_tokens(encoder), offsets[TEXTS]);
    for (size_t i = 0; i < TEXTS; i++) {
        assert_int_equal(encode_contents(got, encoder, &texts[i], 1, NULL), 0);
        assert_memory_equal(got, all + i * size, size * sizeof *got);
        order[i] = i;
    }
    for (size_t i = TEXTS; i-- > 1;) {
        const size_t k = rng_next(&rng) % (i + 1), kept = order[i];
        order[i] = order[k];
        order[k] = kept;
    }
    for (size_t done = 0, count; done < TEXTS; done += count) {
        count = 1 + rng_next(&rng) % (TEXTS - done);
        for (size_t i = 0; i < count; i++)
            some[i] = texts[order[done + i]];
        assert_int_equal(encode_contents(got, encoder, some, count, NULL), 0);
        for (size_t i = 0; i < count; i++)
            assert_memory_equal(got + i * size, all + order[done + i] * size, size * sizeof *got);
    }
    encoder_free(encoder);
    free(all);
    free(got);
}

static void check_company(void)
{
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 1; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            struct engine *engine = engine_make(dtype, linear_kernel_name(i));
            check_contents(engine);
            engine_free(engine);
        }
}

static void test_company_does_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        model = models[i];
        check_company();
    }
}

/* ---- the cache ---- */

enum { KEPT = 64 };

struct cache {
    struct {
        const int32_t *ids; /* copies */
        size_t count;
        void *states;
    } kept[KEPT];
    size_t count, number_bytes, hits, tokens;
};

static bool cache_get(void *ctx, const int32_t *wanted, size_t count, void *states)
{
    struct cache *cache = ctx;
    for (size_t i = 0; i < cache->count; i++) {
        if (cache->kept[i].count != count || memcmp(cache->kept[i].ids, wanted, count * sizeof *wanted) != 0)
            continue;
        memcpy(states, cache->kept[i].states, count * model->config.d_model * cache->number_bytes);
        cache->hits++;
        return true;
    }
    return false;
}

static void *copy(const void *data, size_t size)
{
    void *made = malloc(size);
    assert_non_null(made);
    return memcpy(made, data, size);
}

static void cache_put(void *ctx, const int32_t *given, size_t count, const void *states)
{
    struct cache *cache = ctx;
    assert_true(cache->count < KEPT);
    cache->kept[cache->count].ids = copy(given, count * sizeof *given);
    cache->kept[cache->count].states = copy(states, count * model->config.d_model * cache->number_bytes);
    cache->kept[cache->count++].count = count;
    cache->tokens += count;
}

enum { USERS = 6, SUMMARY = 96 };

static void encode_all(float *a, int32_t *summaries, struct encoder *encoder, size_t first, size_t count)
{
    struct encode_user users[USERS];
    for (size_t u = 0; u < count; u++) /* the history of user u has 0, 3, 6, ... items, from item u on */
        users[u] = (struct encode_user){
            .items = texts + first + u, .item_count = 3 * (first + u), .summary = summaries + u * SUMMARY};
    assert_true(model->config.max_summary_tokens <= SUMMARY);
    assert_int_equal(encode_users(a, encoder, users, count, NULL), 0);
}

/* Every user alone, in each run of users, and all of them. */
static void check_users(const struct engine *engine)
{
    const size_t size = model_m(&model->config) * model->config.d_model;
    float *all = calloc(USERS * size, sizeof *all), *got = calloc(USERS * size, sizeof *got);
    int32_t summaries[2][USERS * SUMMARY] = {{0}};
    struct encoder *encoder;
    assert_int_equal(encoder_new(&encoder, engine, NULL), 0);
    encode_all(all, summaries[0], encoder, 0, USERS);
    for (size_t first = 0; first < USERS; first++)
        for (size_t count = 1; first + count <= USERS; count++) {
            encode_all(got, summaries[1], encoder, first, count);
            assert_memory_equal(got, all + first * size, count * size * sizeof *got);
            assert_memory_equal(
                summaries[1], summaries[0] + first * SUMMARY, count * SUMMARY * sizeof *summaries[0]);
        }
    encoder_free(encoder);
    free(all);
    free(got);
}

static void test_users(void **state)
{
    (void)state;
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        for (size_t i = 1; linear_kernel_name(i); i++) {
            if (!linear_kernel_runs(i, dtype))
                continue;
            struct engine *engine = engine_make(dtype, linear_kernel_name(i));
            check_users(engine);
            engine_free(engine);
        }
}

static void check_cache(const struct engine *engine)
{
    const size_t size = model_m(&model->config) * model->config.d_model;
    float *fresh = calloc(USERS * size, sizeof *fresh), *got = calloc(USERS * size, sizeof *got);
    int32_t summaries[2][USERS * SUMMARY] = {{0}};
    struct cache cache = {.number_bytes = engine_state_bytes(engine)};
    const struct encode_cache hooks = {cache_get, cache_put, &cache};
    struct encoder *encoder;
    assert_int_equal(encoder_new(&encoder, engine, NULL), 0);
    encode_all(fresh, summaries[0], encoder, 0, USERS);
    const uint64_t without = encoder_tokens(encoder);
    encoder_set_cache(encoder, &hooks);
    encode_all(
        got, summaries[1], encoder, 2, 2); /* some sessions of two users are there when all are asked for */
    const size_t before = cache.tokens;
    assert_true(before > 0 && before < without);
    encode_all(got, summaries[1], encoder, 0, USERS);
    assert_true(cache.hits > 0);
    assert_int_equal(encoder_tokens(encoder), without + cache.tokens);
    assert_memory_equal(got, fresh, USERS * size * sizeof *got);
    assert_memory_equal(summaries[1], summaries[0], sizeof summaries[0]);
    const uint64_t so_far = encoder_tokens(encoder);
    encode_all(got, summaries[1], encoder, 0, USERS);
    assert_int_equal(encoder_tokens(encoder), so_far); /* all of them are kept now */
    assert_memory_equal(got, fresh, USERS * size * sizeof *got);
    encoder_free(encoder);
    for (size_t i = 0; i < cache.count; i++) {
        free((void *)(uintptr_t)cache.kept[i].ids);
        free(cache.kept[i].states);
    }
    free(fresh);
    free(got);
}

static void test_cache(void **state)
{
    (void)state;
    model = models[0];
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        struct engine *engine;
        assert_int_equal(engine_new(&engine, model, dtype, NULL, NULL), 0);
        check_cache(engine);
        engine_free(engine);
    }
}

/* The golden model's config, gated. */
static int make_gated(struct err *err)
{
    static const char config[] = "{\"model_type\": \"t5\", \"d_model\": 32, \"d_kv\": 8, \"d_ff\": 37, "
                                 "\"num_heads\": 3, \"num_layers\": 2, \"num_decoder_layers\": 1, "
                                 "\"vocab_size\": 259, \"feed_forward_proj\": \"gated-gelu\", "
                                 "\"embsum\": {\"m\": 5, \"n\": 3, \"code_dim\": 7, \"sos_token_id\": 253}}";
    char dir[256];
    const char *path = scratch_write(scratch_make(dir), "config.json", config, sizeof config - 1);
    const int result = model_init(&models[1], path, 5, err);
    scratch_remove(dir);
    return result;
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0 || model_load(&models[0], "tests/golden/tiny", NULL, &err) < 0 ||
        make_gated(&err) < 0) {
        print_error("%s\n", err.message);
        return -1;
    }
    model = models[0];
    make_texts(21);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++)
        model_free(models[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_gemm),
        cmocka_unit_test(test_company_does_not_matter), cmocka_unit_test(test_users),
        cmocka_unit_test(test_cache)};
    return cmocka_run_group_tests_name("engine", tests, setup, teardown);
}
