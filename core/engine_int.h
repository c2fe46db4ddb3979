/* Shared by core/engine*.c alone. */
#ifndef EMBSUM_CORE_ENGINE_INT_H
#define EMBSUM_CORE_ENGINE_INT_H

#include "core/attention.h"
#include "core/cross.h"
#include "core/engine.h"

/* Tokens that pass the layers together: enough to use a layer's weights well while they are in the L3 cache, few enough
 * for their own states to stay there beside them. */
enum { ENGINE_TOKENS = 1024 };

/* Rows that pass a layer's weights together: their operands stay in the L2 cache. */
enum { ENGINE_ROWS = 48 };

/* Words of the output embedding whose logits are computed at a time: they stay in the L2 cache. */
enum { ENGINE_WORDS = 4096 };

struct engine_ffn {
    struct linear *wi, *wo;
    const float *norm; /* the model's */
};

struct engine_layer {
    struct linear *qkv, *o;
    struct engine_ffn ffn;
};

struct engine_decoder_layer {
    struct linear *qkv, *o, *cross_q, *cross_o;
    struct {
        struct linear *absorb;  /* W_k^T, d x d_kv: queries to those of states */
        struct linear *release; /* W_v, d_kv x d: sums of states to contexts */
    } * heads;
    struct engine_ffn ffn;
};

struct engine_decoder {
    enum linear_dtype dtype;
    enum cross_dtype source;
    const struct cross_kernel *cross;
    struct engine_decoder_layer *layers; /* NULL: the model has no decoder */
    struct linear **words;               /* the output embedding in parts of ENGINE_WORDS */
    size_t word_parts;
    float *bias; /* heads x (max_summary_tokens + 1): of relative positions -max_summary_tokens .. 0 */
};

struct engine_poly {
    struct linear *proj, *codes; /* p x d, k x p */
};

struct engine {
    const struct model *model;
    enum linear_dtype dtype;
    struct engine_layer *layers;
    struct engine_poly heads[ENGINE_HEADS];
    const struct linear_kernel *attention;
    bool attention_bf16;
    struct engine_decoder decoder;
};

struct engine_buffer {
    float *data;
    size_t size;
};

struct engine_scratch {
    struct engine_buffer hidden, qkv, context, norm, middle, wide, scales, attention, bias;
    struct engine_buffer poly, code, logits;
    struct engine_buffer absorbed, cross, scores, cache; /* of generation */
    size_t *offsets;
    size_t offsets_size;
    size_t longest; /* that bias is made for */
};

/* Room for `need` floats, all zero when it grows; what it held before is lost. */
int engine_reserve(struct engine_buffer *buffer, size_t need, struct err *err);

/* A weight for products in a dtype. kernel: one that does not know a dtype other than the engine's gives way to the
 * fastest that does. */
int engine_pack(struct linear **out, enum linear_dtype dtype, const char *kernel,
    const struct linear_weight *weight, struct err *err);

/* ---- rows (core/engine_encode.c) ---- */

/* Rows of a product's input in a buffer of the scratch. */
static inline struct linear_rows engine_rows(
    struct engine_scratch *s, struct engine_buffer *buffer, enum linear_dtype dtype, size_t inputs)
{
    return (struct linear_rows){
        (uint32_t *)buffer->data, linear_stride(dtype, inputs), s->scales.data, false};
}

/* What a product's ENGINE_ROWS rows need: norm, middle, wide, scales. */
int engine_reserve_rows(
    struct engine_scratch *s, const struct engine *engine, enum linear_dtype dtype, struct err *err);

/* hidden (rows x d) += W_o relu(W_i norm(hidden)), or gated. dtype: of the packed weights. */
void engine_feed_forward(float *hidden, const struct engine *engine, const struct engine_ffn *ffn,
    enum linear_dtype dtype, size_t rows, struct engine_scratch *s);

/* ---- the decoder (core/engine_decoder.c) ---- */

int engine_decoder_pack(struct engine *engine, const char *kernel, struct err *err);
void engine_decoder_drop(struct engine *engine);

#endif
