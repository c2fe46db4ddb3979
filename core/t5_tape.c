/* The memory of a forward pass: one block, laid out anew for each batch, kept at its largest size. */
#include "core/rng.h"
#include "core/t5_int.h"

#include <stdlib.h>
#include <string.h>

int t5_tape_new(struct t5_tape **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void t5_tape_free(struct t5_tape *tape)
{
    if (!tape)
        return;
    free(tape->memory.data);
    free(tape->layers);
    free(tape);
}

struct t5_sequences t5_sequences(const size_t *offsets, size_t count)
{
    struct t5_sequences sequences = {offsets, count, 1};
    for (size_t i = 0; i < count; i++)
        if (offsets[i + 1] - offsets[i] > sequences.longest)
            sequences.longest = offsets[i + 1] - offsets[i];
    return sequences;
}

/* Where dropout happens in a layer; each place has a key of its own. */
enum site {
    SITE_EMBEDDED,
    SITE_FINAL,
    SITE_SELF,
    SITE_SELF_OUT,
    SITE_CROSS,
    SITE_CROSS_OUT,
    SITE_FFN,
    SITE_FFN_OUT,
    SITES
};

static struct vec_dropout site(struct t5_dropout dropout, size_t layer, enum site which)
{
    struct rng rng = rng_seed(dropout.seed, layer * SITES + which);
    return (struct vec_dropout){dropout.rate, rng_next(&rng)};
}

struct vec_dropout t5_dropout_of(const struct vec_dropout *sublayer, size_t sequence, size_t head)
{
    if (sublayer->rate <= 0)
        return *sublayer;
    struct rng rng = rng_seed(sublayer->key, sequence << 16 | head);
    return (struct vec_dropout){sublayer->rate, rng_next(&rng)};
}

/* The next `count` floats of the block, in the first pass (at NULL) only counted. */
static float *next(float *at, size_t *used, size_t count)
{
    float *taken = at ? at + *used : NULL;
    *used += count;
    return taken;
}

static size_t lay_out(struct t5_tape *tape, const struct model_config *c, size_t source, float *at)
{
    const size_t tokens = tape->tokens, d = c->d_model, inner = c->heads * c->d_kv;
    size_t used = 0;
    for (size_t i = 0; i < tape->layer_count; i++) {
        struct t5_layer_tape *layer = &tape->layers[i];
        layer->self.in = next(at, &used, tokens * d);
        layer->self.qkv = next(at, &used, tokens * 3 * inner);
        layer->self.context = next(at, &used, tokens * inner);
        if (source) {
            layer->cross.in = next(at, &used, tokens * d);
            layer->cross.q = next(at, &used, tokens * inner);
            layer->cross.kv = next(at, &used, source * 2 * inner);
            layer->cross.context = next(at, &used, tokens * inner);
        }
        layer->ffn.in = next(at, &used, tokens * d);
        layer->ffn.wide = next(at, &used, tokens * (c->gated ? 2 : 1) * c->d_ff);
    }
    tape->final_in = next(at, &used, tokens * d);
    return used;
}

int t5_tape_begin(struct t5_tape *tape, const struct model_config *config, size_t layers, const int32_t *ids,
    const size_t *offsets, size_t count, size_t source, struct t5_dropout dropout, struct err *err)
{
    if (layers > tape->layer_count) {
        struct t5_layer_tape *more = realloc(tape->layers, layers * sizeof *more);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory");
        tape->layers = more;
    }
    tape->layer_count = layers;
    tape->ids = ids;
    tape->sequences = t5_sequences(offsets, count);
    tape->tokens = offsets[count];
    const int result = t5_reserve(&tape->memory, lay_out(tape, config, source, NULL), err);
    if (result < 0)
        return result;
    lay_out(tape, config, source, tape->memory.data);
    tape->embedded = site(dropout, 0, SITE_EMBEDDED);
    tape->final = site(dropout, 0, SITE_FINAL);
    for (size_t i = 0; i < layers; i++) {
        struct t5_layer_tape *layer = &tape->layers[i];
        layer->self.weights = site(dropout, i, SITE_SELF);
        layer->self.outer = site(dropout, i, SITE_SELF_OUT);
        layer->cross.weights = site(dropout, i, SITE_CROSS);
        layer->cross.outer = site(dropout, i, SITE_CROSS_OUT);
        layer->ffn.inner = site(dropout, i, SITE_FFN);
        layer->ffn.outer = site(dropout, i, SITE_FFN_OUT);
    }
    return 0;
}

int t5_final_backward(float *grads, float *dstates, const struct t5_tape *tape, const struct model *model,
    const float *norm, struct t5_scratch *scratch, struct err *err)
{
    const size_t d = model->config.d_model, count = tape->tokens * d;
    const int result = t5_reserve(&scratch->d_hidden, count, err);
    if (result < 0)
        return result;
    vec_dropout(dstates, count, 0, &tape->final);
    memcpy(scratch->d_hidden.data, dstates, count * sizeof *dstates);
    memset(dstates, 0, count * sizeof *dstates);
    vec_rms_norm_backward(dstates, t5_grad(grads, model, norm), scratch->d_hidden.data, tape->final_in, norm,
        tape->tokens, d, (float)model->config.layer_norm_epsilon);
    return 0;
}
