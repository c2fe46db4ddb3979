/* Shared by core/t5_*.c alone. */
#ifndef EMBSUM_CORE_T5_INT_H
#define EMBSUM_CORE_T5_INT_H

#include "core/t5.h"

struct buffer {
    float *data;
    size_t size;
};

struct t5_scratch {
    struct buffer hidden, norm, qkv, context, ffn, gate, scores, bias;
    struct buffer query, cross, cache, logits, best; /* the decoder's */
};

/* Room for `need` floats, what it held before is lost. */
int t5_reserve(struct buffer *buffer, size_t need, struct err *err);

/* hidden += FFN(norm(hidden)), rows x d. */
int t5_ffn(float *hidden, const struct model *model, const struct model_ffn *ffn, size_t rows,
    struct t5_scratch *scratch, struct err *err);

void t5_embed(float *hidden, const struct model *model, const int32_t *ids, size_t count);

/* table (heads x span): bias of every head for the relative positions first, first + 1, ... */
void t5_bias_table(float *table, const float *bias, const struct model_config *config, bool bidirectional,
    long first, size_t span);

#endif
