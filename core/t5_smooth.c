#include "core/t5_smooth.h"

#include "core/array.h"
#include "core/gemm.h"
#include "core/linear.h"
#include "core/t5_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double strengths[] = {0, 0.25, 0.5, 0.75, 1}; /* 0: none */
enum { CANDIDATES = sizeof strengths / sizeof *strengths, ROWS = 128 };
enum { SHIFT_MAX = 20 }; /* of s_j = 2^shift: beyond it a channel carries nothing */

/* A product x W^T as the encoder runs it, over all tokens. */
struct product {
    const char *name;
    const float *x;  /* tokens x inputs */
    size_t x_stride; /* floats from one row to the next */
    float *weight;   /* outputs x inputs */
    size_t tokens, inputs, outputs;
    bool positive; /* x comes out of a relu */
};

/* A product whose inputs are divided by 2^shift. */
struct candidate {
    int *shift;
    struct linear *linear;
    double error;
};

/* ---- the scales ---- */

static void raise_tops(float *tops, const float *x, size_t x_stride, size_t rows, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++)
            tops[j] = fmaxf(tops[j], fabsf(x[r * x_stride + j]));
}

/* tops: of x and of W by input channel. A channel that is always zero has nothing to move. Only ratios among the channels
 * matter, so the middle of all is taken off. */
static void choose_shifts(
    int *shift, const float *x_tops, const float *w_tops, size_t inputs, double strength)
{
    double sum = 0;
    size_t alive = 0;
    for (size_t j = 0; j < inputs; j++) {
        shift[j] = 0;
        if (strength > 0 && x_tops[j] > 0 && w_tops[j] > 0) {
            sum += strength * log2((double)x_tops[j]) - (1 - strength) * log2((double)w_tops[j]);
            alive++;
        }
    }
    for (size_t j = 0; alive && j < inputs; j++) {
        if (x_tops[j] <= 0 || w_tops[j] <= 0)
            continue;
        const double exact = strength * log2((double)x_tops[j]) - (1 - strength) * log2((double)w_tops[j]) -
                             sum / (double)alive;
        shift[j] = (int)lrint(fmin(fmax(exact, -SHIFT_MAX), SHIFT_MAX));
    }
}

static void scale_column(float *weight, size_t rows, size_t columns, size_t j, int shift)
{
    for (size_t r = 0; r < rows; r++)
        weight[r * columns + j] = ldexpf(weight[r * columns + j], shift);
}

/* ---- what int8 loses ---- */

static int pack(struct candidate *candidate, const struct product *p, float *scaled, struct err *err)
{
    const struct linear_weight weight = {scaled, p->outputs, p->inputs, p->inputs, 1};
    memcpy(scaled, p->weight, p->outputs * p->inputs * sizeof *scaled);
    for (size_t j = 0; j < p->inputs; j++)
        if (candidate->shift[j])
            scale_column(scaled, p->outputs, p->inputs, j, candidate->shift[j]);
    return linear_new(&candidate->linear, LINEAR_INT8, NULL, &weight, err);
}

/* Memory of one comparison. */
struct bench {
    float *x, *exact, *found;
    struct linear_rows rows;
};

static double compare(
    const struct candidate *candidate, const struct product *p, struct bench *b, const float *x, size_t some)
{
    const size_t count = some * p->outputs;
    double squares = 0;
    for (size_t r = 0; r < some; r++)
        for (size_t j = 0; j < p->inputs; j++)
            b->x[r * p->inputs + j] = ldexpf(x[r * p->x_stride + j], -candidate->shift[j]);
    if (p->positive)
        linear_activate(&b->rows, candidate->linear, b->x, p->inputs, false, some);
    else
        linear_convert(&b->rows, candidate->linear, b->x, p->inputs, some);
    linear_apply(
        &(struct linear_out){b->found, p->outputs, LINEAR_SET, false}, candidate->linear, &b->rows, some);
    for (size_t i = 0; i < count; i++)
        squares += pow((double)b->found[i] - (double)b->exact[i], 2);
    return squares;
}

/* Each candidate's error, relative. */
static void measure(struct candidate candidates[CANDIDATES], const struct product *p, struct bench *b)
{
    double total = 0;
    for (size_t at = 0; at < p->tokens; at += ROWS) {
        const size_t some = p->tokens - at < ROWS ? p->tokens - at : ROWS;
        const float *x = p->x + at * p->x_stride;
        gemm_part(GEMM_NT, b->exact, p->outputs, x, p->x_stride, p->weight, p->inputs, some, p->outputs,
            p->inputs, 0);
        for (size_t i = 0; i < some * p->outputs; i++)
            total += (double)b->exact[i] * (double)b->exact[i];
        for (size_t i = 0; i < CANDIDATES; i++)
            candidates[i].error += compare(&candidates[i], p, b, x, some);
    }
    for (size_t i = 0; i < CANDIDATES; i++)
        candidates[i].error = total > 0 ? sqrt(candidates[i].error / total) : 0;
}

static int find(int *shift, struct t5_smoothed *found, struct candidate candidates[CANDIDATES],
    const struct product *p, float *scaled, struct err *err)
{
    const size_t stride = linear_stride(LINEAR_INT8, p->inputs);
    struct bench b = {array_floats(ROWS * p->inputs, false), array_floats(ROWS * p->outputs, false),
        array_floats(ROWS * p->outputs, false),
        {(uint32_t *)array_floats(ROWS * stride, true), stride, array_floats(ROWS, false), false}};
    int result = b.x && b.exact && b.found && b.rows.units && b.rows.scales
                     ? 0
                     : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < CANDIDATES; i++)
        result = pack(&candidates[i], p, scaled, err);
    if (result == 0) {
        size_t best = 0;
        measure(candidates, p, &b);
        for (size_t i = 1; i < CANDIDATES; i++)
            if (candidates[i].error < candidates[best].error)
                best = i;
        memcpy(shift, candidates[best].shift, p->inputs * sizeof *shift);
        found->name = p->name;
        found->strength = strengths[best];
        found->before = candidates[0].error;
        found->after = candidates[best].error;
    }
    free(b.x);
    free(b.exact);
    free(b.found);
    free(b.rows.units);
    free(b.rows.scales);
    return result;
}

/* shift (inputs): the one that loses least; W's columns are scaled by it. What makes x is the caller's to divide. */
static int smooth(int *shift, struct t5_smoothed *found, const struct product *p, struct err *err)
{
    struct candidate candidates[CANDIDATES] = {{0}};
    float *const scaled = array_floats(p->outputs * p->inputs, false),
                 *tops = calloc(2 * p->inputs, sizeof *tops);
    int *const shifts = malloc(CANDIDATES * p->inputs * sizeof *shifts);
    int result = scaled && tops && shifts ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0) {
        raise_tops(tops, p->x, p->x_stride, p->tokens, p->inputs);
        raise_tops(tops + p->inputs, p->weight, p->inputs, p->outputs, p->inputs);
        for (size_t i = 0; i < CANDIDATES; i++) {
            candidates[i].shift = shifts + i * p->inputs;
            choose_shifts(candidates[i].shift, tops, tops + p->inputs, p->inputs, strengths[i]);
        }
        result = find(shift, found, candidates, p, scaled, err);
    }
    for (size_t j = 0; result == 0 && j < p->inputs; j++)
        if (shift[j])
            scale_column(p->weight, p->outputs, p->inputs, j, shift[j]);
    for (size_t i = 0; i < CANDIDATES; i++)
        linear_free(candidates[i].linear);
    free(scaled);
    free(tops);
    free(shifts);
    return result;
}

/* ---- the encoder, layer by layer ---- */

struct walk {
    struct model *model;
    struct t5_sequences sequences;
    struct t5_bias bias;
    size_t tokens;
    float *hidden;            /* T x d */
    float *norm;              /* T x d */
    struct t5_self_tape self; /* of the layer in hand */
    struct t5_ffn_tape ffn;
    float *active; /* T x d_ff; gated: its own, else ffn.wide */
    int *shift;
    void (*told)(void *ctx, const struct t5_smoothed *product);
    void *ctx;
};

/* A weight of the model, to be changed. */
static float *own(struct walk *w, const float *weight)
{
    return w->model->params + (weight - w->model->params);
}

static int smooth_one(struct walk *w, size_t layer, const struct product *p, struct err *err)
{
    struct t5_smoothed found = {.layer = layer};
    const int result = smooth(w->shift, &found, p, err);
    if (result == 0 && w->told)
        w->told(w->ctx, &found);
    return result;
}

/* Product p reads what the `makers` rows of `maker`, `width` numbers each, make: a norm's weight is rows of one number. */
static int smooth_behind(
    struct walk *w, size_t layer, const struct product *p, float *maker, size_t width, struct err *err)
{
    const int result = smooth_one(w, layer, p, err);
    for (size_t j = 0; result == 0 && j < p->inputs; j++)
        for (size_t i = 0; w->shift[j] && i < width; i++)
            maker[j * width + i] = ldexpf(maker[j * width + i], -w->shift[j]);
    return result;
}

static int smooth_layer(struct walk *w, size_t layer, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &w->model->config;
    const struct model_block *block = &w->model->encoder[layer];
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    const float epsilon = (float)c->layer_norm_epsilon;
    int result = t5_self_forward(
        w->hidden, w->model, &block->self, &w->sequences, &w->bias, false, &w->self, scratch, err);
    if (result == 0)
        result = t5_ffn_forward(w->hidden, w->model, &block->ffn, w->tokens, &w->ffn, scratch, err);
    if (result < 0)
        return result;
    if (c->gated)
        vec_gated_gelu(w->active, w->ffn.wide, w->tokens, c->d_ff);
    vec_rms_norm(w->norm, w->self.in, block->self.norm, w->tokens, d, epsilon);
    const struct product qkv = {"qkv", w->norm, d, own(w, block->self.q), w->tokens, d, 3 * inner, false},
                         o = {"o", w->self.context, inner, own(w, block->self.o), w->tokens, inner, d, false},
                         wi = {"wi", w->norm, d, own(w, block->ffn.wi), w->tokens, d,
                             c->gated ? 2 * c->d_ff : c->d_ff, false},
                         wo = {"wo", w->active, c->d_ff, own(w, block->ffn.wo), w->tokens, c->d_ff, d,
                             !c->gated};
    result = smooth_behind(w, layer, &qkv, own(w, block->self.norm), 1, err);
    if (result == 0)
        result = smooth_behind(w, layer, &o, own(w, block->self.v), d, err);
    if (result < 0)
        return result;
    vec_rms_norm(w->norm, w->ffn.in, block->ffn.norm, w->tokens, d, epsilon);
    result = smooth_behind(w, layer, &wi, own(w, block->ffn.norm), 1, err);
    if (result == 0) /* gated: what the gate multiplies, gelu is not linear */
        result = smooth_behind(w, layer, &wo, own(w, block->ffn.wi) + (c->gated ? c->d_ff * d : 0), d, err);
    return result;
}

static int walk_through(struct walk *w, const int32_t *ids, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &w->model->config;
    int result =
        t5_bias_make(&w->bias, &scratch->bias, w->model->encoder_bias, c, true, w->sequences.longest, err);
    if (result == 0)
        t5_embed(w->hidden, w->model, ids, w->tokens);
    for (size_t layer = 0; result == 0 && layer < c->encoder_layers; layer++)
        result = smooth_layer(w, layer, scratch, err);
    return result;
}

int t5_smooth(struct model *model, const int32_t *ids, const size_t *offsets, size_t count,
    void (*told)(void *ctx, const struct t5_smoothed *product), void *ctx, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t tokens = offsets[count], d = c->d_model, inner = c->heads * c->d_kv, f = c->d_ff;
    struct t5_scratch *scratch;
    float *const block = array_floats(tokens * (4 * d + 4 * inner + (c->gated ? 3 : 1) * f), false);
    int *const shift = malloc((d + inner + f) * sizeof *shift);
    int result = block && shift ? t5_scratch_new(&scratch, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0) {
        struct walk w = {.model = model,
            .sequences = t5_sequences(offsets, count),
            .tokens = tokens,
            .hidden = block,
            .norm = block + tokens * d,
            .self = {.in = block + 2 * tokens * d, .context = block + 4 * tokens * d},
            .ffn = {.in = block + 3 * tokens * d},
            .shift = shift,
            .told = told,
            .ctx = ctx};
        w.self.qkv = w.self.context + tokens * inner;
        w.ffn.wide = w.self.qkv + 3 * tokens * inner;
        w.active = c->gated ? w.ffn.wide + 2 * tokens * f : w.ffn.wide;
        result = walk_through(&w, ids, scratch, err);
        t5_scratch_free(scratch);
    }
    free(block);
    free(shift);
    return result;
}
