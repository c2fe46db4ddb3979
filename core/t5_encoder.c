#include "core/t5_int.h"

#include <string.h>

static int run(float *states, const struct model *model, const int32_t *ids,
    const struct t5_sequences *sequences, struct t5_tape *tape, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t tokens = sequences->offsets[sequences->count], d = c->d_model;
    struct t5_bias bias;
    int result = t5_bias_make(&bias, &scratch->bias, model->encoder_bias, c, true, sequences->longest, err);
    if (result < 0)
        return result;
    t5_embed(states, model, ids, tokens);
    if (tape)
        vec_dropout(states, tokens * d, 0, &tape->embedded);
    for (size_t i = 0; i < c->encoder_layers; i++) {
        const struct model_block *block = &model->encoder[i];
        struct t5_layer_tape *layer = tape ? &tape->layers[i] : NULL;
        result = t5_self_forward(
            states, model, &block->self, sequences, &bias, false, layer ? &layer->self : NULL, scratch, err);
        if (result == 0)
            result =
                t5_ffn_forward(states, model, &block->ffn, tokens, layer ? &layer->ffn : NULL, scratch, err);
        if (result < 0)
            return result;
    }
    if (tape)
        memcpy(tape->final_in, states, tokens * d * sizeof *states);
    vec_rms_norm(states, states, model->encoder_norm, tokens, d, (float)c->layer_norm_epsilon);
    if (tape)
        vec_dropout(states, tokens * d, 0, &tape->final);
    return 0;
}

int t5_encode(float *states, const struct model *model, const int32_t *ids, const size_t *offsets,
    size_t count, struct t5_scratch *scratch, struct err *err)
{
    const struct t5_sequences sequences = t5_sequences(offsets, count);
    return run(states, model, ids, &sequences, NULL, scratch, err);
}

int t5_encode_forward(float *states, struct t5_tape *tape, const struct model *model, const int32_t *ids,
    const size_t *offsets, size_t count, struct t5_dropout dropout, struct t5_scratch *scratch,
    struct err *err)
{
    const int result = t5_tape_begin(
        tape, &model->config, model->config.encoder_layers, ids, offsets, count, 0, dropout, err);
    return result < 0 ? result : run(states, model, ids, &tape->sequences, tape, scratch, err);
}

int t5_encode_backward(float *grads, float *dstates, const struct t5_tape *tape, const struct model *model,
    struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t tokens = tape->tokens, d = c->d_model;
    struct t5_bias bias, dbias;
    int result =
        t5_bias_make(&bias, &scratch->bias, model->encoder_bias, c, true, tape->sequences.longest, err);
    if (result == 0)
        result = t5_bias_make(
            &dbias, &scratch->d_bias, model->encoder_bias, c, true, tape->sequences.longest, err);
    if (result == 0)
        result = t5_final_backward(grads, dstates, tape, model, model->encoder_norm, scratch, err);
    if (result < 0)
        return result;
    memset(dbias.table, 0, c->heads * dbias.span * sizeof *dbias.table);
    for (size_t i = c->encoder_layers; i-- > 0;) {
        const struct model_block *block = &model->encoder[i];
        result =
            t5_ffn_backward(dstates, grads, model, &block->ffn, tokens, &tape->layers[i].ffn, scratch, err);
        if (result == 0)
            result = t5_self_backward(dstates, grads, &dbias, model, &block->self, &tape->sequences, &bias,
                false, &tape->layers[i].self, scratch, err);
        if (result < 0)
            return result;
    }
    t5_bias_backward(t5_grad(grads, model, model->encoder_bias), &dbias, c);
    vec_dropout(dstates, tokens * d, 0, &tape->embedded);
    t5_embed_backward(t5_grad(grads, model, model->shared), dstates, model, tape->ids, tokens);
    return 0;
}
