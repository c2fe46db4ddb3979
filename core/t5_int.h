/* Shared by core/t5*.c alone. */
#ifndef EMBSUM_CORE_T5_INT_H
#define EMBSUM_CORE_T5_INT_H

#include "core/t5.h"
#include "core/t5_train.h"
#include "core/vec.h"

struct buffer {
    float *data;
    size_t size;
};

struct t5_scratch {
    struct buffer norm, qkv, context, ffn, gate, scores, bias, logits;
    struct buffer d_wide, d_gate, d_hidden, d_qkv, d_context, d_bias, d_cross; /* the backward pass's */
};

/* Room for `need` floats, what it held before is lost. */
int t5_reserve(struct buffer *buffer, size_t need, struct err *err);

void t5_embed(float *hidden, const struct model *model, const int32_t *ids, size_t count);

/* dshared (vocab x d) += each row of dhidden at its id's row. */
void t5_embed_backward(
    float *dshared, const float *dhidden, const struct model *model, const int32_t *ids, size_t count);

/* Relative position biases of a stack: head h's for relative position r is table[h span + zero + r]. The encoder's reach
 * from 1 - longest to longest - 1, the decoder's, which never looks ahead, to 0. */
struct t5_bias {
    float *table; /* lies in the buffer it was made in */
    size_t span, zero;
    bool bidirectional;
};
int t5_bias_make(struct t5_bias *bias, struct buffer *buffer, const float *weight,
    const struct model_config *config, bool bidirectional, size_t longest, struct err *err);
/* dweight (buckets x heads) += the gradient of a table of that shape. */
void t5_bias_backward(float *dweight, const struct t5_bias *dbias, const struct model_config *config);

/* ---- attention of one sequence and one head (core/t5_attention.c) ---- */

enum { T5_ATTENTION_QUERIES = 64 }; /* worked on at a time */

struct t5_attention {
    size_t queries, keys, d_kv;
    const float *q, *k, *v; /* rows of the head: queries x d_kv, keys x d_kv */
    size_t ld_q, ld_kv;     /* floats from one row to the next */
    const float *bias;      /* of relative position 0, its neighbours beside it; NULL: none */
    bool causal;            /* key k is hidden from query q < k */
    struct vec_dropout dropout;
};

/* context (queries x d_kv) = dropout(softmax(Q K^T + bias)) V. scratch: T5_ATTENTION_QUERIES x keys floats. */
void t5_attention_forward(
    float *context, size_t ld_context, const struct t5_attention *attention, float *scratch);

/* dq, dk, dv (strides ld_q, ld_kv) and dbias (at relative position 0; may be NULL) += their gradients.
 * scratch: 3 x T5_ATTENTION_QUERIES x keys floats. */
void t5_attention_backward(float *dq, float *dk, float *dv, float *dbias, const float *dcontext,
    size_t ld_context, const struct t5_attention *attention, float *scratch);

/* ---- the feed-forward sublayer (core/t5_ffn.c) ---- */

/* What its backward pass needs. */
struct t5_ffn_tape {
    float *in;   /* rows x d: hidden before it */
    float *wide; /* rows x F after the relu; gated: rows x 2F before the gate */
    struct vec_dropout inner, outer;
};

/* hidden (rows x d) += FFN(norm(hidden)); tape NULL: inference. */
int t5_ffn_forward(float *hidden, const struct model *model, const struct model_ffn *ffn, size_t rows,
    struct t5_ffn_tape *tape, struct t5_scratch *scratch, struct err *err);

/* dhidden becomes the gradient before the sublayer; the parameters' are added to grads. */
int t5_ffn_backward(float *dhidden, float *grads, const struct model *model, const struct model_ffn *ffn,
    size_t rows, const struct t5_ffn_tape *tape, struct t5_scratch *scratch, struct err *err);

/* ---- the self-attention sublayer over packed sequences (core/t5_self.c) ---- */

struct t5_sequences {
    const size_t *offsets; /* sequence s is rows offsets[s] .. offsets[s + 1) - 1 */
    size_t count, longest;
};

struct t5_self_tape {
    float *in;      /* T x d: hidden before it */
    float *qkv;     /* T x 3I */
    float *context; /* T x I */
    struct vec_dropout weights, outer;
};

/* hidden (T x d) += attention of each sequence over itself; tape NULL: inference. */
int t5_self_forward(float *hidden, const struct model *model, const struct model_attention *self,
    const struct t5_sequences *sequences, const struct t5_bias *bias, bool causal, struct t5_self_tape *tape,
    struct t5_scratch *scratch, struct err *err);

/* dhidden becomes the gradient before the sublayer; grads and dbias->table are added to. */
int t5_self_backward(float *dhidden, float *grads, struct t5_bias *dbias, const struct model *model,
    const struct model_attention *self, const struct t5_sequences *sequences, const struct t5_bias *bias,
    bool causal, const struct t5_self_tape *tape, struct t5_scratch *scratch, struct err *err);

/* ---- the tape of a stack (core/t5_tape.c) ---- */

struct t5_cross_tape {
    float *in;      /* T x d */
    float *q;       /* T x I */
    float *kv;      /* S x 2I, of the source's rows */
    float *context; /* T x I */
    struct vec_dropout weights, outer;
};

struct t5_layer_tape {
    struct t5_self_tape self;
    struct t5_cross_tape cross; /* the decoder's */
    struct t5_ffn_tape ffn;
};

struct t5_tape {
    struct buffer memory;
    struct t5_layer_tape *layers;
    size_t layer_count;
    float *final_in; /* T x d: hidden before the final layer norm */
    struct vec_dropout embedded, final;
    const int32_t *ids;
    struct t5_sequences sequences;
    size_t tokens;
};

/* Lay the tape out for one pass; source is the number of rows the cross-attention reads, 0 for the encoder. */
int t5_tape_begin(struct t5_tape *tape, const struct model_config *config, size_t layers, const int32_t *ids,
    const size_t *offsets, size_t count, size_t source, struct t5_dropout dropout, struct err *err);

/* dstates (T x d), the gradient of the states, becomes that of hidden before the final layer norm. */
int t5_final_backward(float *grads, float *dstates, const struct t5_tape *tape, const struct model *model,
    const float *norm, struct t5_scratch *scratch, struct err *err);

/* Dropout of one sequence's one head, from that of its sublayer. */
struct vec_dropout t5_dropout_of(const struct vec_dropout *sublayer, size_t sequence, size_t head);

struct t5_sequences t5_sequences(const size_t *offsets, size_t count);

/* Where the gradient of a weight lies: grads has the layout of model->params. */
static inline float *t5_grad(float *grads, const struct model *model, const float *weight)
{
    return grads + (weight - model->params);
}

#endif
