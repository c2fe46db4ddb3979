/* The decoder under teacher forcing, forward and backward: all positions of all sequences at once. */
#include "core/gemm.h"
#include "core/t5_int.h"

#include <string.h>

static size_t longest_source(const struct t5_teacher *teacher)
{
    return t5_sequences(teacher->source_offsets, teacher->count).longest;
}

static struct t5_attention head_of(const struct t5_cross_tape *tape, const struct model_config *c,
    const struct t5_teacher *teacher, size_t sequence, size_t head)
{
    const size_t inner = c->heads * c->d_kv, first = teacher->source_offsets[sequence];
    const float *k = tape->kv + first * 2 * inner + head * c->d_kv;
    return (struct t5_attention){
        .queries = teacher->offsets[sequence + 1] - teacher->offsets[sequence],
        .keys = teacher->source_offsets[sequence + 1] - first,
        .d_kv = c->d_kv,
        .q = tape->q + teacher->offsets[sequence] * inner + head * c->d_kv,
        .k = k,
        .v = k + inner,
        .ld_q = inner,
        .ld_kv = 2 * inner,
        .dropout = t5_dropout_of(&tape->weights, sequence, head),
    };
}

/* hidden (T x d) += W_o attention of norm(hidden) over the source. */
static int cross_forward(float *hidden, const struct model *model, const struct model_attention *cross,
    const struct t5_teacher *teacher, struct t5_cross_tape *tape, struct t5_scratch *s, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    const size_t tokens = teacher->offsets[teacher->count], source = teacher->source_offsets[teacher->count];
    int result = t5_reserve(&s->norm, tokens * d, err);
    if (result == 0)
        result = t5_reserve(&s->scores, T5_ATTENTION_QUERIES * longest_source(teacher), err);
    if (result < 0)
        return result;
    memcpy(tape->in, hidden, tokens * d * sizeof *hidden);
    vec_rms_norm(s->norm.data, hidden, cross->norm, tokens, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, tape->q, s->norm.data, cross->q, tokens, inner, d, 0); /* (T,d) (I,d)^T -> (T,I) */
    gemm(
        GEMM_NT, tape->kv, teacher->source, cross->k, source, 2 * inner, d, 0); /* (S,d) (2I,d)^T -> (S,2I) */
    for (size_t i = 0; i < teacher->count; i++) {
        for (size_t h = 0; h < c->heads; h++) {
            const struct t5_attention head = head_of(tape, c, teacher, i, h);
            t5_attention_forward(
                tape->context + teacher->offsets[i] * inner + h * c->d_kv, inner, &head, s->scores.data);
        }
    }
    gemm(GEMM_NT, s->norm.data, tape->context, cross->o, tokens, d, inner, 0);
    vec_dropout(s->norm.data, tokens * d, 0, &tape->outer);
    vec_add(hidden, s->norm.data, tokens * d);
    return 0;
}

static int cross_backward(float *dhidden, float *dsource, float *grads, const struct model *model,
    const struct model_attention *cross, const struct t5_teacher *teacher, const struct t5_cross_tape *tape,
    struct t5_scratch *s, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    const size_t tokens = teacher->offsets[teacher->count], source = teacher->source_offsets[teacher->count];
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {{&s->norm, tokens * d}, {&s->scores, 3 * T5_ATTENTION_QUERIES * longest_source(teacher)},
        {&s->d_qkv, tokens * inner}, {&s->d_cross, source * 2 * inner}, {&s->d_context, tokens * inner},
        {&s->d_hidden, tokens * d}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const int result = t5_reserve(needs[i].buffer, needs[i].need, err);
        if (result < 0)
            return result;
    }
    float *dout = s->norm.data, *dq = s->d_qkv.data, *dkv = s->d_cross.data, *dcontext = s->d_context.data;
    memcpy(dout, dhidden, tokens * d * sizeof *dout);
    vec_dropout(dout, tokens * d, 0, &tape->outer);
    gemm(GEMM_TN, t5_grad(grads, model, cross->o), dout, tape->context, d, inner, tokens, 1);
    gemm(GEMM_NN, dcontext, dout, cross->o, tokens, inner, d, 0);
    memset(dq, 0, tokens * inner * sizeof *dq);
    memset(dkv, 0, source * 2 * inner * sizeof *dkv);
    for (size_t i = 0; i < teacher->count; i++) {
        for (size_t h = 0; h < c->heads; h++) {
            const struct t5_attention head = head_of(tape, c, teacher, i, h);
            float *dk = dkv + teacher->source_offsets[i] * 2 * inner + h * c->d_kv;
            const size_t row = teacher->offsets[i] * inner + h * c->d_kv;
            t5_attention_backward(
                dq + row, dk, dk + inner, NULL, dcontext + row, inner, &head, s->scores.data);
        }
    }
    gemm(GEMM_TN, t5_grad(grads, model, cross->k), dkv, teacher->source, 2 * inner, d, source,
        1);                                                         /* (S,2I)^T (S,d) */
    gemm(GEMM_NN, dsource, dkv, cross->k, source, d, 2 * inner, 1); /* (S,2I) (2I,d) */
    float *norm = s->norm.data, *dnorm = s->d_hidden.data;          /* dout has been read */
    vec_rms_norm(norm, tape->in, cross->norm, tokens, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_TN, t5_grad(grads, model, cross->q), dq, norm, inner, d, tokens, 1); /* (T,I)^T (T,d) */
    gemm(GEMM_NN, dnorm, dq, cross->q, tokens, d, inner, 0);                       /* (T,I) (I,d) */
    vec_rms_norm_backward(dhidden, t5_grad(grads, model, cross->norm), dnorm, tape->in, cross->norm, tokens,
        d, (float)c->layer_norm_epsilon);
    return 0;
}

int t5_decode_forward(float *hidden, struct t5_tape *tape, const struct model *model,
    const struct t5_teacher *teacher, struct t5_dropout dropout, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t tokens = teacher->offsets[teacher->count], d = c->d_model;
    struct t5_bias bias;
    int result = t5_tape_begin(tape, c, c->decoder_layers, teacher->ids, teacher->offsets, teacher->count,
        teacher->source_offsets[teacher->count], dropout, err);
    if (result == 0)
        result =
            t5_bias_make(&bias, &scratch->bias, model->decoder_bias, c, false, tape->sequences.longest, err);
    if (result < 0)
        return result;
    t5_embed(hidden, model, teacher->ids, tokens);
    vec_dropout(hidden, tokens * d, 0, &tape->embedded);
    for (size_t i = 0; i < c->decoder_layers; i++) {
        const struct model_block *block = &model->decoder[i];
        struct t5_layer_tape *layer = &tape->layers[i];
        result = t5_self_forward(
            hidden, model, &block->self, &tape->sequences, &bias, true, &layer->self, scratch, err);
        if (result == 0)
            result = cross_forward(hidden, model, &block->cross, teacher, &layer->cross, scratch, err);
        if (result == 0)
            result = t5_ffn_forward(hidden, model, &block->ffn, tokens, &layer->ffn, scratch, err);
        if (result < 0)
            return result;
    }
    memcpy(tape->final_in, hidden, tokens * d * sizeof *hidden);
    vec_rms_norm(hidden, hidden, model->decoder_norm, tokens, d, (float)c->layer_norm_epsilon);
    vec_dropout(hidden, tokens * d, 0, &tape->final);
    return 0;
}

int t5_decode_backward(float *grads, float *dsource, float *dhidden, const struct t5_tape *tape,
    const struct model *model, const struct t5_teacher *teacher, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t tokens = tape->tokens, d = c->d_model;
    struct t5_bias bias, dbias;
    int result =
        t5_bias_make(&bias, &scratch->bias, model->decoder_bias, c, false, tape->sequences.longest, err);
    if (result == 0)
        result = t5_bias_make(
            &dbias, &scratch->d_bias, model->decoder_bias, c, false, tape->sequences.longest, err);
    if (result == 0)
        result = t5_final_backward(grads, dhidden, tape, model, model->decoder_norm, scratch, err);
    if (result < 0)
        return result;
    memset(dbias.table, 0, c->heads * dbias.span * sizeof *dbias.table);
    for (size_t i = c->decoder_layers; i-- > 0;) {
        const struct model_block *block = &model->decoder[i];
        const struct t5_layer_tape *layer = &tape->layers[i];
        result = t5_ffn_backward(dhidden, grads, model, &block->ffn, tokens, &layer->ffn, scratch, err);
        if (result == 0)
            result = cross_backward(
                dhidden, dsource, grads, model, &block->cross, teacher, &layer->cross, scratch, err);
        if (result == 0)
            result = t5_self_backward(dhidden, grads, &dbias, model, &block->self, &tape->sequences, &bias,
                true, &layer->self, scratch, err);
        if (result < 0)
            return result;
    }
    t5_bias_backward(t5_grad(grads, model, model->decoder_bias), &dbias, c);
    vec_dropout(dhidden, tokens * d, 0, &tape->embedded);
    t5_embed_backward(t5_grad(grads, model, model->shared), dhidden, model, tape->ids, tokens);
    return 0;
}
