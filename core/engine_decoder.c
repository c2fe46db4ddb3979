/* The decoder's weights, packed. Cross-attention has W_k moved to the query and W_v behind the sum (core/cross.h): a
 * head's rows of W_k are read transposed.
 *
 * An int8 engine's decoder is bfloat16: a token that tips over changes all that follow, and in int8 7 of the demo's 96
 * summaries change, in bfloat16 one. The packed copy beside the model's own weights is as large as those in float32
 * (T5-small: 166 MB, 66 of them the output embedding) and half of it otherwise. */
#include "core/engine_int.h"
#include "core/t5.h"

#include <stdlib.h>
#include <string.h>

static int pack_heads(struct engine_decoder_layer *layer, const struct engine *engine, const char *kernel,
    const struct model_attention *cross, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, d_kv = c->d_kv;
    int result = 0;
    layer->heads = calloc(c->heads, sizeof *layer->heads);
    if (!layer->heads)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t h = 0; result == 0 && h < c->heads; h++) {
        const struct linear_weight k = {cross->k + h * d_kv * d, d, d_kv, 1, d},
                                   v = {cross->v + h * d_kv * d, d_kv, d, d, 1};
        result = engine_pack(&layer->heads[h].absorb, engine->decoder.dtype, kernel, &k, err);
        if (result == 0)
            result = engine_pack(&layer->heads[h].release, engine->decoder.dtype, kernel, &v, err);
    }
    return result;
}

static int pack_layer(struct engine_decoder_layer *layer, const struct engine *engine, const char *kernel,
    const struct model_block *block, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, wide = c->gated ? 2 * c->d_ff : c->d_ff;
    const struct {
        struct linear **out;
        struct linear_weight weight;
    } all[] = {
        {&layer->qkv, {block->self.q, 3 * inner, d, d, 1}},
        {&layer->o, {block->self.o, d, inner, inner, 1}},
        {&layer->cross_q, {block->cross.q, inner, d, d, 1}},
        {&layer->cross_o, {block->cross.o, d, inner, inner, 1}},
        {&layer->ffn.wi, {block->ffn.wi, wide, d, d, 1}},
        {&layer->ffn.wo, {block->ffn.wo, d, c->d_ff, c->d_ff, 1}},
    };
    layer->ffn.norm = block->ffn.norm;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const int result = engine_pack(all[i].out, engine->decoder.dtype, kernel, &all[i].weight, err);
        if (result < 0)
            return result;
    }
    return pack_heads(layer, engine, kernel, &block->cross, err);
}

/* The output embedding. A tied one's scale, d^-1/2, changes no order of logits and is left out. */
static int pack_words(struct engine *engine, const char *kernel, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    struct engine_decoder *decoder = &engine->decoder;
    const size_t d = c->d_model, count = (c->vocab_size - 1) / ENGINE_WORDS + 1;
    int result = 0;
    decoder->words = calloc(count, sizeof *decoder->words);
    if (!decoder->words)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (; result == 0 && decoder->word_parts < count; decoder->word_parts++) {
        const size_t at = decoder->word_parts * ENGINE_WORDS, left = c->vocab_size - at;
        const struct linear_weight part = {
            engine->model->lm_head + at * d, left < ENGINE_WORDS ? left : ENGINE_WORDS, d, d, 1};
        result = engine_pack(&decoder->words[decoder->word_parts], decoder->dtype, kernel, &part, err);
    }
    return result;
}

static int make_bias(struct engine *engine, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t positions = c->max_summary_tokens + 1;
    float *bias = engine->decoder.bias = calloc(c->heads * positions, sizeof *bias);
    if (!bias)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t back = 0; back < positions; back++) {
        const size_t bucket = t5_bucket(-(long)back, false, c->relative_buckets, c->relative_max_distance);
        for (size_t h = 0; h < c->heads; h++)
            bias[h * positions + positions - 1 - back] = engine->model->decoder_bias[bucket * c->heads + h];
    }
    return 0;
}

/* The kernel called `name` if it runs, else the fastest. */
static const struct cross_kernel *choose_cross(enum cross_dtype dtype, const char *name)
{
    for (size_t i = 0; name && cross_kernel(i); i++)
        if (strcmp(name, cross_kernel_name(cross_kernel(i))) == 0 &&
            cross_kernel_runs(cross_kernel(i), dtype))
            return cross_kernel(i);
    return cross_best(dtype);
}

int engine_decoder_pack(struct engine *engine, const char *kernel, struct err *err)
{
    const struct model *model = engine->model;
    struct engine_decoder *decoder = &engine->decoder;
    decoder->dtype = engine->dtype == LINEAR_INT8 ? LINEAR_BF16 : engine->dtype;
    decoder->source = engine->dtype == LINEAR_F32 ? CROSS_F32 : CROSS_BF16;
    decoder->cross = choose_cross(decoder->source, kernel);
    decoder->layers = calloc(model->config.decoder_layers, sizeof *decoder->layers);
    int result = decoder->layers ? make_bias(engine, err) : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < model->config.decoder_layers; i++)
        result = pack_layer(&decoder->layers[i], engine, kernel, &model->decoder[i], err);
    return result < 0 ? result : pack_words(engine, kernel, err);
}

static void drop_layer(const struct engine_decoder_layer *layer, size_t heads)
{
    struct linear *const all[] = {
        layer->qkv, layer->o, layer->cross_q, layer->cross_o, layer->ffn.wi, layer->ffn.wo};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        linear_free(all[i]);
    for (size_t h = 0; layer->heads && h < heads; h++) {
        linear_free(layer->heads[h].absorb);
        linear_free(layer->heads[h].release);
    }
    free(layer->heads);
}

void engine_decoder_drop(struct engine *engine)
{
    const struct model_config *c = &engine->model->config;
    struct engine_decoder *decoder = &engine->decoder;
    for (size_t i = 0; decoder->layers && i < c->decoder_layers; i++)
        drop_layer(&decoder->layers[i], c->heads);
    for (size_t i = 0; i < decoder->word_parts; i++)
        linear_free(decoder->words[i]);
    free(decoder->layers);
    free(decoder->words);
    free(decoder->bias);
}
