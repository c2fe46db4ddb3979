/* The table of parameters, and the pointers into them. */
#include "core/model_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The table is built in two passes over the same code: the first counts, the second fills in the rows. */
struct builder {
    struct model *model;
    bool fill;
    size_t tensors, params;
};

struct shape {
    size_t rows, cols, dims;
    double mean, deviation;
    bool head, optional;
};

static const float *add(struct builder *b, struct shape shape, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static const float *add(struct builder *b, struct shape shape, const char *format, ...)
{
    const float *at = b->fill ? b->model->params + b->params : NULL;
    if (b->fill) {
        struct model_tensor *tensor = &b->model->tensors[b->tensors];
        *tensor = (struct model_tensor){.rows = shape.rows,
            .cols = shape.cols,
            .dims = shape.dims,
            .offset = b->params,
            .mean = shape.mean,
            .deviation = shape.deviation,
            .head = shape.head,
            .optional = shape.optional};
        va_list args;
        va_start(args, format);
        vsnprintf(tensor->name, sizeof tensor->name, format, args);
        va_end(args);
    }
    b->tensors++;
    b->params += shape.rows * shape.cols;
    return at;
}

static struct shape norm(size_t d, double start, bool optional)
{
    return (struct shape){1, d, 1, start, 0, false, optional};
}

static struct shape matrix(size_t rows, size_t cols, double deviation, bool optional)
{
    return (struct shape){rows, cols, 2, 0, deviation, false, optional};
}

static struct shape head(size_t rows, size_t cols, double deviation, bool optional)
{
    return (struct shape){rows, cols, 2, 0, deviation, true, optional};
}

static void add_attention(struct builder *b, struct model_attention *attention, const float **bias,
    const char *stack, size_t block, size_t layer, const char *name, bool optional)
{
    const struct model_config *c = &b->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    const double f = c->initializer_factor;
#define NAME(what) "%s.block.%zu.layer.%zu.%s." what ".weight", stack, block, layer, name
    attention->q = add(b, matrix(inner, d, f * pow((double)(d * c->d_kv), -0.5), optional), NAME("q"));
    attention->k = add(b, matrix(inner, d, f * pow((double)d, -0.5), optional), NAME("k"));
    attention->v = add(b, matrix(inner, d, f * pow((double)d, -0.5), optional), NAME("v"));
    attention->o = add(b, matrix(d, inner, f * pow((double)inner, -0.5), optional), NAME("o"));
    if (bias)
        *bias = add(b, matrix(c->relative_buckets, c->heads, f * pow((double)d, -0.5), optional),
            NAME("relative_attention_bias"));
#undef NAME
    attention->norm =
        add(b, norm(d, f, optional), "%s.block.%zu.layer.%zu.layer_norm.weight", stack, block, layer);
}

static void add_ffn(
    struct builder *b, struct model_ffn *ffn, const char *stack, size_t block, size_t layer, bool optional)
{
    const struct model_config *c = &b->model->config;
    const size_t d = c->d_model;
    const double in = c->initializer_factor * pow((double)d, -0.5),
                 out = c->initializer_factor * pow((double)c->d_ff, -0.5);
#define NAME(what) "%s.block.%zu.layer.%zu." what ".weight", stack, block, layer
    if (c->gated) {
        ffn->wi = add(b, matrix(c->d_ff, d, in, optional), NAME("DenseReluDense.wi_0"));
        add(b, matrix(c->d_ff, d, in, optional), NAME("DenseReluDense.wi_1"));
    } else {
        ffn->wi = add(b, matrix(c->d_ff, d, in, optional), NAME("DenseReluDense.wi"));
    }
    ffn->wo = add(b, matrix(d, c->d_ff, out, optional), NAME("DenseReluDense.wo"));
    ffn->norm = add(b, norm(d, c->initializer_factor, optional), NAME("layer_norm"));
#undef NAME
}

static void add_all(struct builder *b)
{
    struct model *model = b->model;
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, p = c->code_dim;
    const double small = pow((double)d, -0.5);
    /* Both sides of a score are means of states: with this gain the product of two of them begins with deviation 1, and
     * the softmax of L_NCE where it can learn. */
    const double state = c->initializer_factor * pow((double)d, -0.25);
    const bool no_decoder = c->ablation == ABLATION_NO_LSUM;

    /* A step of Adam moves a weight by about the rate, whatever its size: small embeddings learn sooner, and the norms
     * behind them take their scale off anyway. */
    const double embedding = 0.2 * c->initializer_factor;
    model->shared = add(b, matrix(c->vocab_size, d, embedding, false), "shared.weight");
    for (size_t i = 0; i < c->encoder_layers; i++) {
        struct model_block *block = &model->encoder[i];
        add_attention(
            b, &block->self, i ? NULL : &model->encoder_bias, "encoder", i, 0, "SelfAttention", false);
        add_ffn(b, &block->ffn, "encoder", i, 1, false);
    }
    model->encoder_norm = add(b, norm(d, state, false), "encoder.final_layer_norm.weight");
    for (size_t i = 0; i < c->decoder_layers; i++) {
        struct model_block *block = &model->decoder[i];
        add_attention(
            b, &block->self, i ? NULL : &model->decoder_bias, "decoder", i, 0, "SelfAttention", no_decoder);
        add_attention(b, &block->cross, NULL, "decoder", i, 1, "EncDecAttention", no_decoder);
        add_ffn(b, &block->ffn, "decoder", i, 2, no_decoder);
    }
    model->decoder_norm = add(b, norm(d, state, no_decoder), "decoder.final_layer_norm.weight");
    model->lm_head =
        c->tied ? model->shared : add(b, matrix(c->vocab_size, d, embedding, no_decoder), "lm_head.weight");

    const bool no_upe = c->ablation == ABLATION_NO_UPE, no_cpe = c->ablation == ABLATION_NO_CPE;
    const double code = pow((double)p, -0.5);
    model->user_codes = add(b, head(c->user_codes, p, code, no_upe), "embsum.user.codes");
    model->user_proj = add(b, head(d, p, small, no_upe), "embsum.user.proj");
    model->content_codes = add(b, head(c->content_codes, p, code, no_cpe), "embsum.content.codes");
    model->content_proj = add(b, head(d, p, small, no_cpe), "embsum.content.proj");
    model->score_proj = add(b, head(d, d, small, false), "embsum.score.proj");
}

int model_build(struct model **out, const char *config_text, size_t config_len, struct err *err)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = model_config_parse(&model->config, config_text, config_len, err);
    if (result < 0)
        goto fail;
    result = err_set(err, ERR_NOMEM, "out of memory for the model");
    model->config_text = malloc(config_len + 1);
    model->encoder = calloc(model->config.encoder_layers, sizeof *model->encoder);
    model->decoder = calloc(model->config.decoder_layers, sizeof *model->decoder);
    if (!model->config_text || !model->encoder || !model->decoder)
        goto fail;
    memcpy(model->config_text, config_text, config_len);
    model->config_text[config_len] = '\0';
    model->config_len = config_len;

    struct builder count = {.model = model};
    add_all(&count); /* bounded: every extent was checked with the config, so nothing overflows 64 bits */
    if (count.params > SIZE_MAX / sizeof *model->params)
        goto fail;
    model->tensors = calloc(count.tensors, sizeof *model->tensors);
    model->params = calloc(count.params, sizeof *model->params);
    if (!model->tensors || !model->params)
        goto fail;
    model->tensor_count = count.tensors;
    model->param_count = count.params;
    struct builder fill = {.model = model, .fill = true};
    add_all(&fill);
    *out = model;
    if (err)
        *err = (struct err)ERR_INIT;
    return 0;
fail:
    model_free(model);
    return result;
}

void model_free(struct model *model)
{
    if (!model)
        return;
    free(model->config_text);
    free(model->encoder);
    free(model->decoder);
    free(model->tensors);
    free(model->params);
    free(model);
}
