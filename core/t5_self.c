/* The self-attention sublayer, forward and backward: hidden += W_o attention(norm(hidden)). */
#include "core/gemm.h"
#include "core/t5_int.h"

#include <string.h>

/* One head of one sequence, on what the products have written to qkv. */
static struct t5_attention head_of(const float *qkv, const struct model_config *c,
    const struct t5_sequences *sequences, const struct t5_bias *bias, bool causal,
    const struct t5_self_tape *tape, size_t sequence, size_t head)
{
    const size_t inner = c->heads * c->d_kv, first = sequences->offsets[sequence];
    const size_t len = sequences->offsets[sequence + 1] - first;
    const float *q = qkv + first * 3 * inner + head * c->d_kv;
    return (struct t5_attention){
        .queries = len,
        .keys = len,
        .d_kv = c->d_kv,
        .q = q,
        .k = q + inner,
        .v = q + 2 * inner,
        .ld_q = 3 * inner,
        .ld_kv = 3 * inner,
        .bias = bias->table + head * bias->span + bias->zero,
        .causal = causal,
        .dropout = tape ? t5_dropout_of(&tape->weights, sequence, head) : (struct vec_dropout){0, 0},
    };
}

int t5_self_forward(float *hidden, const struct model *model, const struct model_attention *self,
    const struct t5_sequences *sequences, const struct t5_bias *bias, bool causal, struct t5_self_tape *tape,
    struct t5_scratch *s, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, tokens = sequences->offsets[sequences->count];
    int result = t5_reserve(&s->norm, tokens * d, err);
    if (result == 0)
        result = t5_reserve(&s->scores, T5_ATTENTION_QUERIES * sequences->longest, err);
    if (result == 0 && !tape)
        result = t5_reserve(&s->qkv, tokens * 3 * inner, err);
    if (result == 0 && !tape)
        result = t5_reserve(&s->context, tokens * inner, err);
    if (result < 0)
        return result;
    float *qkv = tape ? tape->qkv : s->qkv.data, *context = tape ? tape->context : s->context.data;
    if (tape)
        memcpy(tape->in, hidden, tokens * d * sizeof *hidden);
    vec_rms_norm(s->norm.data, hidden, self->norm, tokens, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, qkv, s->norm.data, self->q, tokens, 3 * inner, d, 0); /* (T,d) (3I,d)^T -> (T,3I) */
    for (size_t i = 0; i < sequences->count; i++) {
        for (size_t h = 0; h < c->heads; h++) {
            const struct t5_attention head = head_of(qkv, c, sequences, bias, causal, tape, i, h);
            t5_attention_forward(
                context + sequences->offsets[i] * inner + h * c->d_kv, inner, &head, s->scores.data);
        }
    }
    if (!tape || tape->outer.rate <= 0) {
        gemm(GEMM_NT, hidden, context, self->o, tokens, d, inner, 1); /* (T,I) (d,I)^T -> (T,d) */
    } else {
        gemm(GEMM_NT, s->norm.data, context, self->o, tokens, d, inner, 0);
        vec_dropout(s->norm.data, tokens * d, 0, &tape->outer);
        vec_add(hidden, s->norm.data, tokens * d);
    }
    return 0;
}

int t5_self_backward(float *dhidden, float *grads, struct t5_bias *dbias, const struct model *model,
    const struct model_attention *self, const struct t5_sequences *sequences, const struct t5_bias *bias,
    bool causal, const struct t5_self_tape *tape, struct t5_scratch *s, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, tokens = sequences->offsets[sequences->count];
    int result = t5_reserve(&s->norm, tokens * d, err);
    if (result == 0)
        result = t5_reserve(&s->scores, 3 * T5_ATTENTION_QUERIES * sequences->longest, err);
    if (result == 0)
        result = t5_reserve(&s->d_qkv, tokens * 3 * inner, err);
    if (result == 0)
        result = t5_reserve(&s->d_context, tokens * inner, err);
    if (result == 0)
        result = t5_reserve(&s->d_hidden, tokens * d, err);
    if (result < 0)
        return result;
    float *dout = s->norm.data, *dqkv = s->d_qkv.data, *dcontext = s->d_context.data;
    memcpy(dout, dhidden, tokens * d * sizeof *dout);
    vec_dropout(dout, tokens * d, 0, &tape->outer);
    gemm(GEMM_TN, t5_grad(grads, model, self->o), dout, tape->context, d, inner, tokens,
        1);                                                      /* (T,d)^T (T,I) */
    gemm(GEMM_NN, dcontext, dout, self->o, tokens, inner, d, 0); /* (T,d) (d,I) */
    memset(dqkv, 0, tokens * 3 * inner * sizeof *dqkv);
    for (size_t i = 0; i < sequences->count; i++) {
        for (size_t h = 0; h < c->heads; h++) {
            const struct t5_attention head = head_of(tape->qkv, c, sequences, bias, causal, tape, i, h);
            float *dq = dqkv + sequences->offsets[i] * 3 * inner + h * c->d_kv;
            t5_attention_backward(dq, dq + inner, dq + 2 * inner,
                dbias->table + h * dbias->span + dbias->zero,
                dcontext + sequences->offsets[i] * inner + h * c->d_kv, inner, &head, s->scores.data);
        }
    }
    float *norm = s->norm.data, *dnorm = s->d_hidden.data; /* dout has been read */
    vec_rms_norm(norm, tape->in, self->norm, tokens, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_TN, t5_grad(grads, model, self->q), dqkv, norm, 3 * inner, d, tokens, 1); /* (T,3I)^T (T,d) */
    gemm(GEMM_NN, dnorm, dqkv, self->q, tokens, d, 3 * inner, 0);                       /* (T,3I) (3I,d) */
    vec_rms_norm_backward(dhidden, t5_grad(grads, model, self->norm), dnorm, tape->in, self->norm, tokens, d,
        (float)c->layer_norm_epsilon);
    return 0;
}
