/* Shared by core/engine*.c alone. */
#ifndef EMBSUM_CORE_ENGINE_INT_H
#define EMBSUM_CORE_ENGINE_INT_H

#include "core/attention.h"
#include "core/engine.h"

/* Tokens that pass the layers together: enough to use a layer's weights well while they are in the L3 cache, few enough
 * for their own states to stay there beside them. */
enum { ENGINE_TOKENS = 1024 };

/* Rows that pass a layer's weights together: their operands stay in the L2 cache. */
enum { ENGINE_ROWS = 48 };

struct engine_layer {
    struct linear *qkv, *o, *wi, *wo;
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
};

struct engine_buffer {
    float *data;
    size_t size;
};

struct engine_scratch {
    struct engine_buffer hidden, qkv, context, norm, middle, wide, scales, attention, bias;
    struct engine_buffer poly, code, logits;
    size_t *offsets;
    size_t offsets_size;
    size_t longest; /* that bias is made for */
};

/* Room for `need` floats, all zero when it grows; what it held before is lost. */
int engine_reserve(struct engine_buffer *buffer, size_t need, struct err *err);

#endif
