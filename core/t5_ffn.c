/* T5's feed-forward sublayer, forward and backward:
 *
 *     v1.0   hidden += W_o relu(W_i norm(hidden))
 *     v1.1   hidden += W_o (gelu(W_0 norm(hidden)) * W_1 norm(hidden))
 */
#include "core/gemm.h"
#include "core/t5_int.h"

#include <string.h>

enum { ROWS = 256 }; /* at a time, so that the wide middle stays in the cache */

static size_t wide_of(const struct model_config *config)
{
    return config->gated ? 2 * config->d_ff : config->d_ff;
}

static int reserve(struct t5_scratch *s, const struct model_config *c, struct err *err)
{
    int result = t5_reserve(&s->norm, ROWS * c->d_model, err);
    if (result == 0)
        result = t5_reserve(&s->ffn, ROWS * wide_of(c), err);
    if (result == 0)
        result = t5_reserve(&s->gate, ROWS * c->d_ff, err);
    return result;
}

/* The input of W_o for some rows: after the activation and dropout. In place where nothing else needs the middle. */
static const float *activate(float *middle, const struct model_config *c, size_t first, size_t some,
    const struct t5_ffn_tape *tape, float *out)
{
    if (c->gated)
        vec_gated_gelu(out, middle, some, c->d_ff);
    else if (!tape || tape->inner.rate <= 0)
        return middle;
    else
        memcpy(out, middle, some * c->d_ff * sizeof *out);
    if (tape)
        vec_dropout(out, some * c->d_ff, first * c->d_ff, &tape->inner);
    return out;
}

int t5_ffn_forward(float *hidden, const struct model *model, const struct model_ffn *ffn, size_t rows,
    struct t5_ffn_tape *tape, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, wide = wide_of(c);
    const int result = reserve(scratch, c, err);
    if (result < 0)
        return result;
    if (tape)
        memcpy(tape->in, hidden, rows * d * sizeof *hidden);
    for (size_t at = 0; at < rows; at += ROWS) {
        const size_t some = rows - at < ROWS ? rows - at : ROWS;
        float *x = hidden + at * d, *middle = tape ? tape->wide + at * wide : scratch->ffn.data;
        vec_rms_norm(scratch->norm.data, x, ffn->norm, some, d, (float)c->layer_norm_epsilon);
        gemm(GEMM_NT, middle, scratch->norm.data, ffn->wi, some, wide, d, 0); /* (R,d) (F,d)^T -> (R,F) */
        if (!c->gated)
            vec_relu(middle, some * c->d_ff);
        const float *active = activate(middle, c, at, some, tape, scratch->gate.data);
        if (!tape || tape->outer.rate <= 0) {
            gemm(GEMM_NT, x, active, ffn->wo, some, d, c->d_ff, 1); /* (R,F) (d,F)^T -> (R,d) */
        } else {
            gemm(GEMM_NT, scratch->norm.data, active, ffn->wo, some, d, c->d_ff, 0);
            vec_dropout(scratch->norm.data, some * d, at * d, &tape->outer);
            vec_add(x, scratch->norm.data, some * d);
        }
    }
    return 0;
}

int t5_ffn_backward(float *dhidden, float *grads, const struct model *model, const struct model_ffn *ffn,
    size_t rows, const struct t5_ffn_tape *tape, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, f = c->d_ff, wide = wide_of(c);
    int result = reserve(scratch, c, err);
    if (result == 0)
        result = t5_reserve(&scratch->d_wide, ROWS * wide, err);
    if (result == 0)
        result = t5_reserve(&scratch->d_gate, ROWS * (f + d), err);
    if (result < 0)
        return result;
    float *dwi = t5_grad(grads, model, ffn->wi), *dwo = t5_grad(grads, model, ffn->wo);
    for (size_t at = 0; at < rows; at += ROWS) {
        const size_t some = rows - at < ROWS ? rows - at : ROWS;
        float *dx = dhidden + at * d, *middle = tape->wide + at * wide, *dmiddle = scratch->d_wide.data;
        float *dactive = c->gated ? scratch->d_gate.data : dmiddle, *dout = scratch->d_gate.data + ROWS * f;
        const float *active = activate(middle, c, at, some, tape, scratch->gate.data);
        memcpy(dout, dx, some * d * sizeof *dout);
        vec_dropout(dout, some * d, at * d, &tape->outer);
        gemm(GEMM_TN, dwo, dout, active, d, f, some, 1);      /* (R,d)^T (R,F) -> (d,F) */
        gemm(GEMM_NN, dactive, dout, ffn->wo, some, f, d, 0); /* (R,d) (d,F) -> (R,F) */
        vec_dropout(dactive, some * f, at * f, &tape->inner);
        if (c->gated)
            vec_gated_gelu_backward(dmiddle, dactive, middle, some, f);
        else
            vec_relu_backward(dmiddle, middle, some * f);
        float *norm = scratch->norm.data, *dnorm = dout; /* dout has been read */
        vec_rms_norm(norm, tape->in + at * d, ffn->norm, some, d, (float)c->layer_norm_epsilon);
        gemm(GEMM_TN, dwi, dmiddle, norm, wide, d, some, 1);      /* (R,F)^T (R,d) -> (F,d) */
        gemm(GEMM_NN, dnorm, dmiddle, ffn->wi, some, d, wide, 0); /* (R,F) (F,d) -> (R,d) */
        vec_rms_norm_backward(dx, t5_grad(grads, model, ffn->norm), dnorm, tape->in + at * d, ffn->norm, some,
            d, (float)c->layer_norm_epsilon);
    }
    return 0;
}
