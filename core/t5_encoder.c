#include "core/gemm.h"
#include "core/t5_int.h"
#include "core/vec.h"

/* context = softmax(Q K^T + bias) V for one sequence of T tokens and one head. qkv points at the head's first
 * query; bias at relative position 0. A block of queries at a time, so that memory is linear in T. */
static void attend(float *context, const float *qkv, const float *bias, size_t tokens, size_t inner,
    size_t d_kv, float *scores)
{
    enum { QUERIES = 64 };
    const float *keys = qkv + inner, *values = keys + inner;
    const size_t row = 3 * inner;
    for (size_t q = 0; q < tokens; q += QUERIES) {
        const size_t some = tokens - q < QUERIES ? tokens - q : QUERIES;
        gemm_part(GEMM_NT, scores, tokens, qkv + q * row, row, keys, row, some, tokens, d_kv, 0); /* (Q,T) */
        for (size_t i = 0; i < some; i++)
            vec_softmax(
                scores + i * tokens, bias - (q + i), tokens); /* key k is at relative position k - (q + i) */
        gemm_part(GEMM_NN, context + q * inner, inner, scores, tokens, values, row, some, d_kv, tokens, 0);
    }
}

static int reserve(
    struct t5_scratch *s, const struct model_config *c, size_t tokens, size_t longest, struct err *err)
{
    const size_t inner = c->heads * c->d_kv;
    int result = t5_reserve(&s->norm, tokens * c->d_model, err);
    if (result == 0)
        result = t5_reserve(&s->qkv, tokens * 3 * inner, err);
    if (result == 0)
        result = t5_reserve(&s->context, tokens * inner, err);
    if (result == 0)
        result = t5_reserve(&s->scores, 64 * longest, err);
    if (result == 0)
        result = t5_reserve(&s->bias, c->heads * (2 * longest - 1), err);
    return result;
}

int t5_encode(float *states, const struct model *model, const int32_t *ids, const size_t *offsets,
    size_t count, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, tokens = offsets[count];
    size_t longest = 1;
    for (size_t s = 0; s < count; s++)
        longest = offsets[s + 1] - offsets[s] > longest ? offsets[s + 1] - offsets[s] : longest;
    int result = reserve(scratch, c, tokens, longest, err);
    if (result < 0)
        return result;
    const size_t span = 2 * longest - 1;
    t5_bias_table(scratch->bias.data, model->encoder_bias, c, true, 1 - (long)longest, span);
    t5_embed(states, model, ids, tokens);
    for (size_t i = 0; i < c->encoder_layers; i++) {
        const struct model_attention *self = &model->encoder[i].self;
        float *qkv = scratch->qkv.data, *context = scratch->context.data;
        vec_rms_norm(scratch->norm.data, states, self->norm, tokens, d, (float)c->layer_norm_epsilon);
        gemm(GEMM_NT, qkv, scratch->norm.data, self->q, tokens, 3 * inner, d,
            0); /* (T,d) (3I,d)^T -> (T,3I) */
        for (size_t s = 0; s < count; s++)
            for (size_t h = 0; h < c->heads; h++)
                attend(context + offsets[s] * inner + h * c->d_kv, qkv + offsets[s] * 3 * inner + h * c->d_kv,
                    scratch->bias.data + h * span + longest - 1, offsets[s + 1] - offsets[s], inner, c->d_kv,
                    scratch->scores.data);
        gemm(GEMM_NT, states, context, self->o, tokens, d, inner, 1); /* (T,I) (d,I)^T -> (T,d) */
        result = t5_ffn(states, model, &model->encoder[i].ffn, tokens, scratch, err);
        if (result < 0)
            return result;
    }
    vec_rms_norm(states, states, model->encoder_norm, tokens, d, (float)c->layer_norm_epsilon);
    return 0;
}
