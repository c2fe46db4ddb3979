/* t5_smooth() on models whose channels differ widely, made from models whose channels do not: the same function in float32,
 * which int8 cannot carry. Smoothed, they lose about what the plain ones lose, and in float32 and bfloat16 no bit. */
#include "core/engine.h"
#include "core/gemm.h"
#include "core/rng.h"
#include "core/t5.h"
#include "core/t5_smooth.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 60, MOST = 50, D = 128, WILD = 3 };

static int32_t ids[TEXTS * MOST];
static size_t offsets[TEXTS + 1];

static struct model *make(bool gated)
{
    char dir[256], config[512];
    struct model *model = NULL;
    struct err err = ERR_INIT;
    const int len = snprintf(config, sizeof config,
        "{\"model_type\": \"t5\", \"d_model\": %d, \"d_kv\": 32, \"d_ff\": 200, \"num_heads\": 4, "
        "\"num_layers\": 2, "
        "\"num_decoder_layers\": 1, \"vocab_size\": 259, \"feed_forward_proj\": \"%s\", "
        "\"embsum\": {\"m\": 5, \"n\": 3, \"code_dim\": 7, \"sos_token_id\": 253}}",
        D, gated ? "gated-gelu" : "relu");
    const char *path = scratch_write(scratch_make(dir), "config.json", config, (size_t)len);
    if (model_init(&model, path, 5, &err) < 0)
        fail_msg("%s", err.message);
    scratch_remove(dir);
    return model;
}

static float *own(struct model *model, const float *weight)
{
    return model->params + (weight - model->params);
}

/* A few channels become `times` as large where they are made, and their readers that much smaller: the same function, exactly
 * if times is a power of two. */
static void make_wild(
    float *maker, size_t width, float *reader, size_t outputs, size_t inputs, struct rng *rng)
{
    for (size_t i = 0; i < WILD; i++) {
        const size_t j = rng_next(rng) % inputs;
        const float times = 64;
        for (size_t k = 0; k < width; k++)
            maker[j * width + k] *= times;
        for (size_t o = 0; o < outputs; o++)
            reader[o * inputs + j] /= times;
    }
}

static void make_all_wild(struct model *model)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, f = c->d_ff;
    struct rng rng = rng_seed(3, 0);
    for (size_t layer = 0; layer < c->encoder_layers; layer++) {
        const struct model_block *b = &model->encoder[layer];
        make_wild(own(model, b->self.norm), 1, own(model, b->self.q), 3 * inner, d, &rng);
        make_wild(own(model, b->self.v), d, own(model, b->self.o), d, inner, &rng);
        make_wild(own(model, b->ffn.norm), 1, own(model, b->ffn.wi), c->gated ? 2 * f : f, d, &rng);
        make_wild(own(model, b->ffn.wi) + (c->gated ? f * d : 0), d, own(model, b->ffn.wo), d, f, &rng);
    }
}

static float *states_of(const struct model *model, enum linear_dtype dtype)
{
    const size_t tokens = offsets[TEXTS];
    float *states = calloc(tokens * D, sizeof *states);
    struct engine *engine;
    struct engine_scratch *scratch;
    struct engine_sequence sequences[TEXTS];
    for (size_t i = 0; i < TEXTS; i++)
        sequences[i] = (struct engine_sequence){
            ids + offsets[i], offsets[i + 1] - offsets[i], states + offsets[i] * D, NULL};
    assert_int_equal(engine_new(&engine, model, dtype, NULL, NULL), 0);
    assert_int_equal(engine_scratch_new(&scratch, NULL), 0);
    assert_int_equal(engine_encode(engine, sequences, TEXTS, scratch, NULL), 0);
    engine_scratch_free(scratch);
    engine_free(engine);
    return states;
}

/* int8's states off float32's, relative. */
static double loss(const struct model *model)
{
    float *exact = states_of(model, LINEAR_F32), *found = states_of(model, LINEAR_INT8);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < offsets[TEXTS] * D; i++) {
        difference += pow((double)found[i] - (double)exact[i], 2);
        norm += pow((double)exact[i], 2);
    }
    free(exact);
    free(found);
    return sqrt(difference / norm);
}

static void check_told(void *ctx, const struct t5_smoothed *product)
{
    static const char *const names[] = {"qkv", "o", "wi", "wo"};
    size_t *told = ctx;
    assert_int_equal(product->layer, *told / 4);
    assert_string_equal(product->name, names[*told % 4]);
    assert_true(product->after <= product->before && product->after > 0);
    assert_true(product->strength > 0 || product->after >= product->before);
    ++*told;
}

static void check(bool gated)
{
    struct model *model = make(gated);
    const double plain = loss(model);
    float *first = states_of(model, LINEAR_F32), *before[2], *params = NULL;
    size_t told = 0;
    struct err err = ERR_INIT;
    make_all_wild(model);
    const double wild = loss(model);
    for (enum linear_dtype dtype = LINEAR_F32; dtype <= LINEAR_BF16; dtype++)
        before[dtype] = states_of(model, dtype);
    assert_memory_equal(first, before[0], offsets[TEXTS] * D * sizeof *first);
    params = malloc(model->param_count * sizeof *params);
    memcpy(params, model->params, model->param_count * sizeof *params);
    if (t5_smooth(model, ids, offsets, TEXTS, check_told, &told, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(told, 4 * model->config.encoder_layers);
    for (enum linear_dtype dtype = LINEAR_F32; dtype <= LINEAR_BF16; dtype++) {
        float *after = states_of(model, dtype);
        assert_memory_equal(after, before[dtype], offsets[TEXTS] * D * sizeof *after);
        free(after);
        free(before[dtype]);
    }
    const double smooth = loss(model);
    print_message("%s: int8 loses %.4f, %.4f with wild channels, %.4f smoothed\n", gated ? "gated" : "relu",
        plain, wild, smooth);
    assert_true(wild > 3 * plain);
    assert_true(smooth < 1.2 * plain);
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        if (!strncmp(tensor->name, "encoder.block.", 14))
            continue;
        assert_memory_equal(model->params + tensor->offset, params + tensor->offset,
            tensor->rows * tensor->cols * sizeof *params);
    }
    free(first);
    free(params);
    model_free(model);
}

static void test_relu(void **state)
{
    (void)state;
    check(false);
}

static void test_gated(void **state)
{
    (void)state;
    check(true);
}

static int setup(void **state)
{
    (void)state;
    struct rng rng = rng_seed(1, 0);
    for (size_t i = 0; i < TEXTS * MOST; i++)
        ids[i] = (int32_t)(rng_next(&rng) % 259);
    for (size_t i = 0; i < TEXTS; i++)
        offsets[i + 1] = offsets[i] + 1 + rng_next(&rng) % MOST;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_relu), cmocka_unit_test(test_gated)};
    return cmocka_run_group_tests_name("smooth", tests, setup, NULL);
}
