#include "core/engine.h"

#include "core/array.h"
#include "core/engine_int.h"

#include <stdlib.h>
#include <string.h>

/* ---- packing ---- */

int engine_pack(struct linear **out, enum linear_dtype dtype, const char *kernel,
    const struct linear_weight *weight, struct err *err)
{
    bool known = false;
    for (size_t i = 0; kernel && linear_kernel_name(i); i++)
        known |= strcmp(kernel, linear_kernel_name(i)) == 0 && linear_kernel_runs(i, dtype);
    return linear_new(out, dtype, known ? kernel : NULL, weight, err);
}

static int pack(struct linear **out, const struct engine *engine, const char *kernel, const float *weight,
    size_t outputs, size_t inputs, struct err *err)
{
    const struct linear_weight w = {weight, outputs, inputs, inputs, 1};
    return linear_new(out, engine->dtype, kernel, &w, err);
}

static int pack_layer(struct engine_layer *layer, const struct engine *engine, const char *kernel,
    const struct model_block *block, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, wide = c->gated ? 2 * c->d_ff : c->d_ff;
    int result = pack(&layer->qkv, engine, kernel, block->self.q, 3 * inner, d, err);
    if (result == 0)
        result = pack(&layer->o, engine, kernel, block->self.o, d, inner, err);
    if (result == 0)
        result = pack(&layer->ffn.wi, engine, kernel, block->ffn.wi, wide, d, err);
    if (result == 0)
        result = pack(&layer->ffn.wo, engine, kernel, block->ffn.wo, d, c->d_ff, err);
    layer->ffn.norm = block->ffn.norm;
    return result;
}

/* In float32, whatever the engine's dtype. */
static int pack_poly(struct engine_poly *poly, const struct engine *engine, const char *kernel,
    const float *codes, const float *proj, size_t k, struct err *err)
{
    const size_t d = engine->model->config.d_model, p = engine->model->config.code_dim;
    const struct linear_weight c = {codes, k, p, p, 1}, f = {proj, p, d, 1, p}; /* F is d x p */
    const int result = engine_pack(&poly->proj, LINEAR_F32, kernel, &f, err);
    return result < 0 ? result : engine_pack(&poly->codes, LINEAR_F32, kernel, &c, err);
}

static int pack_all(struct engine *engine, const char *kernel, struct err *err)
{
    const struct model *model = engine->model;
    const struct model_config *c = &model->config;
    int result = 0;
    for (size_t i = 0; result == 0 && i < c->encoder_layers; i++)
        result = pack_layer(&engine->layers[i], engine, kernel, &model->encoder[i], err);
    engine->attention = attention_choose(&engine->attention_bf16, engine->dtype != LINEAR_F32, kernel);
    if (result == 0 && c->ablation != ABLATION_NO_UPE)
        result = pack_poly(&engine->heads[ENGINE_USER], engine, kernel, model->user_codes, model->user_proj,
            model_m(c), err);
    if (result == 0 && c->ablation != ABLATION_NO_CPE)
        result = pack_poly(&engine->heads[ENGINE_CONTENT], engine, kernel, model->content_codes,
            model->content_proj, model_n(c), err);
    if (result == 0 && c->ablation != ABLATION_NO_LSUM)
        result = engine_decoder_pack(engine, kernel, err);
    return result;
}

int engine_new(struct engine **out, const struct model *model, enum linear_dtype dtype, const char *kernel,
    struct err *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return err_set(err, ERR_NOMEM, "out of memory");
    engine->model = model;
    engine->dtype = dtype;
    engine->layers = calloc(model->config.encoder_layers, sizeof *engine->layers);
    const int result =
        engine->layers ? pack_all(engine, kernel, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (result < 0)
        engine_free(engine);
    else
        *out = engine;
    return result;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    for (size_t i = 0; engine->layers && i < engine->model->config.encoder_layers; i++) {
        linear_free(engine->layers[i].qkv);
        linear_free(engine->layers[i].o);
        linear_free(engine->layers[i].ffn.wi);
        linear_free(engine->layers[i].ffn.wo);
    }
    for (size_t i = 0; i < ENGINE_HEADS; i++) {
        linear_free(engine->heads[i].proj);
        linear_free(engine->heads[i].codes);
    }
    engine_decoder_drop(engine);
    free(engine->layers);
    free(engine);
}

const struct model *engine_model(const struct engine *engine)
{
    return engine->model;
}

enum linear_dtype engine_dtype(const struct engine *engine)
{
    return engine->dtype;
}

const char *engine_kernel(const struct engine *engine)
{
    return linear_kernel(engine->layers[0].qkv);
}

size_t engine_state_bytes(const struct engine *engine)
{
    return engine->dtype == LINEAR_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* ---- scratch ---- */

int engine_scratch_new(struct engine_scratch **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void engine_scratch_free(struct engine_scratch *s)
{
    if (!s)
        return;
    struct engine_buffer *const all[] = {&s->hidden, &s->qkv, &s->context, &s->norm, &s->middle, &s->wide,
        &s->scales, &s->attention, &s->bias, &s->poly, &s->code, &s->logits, &s->absorbed, &s->cross,
        &s->scores, &s->cache};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->data);
    free(s->offsets);
    free(s);
}

int engine_reserve(struct engine_buffer *buffer, size_t need, struct err *err)
{
    if (need <= buffer->size)
        return 0;
    free(buffer->data);
    *buffer = (struct engine_buffer){0};
    buffer->data = array_floats(need, true);
    if (!buffer->data)
        return err_set(err, ERR_NOMEM, "out of memory for %zu floats", need);
    buffer->size = need;
    return 0;
}
