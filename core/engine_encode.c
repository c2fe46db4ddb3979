/* T5's encoder (core/t5.h has the equations) on packed weights. The tokens of a batch lie one behind the other, without
 * padding; only attention knows where a sequence ends. */
#include "core/array.h"
#include "core/engine_int.h"
#include "core/half.h"
#include "core/t5.h"
#include "core/vec.h"

#include <string.h>

enum { PAD = 16 }; /* floats behind a row, lest rows fall into the same sets of a cache */

/* What is not int8 and not gated goes from the first product of a feed-forward layer straight into the second one's input;
 * a scale needs the whole row first. An int8 engine's decoder, which is bfloat16, goes the long way too: rows of two dtypes
 * take turns in `middle`, and only the long way pads them anew. */
static bool is_direct(const struct engine *engine)
{
    return engine->dtype != LINEAR_INT8 && !engine->model->config.gated;
}

/* Relative position biases, head h's for relative position r at bias + h span + longest - 1 + r. */
static size_t bias_span(size_t longest)
{
    return 2 * longest - 1 + ATTENTION_PAD;
}

static int make_bias(struct engine_scratch *s, const struct engine *engine, size_t longest, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    if (longest <= s->longest)
        return 0;
    s->longest = 0;
    const int result = engine_reserve(&s->bias, c->heads * bias_span(longest), err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < 2 * longest - 1; i++) {
        const size_t bucket =
            t5_bucket((long)i - (long)(longest - 1), true, c->relative_buckets, c->relative_max_distance);
        for (size_t h = 0; h < c->heads; h++)
            s->bias.data[h * bias_span(longest) + i] = engine->model->encoder_bias[bucket * c->heads + h];
    }
    s->longest = longest;
    return 0;
}

int engine_reserve_rows(
    struct engine_scratch *s, const struct engine *engine, enum linear_dtype dtype, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, wide = c->gated ? 2 * c->d_ff : c->d_ff;
    int result = engine_reserve(&s->norm, ENGINE_ROWS * linear_stride(dtype, d > inner ? d : inner), err);
    if (result == 0)
        result = engine_reserve(&s->middle, ENGINE_ROWS * linear_stride(dtype, c->d_ff), err);
    if (result == 0)
        result = engine_reserve(&s->wide, is_direct(engine) ? 0 : ENGINE_ROWS * (wide + PAD), err);
    return result < 0 ? result : engine_reserve(&s->scales, ENGINE_ROWS, err);
}

static int reserve(
    struct engine_scratch *s, const struct engine *engine, size_t tokens, size_t longest, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t inner = c->heads * c->d_kv;
    const struct {
        struct engine_buffer *buffer;
        size_t need;
    } needs[] = {
        {&s->hidden, tokens * c->d_model},
        {&s->qkv, tokens * (3 * inner + PAD)},
        {&s->context, tokens * linear_stride(LINEAR_F32, inner)},
        {&s->attention, attention_scratch(longest, c->d_kv) / sizeof(float)},
    };
    int result = engine_reserve_rows(s, engine, engine->dtype, err);
    for (size_t i = 0; result == 0 && i < sizeof needs / sizeof *needs; i++)
        result = engine_reserve(needs[i].buffer, needs[i].need, err);
    return result < 0 ? result : make_bias(s, engine, longest, err);
}

/* qkv (T x 3I) = norm(hidden) (Q, K, V)^T for some rows, in the type that attention reads. */
static void project(
    struct engine_scratch *s, const struct engine *engine, size_t layer, size_t first, size_t count)
{
    const struct model_config *c = &engine->model->config;
    const struct linear *qkv = engine->layers[layer].qkv;
    const size_t d = c->d_model, stride = 3 * c->heads * c->d_kv + PAD;
    struct linear_rows rows = engine_rows(s, &s->norm, engine->dtype, d);
    struct linear_out out = {s->qkv.data + first * stride, stride, LINEAR_SET, engine->attention_bf16};
    if (out.bf16)
        out.data = (uint16_t *)s->qkv.data + first * stride;
    linear_norm(&rows, qkv, s->hidden.data + first * d, engine->model->encoder[layer].self.norm,
        (float)c->layer_norm_epsilon, count);
    linear_apply(&out, qkv, &rows, count);
}

/* context of one sequence, head by head. */
static void attend(struct engine_scratch *s, const struct engine *engine, size_t first, size_t length)
{
    const struct model_config *c = &engine->model->config;
    const size_t inner = c->heads * c->d_kv, stride = 3 * inner + PAD,
                 size = engine->attention_bf16 ? sizeof(uint16_t) : sizeof(float);
    for (size_t h = 0; h < c->heads; h++) {
        const char *q = (const char *)s->qkv.data + (first * stride + h * c->d_kv) * size;
        struct attention attention = {.length = length,
            .d_kv = c->d_kv,
            .q = q,
            .k = q + inner * size,
            .v = q + 2 * inner * size,
            .stride = stride,
            .bias = s->bias.data + h * bias_span(s->longest) + s->longest - 1,
            .context_stride = linear_stride(LINEAR_F32, inner)};
        attention.context = s->context.data + first * attention.context_stride + h * c->d_kv;
        attention_run(engine->attention, engine->attention_bf16, &attention, s->attention.data);
    }
}

/* context (T x I) of all sequences, each as soon as its rows are projected: they are in the L2 cache then. */
static void look(struct engine_scratch *s, const struct engine *engine, size_t layer, size_t sequences)
{
    const size_t tokens = s->offsets[sequences];
    size_t projected = 0;
    for (size_t i = 0; i < sequences; i++) {
        while (projected < s->offsets[i + 1]) {
            const size_t some = tokens - projected < ENGINE_ROWS ? tokens - projected : ENGINE_ROWS;
            project(s, engine, layer, projected, some);
            projected += some;
        }
        attend(s, engine, s->offsets[i], s->offsets[i + 1] - s->offsets[i]);
    }
}

/* hidden (T x d) += context O^T. In float32 the context is the product's input as it lies. */
static void give_back(struct engine_scratch *s, const struct engine *engine, size_t layer, size_t tokens)
{
    const struct model_config *c = &engine->model->config;
    const struct linear *o = engine->layers[layer].o;
    const size_t d = c->d_model, stride = linear_stride(LINEAR_F32, c->heads * c->d_kv);
    struct linear_rows rows = engine_rows(s, &s->norm, engine->dtype, c->heads * c->d_kv);
    for (size_t at = 0; at < tokens; at += ENGINE_ROWS) {
        const size_t some = tokens - at < ENGINE_ROWS ? tokens - at : ENGINE_ROWS;
        float *context = s->context.data + at * stride;
        if (engine->dtype == LINEAR_F32)
            rows.units = (uint32_t *)context;
        else
            linear_convert(&rows, o, context, stride, some);
        linear_apply(&(struct linear_out){s->hidden.data + at * d, d, LINEAR_ADD, false}, o, &rows, some);
    }
}

void engine_feed_forward(float *hidden, const struct engine *engine, const struct engine_ffn *ffn,
    enum linear_dtype dtype, size_t count, struct engine_scratch *s)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, stride = (c->gated ? 2 * c->d_ff : c->d_ff) + PAD;
    const bool direct = is_direct(engine), bf16 = dtype == LINEAR_BF16;
    struct linear_rows rows = engine_rows(s, &s->norm, dtype, d),
                       middle = engine_rows(s, &s->middle, dtype, c->d_ff);
    const struct linear_out wide = {s->wide.data, stride, LINEAR_SET, false},
                            active = {middle.units, middle.stride * (bf16 ? 2 : 1), LINEAR_RELU, bf16};
    for (size_t at = 0; at < count; at += ENGINE_ROWS) {
        const size_t some = count - at < ENGINE_ROWS ? count - at : ENGINE_ROWS;
        float *part = hidden + at * d;
        linear_norm(&rows, ffn->wi, part, ffn->norm, (float)c->layer_norm_epsilon, some);
        linear_apply(direct ? &active : &wide, ffn->wi, &rows, some);
        if (!direct)
            linear_activate(&middle, ffn->wo, wide.data, stride, c->gated, some);
        linear_apply(&(struct linear_out){part, d, LINEAR_ADD, false}, ffn->wo, &middle, some);
    }
}

/* The states, rounded where the dtype says so. `hidden` is overwritten. */
static void finish(const struct engine *engine, const struct engine_sequence *sequence, float *hidden)
{
    const struct model_config *c = &engine->model->config;
    const size_t count = sequence->count * c->d_model;
    float *states = sequence->states ? sequence->states : hidden;
    vec_rms_norm(states, hidden, engine->model->encoder_norm, sequence->count, c->d_model,
        (float)c->layer_norm_epsilon);
    for (size_t i = 0; sequence->halves && i < count; i++)
        sequence->halves[i] = f32_to_bf16(states[i]);
    for (size_t i = 0; sequence->states && engine->dtype != LINEAR_F32 && i < count; i++)
        states[i] = bf16_to_f32(f32_to_bf16(states[i]));
}

/* One group of sequences, which pass layer after layer together. */
static int encode_group(const struct engine *engine, const struct engine_sequence *sequences, size_t count,
    struct engine_scratch *s, struct err *err)
{
    const struct model *model = engine->model;
    const size_t d = model->config.d_model, tokens = s->offsets[count];
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        longest = sequences[i].count > longest ? sequences[i].count : longest;
    const int result = reserve(s, engine, tokens, longest, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < count; i++)
        for (size_t t = 0; t < sequences[i].count; t++)
            memcpy(s->hidden.data + (s->offsets[i] + t) * d, model->shared + (size_t)sequences[i].ids[t] * d,
                d * sizeof(float));
    for (size_t layer = 0; layer < model->config.encoder_layers; layer++) {
        look(s, engine, layer, count);
        give_back(s, engine, layer, tokens);
        engine_feed_forward(s->hidden.data, engine, &engine->layers[layer].ffn, engine->dtype, tokens, s);
    }
    for (size_t i = 0; i < count; i++)
        finish(engine, &sequences[i], s->hidden.data + s->offsets[i] * d);
    return 0;
}

int engine_encode(const struct engine *engine, const struct engine_sequence *sequences, size_t count,
    struct engine_scratch *s, struct err *err)
{
    int result = array_grow(&s->offsets, &s->offsets_size, count + 1, sizeof *s->offsets, err);
    for (size_t done = 0, some; result == 0 && done < count; done += some) {
        s->offsets[0] = 0;
        for (some = 0; done + some < count; some++) {
            const size_t end = s->offsets[some] + sequences[done + some].count;
            if (some && end > ENGINE_TOKENS)
                break;
            s->offsets[some + 1] = end;
        }
        result = encode_group(engine, sequences + done, some, s, err);
    }
    return result;
}
