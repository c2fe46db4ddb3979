/* An EmbSum model: a T5 and the three small heads on it. Weights are immutable once loaded and shared by all
 * threads; scratch lives elsewhere (core/encode.h).
 *
 * All parameters come from one table: their names as Hugging Face writes them, their shapes, the deviation
 * they are drawn with, and where they lie. Loading, saving and drawing (and training) walk the table; the
 * computation uses the pointers beside it. Matrices are stored as PyTorch's Linear stores them, out x in, so
 * that a layer is y = x W^T.
 */
#ifndef EMBSUM_CORE_MODEL_H
#define EMBSUM_CORE_MODEL_H

#include "core/model_config.h"

struct model_tensor {
    char name[88];
    size_t rows, cols; /* a norm's weight has rows 1 and one dimension in the file */
    size_t dims;
    size_t offset;          /* of the first element in model.params */
    double mean, deviation; /* of a seeded random start */
    bool head;              /* one of EmbSum's own, absent from a plain T5 checkpoint */
    bool optional;          /* not used under the model's ablation: may be absent, and is zero then */
};

/* q, k and v lie one behind the other, so that one product gives all three (or k and v of the
 * cross-attention). */
struct model_attention {
    const float *norm;      /* d */
    const float *q, *k, *v; /* (heads d_kv) x d each */
    const float *o;         /* d x (heads d_kv) */
};

struct model_ffn {
    const float *norm; /* d */
    const float *wi;   /* d_ff x d; gated: wi_0 over wi_1, 2 d_ff x d */
    const float *wo;   /* d x d_ff */
};

struct model_block {
    struct model_attention self, cross; /* cross: the decoder's alone */
    struct model_ffn ffn;
};

struct model {
    struct model_config config;
    char *config_text; /* config.json as it was read */
    size_t config_len;

    struct model_tensor *tensors;
    size_t tensor_count;
    float *params;
    size_t param_count;

    const float *shared;  /* vocab x d */
    const float *lm_head; /* vocab x d; the same as shared where the output is tied */
    struct model_block *encoder, *decoder;
    const float *encoder_norm, *decoder_norm; /* d */
    const float *encoder_bias, *decoder_bias; /* relative_buckets x heads */
    const float *user_codes, *content_codes;  /* m x p, n x p */
    const float *user_proj, *content_proj;    /* d x p */
    const float *score_proj;                  /* d x d */
};

/* Read dir/config.json and dir/model.safetensors. A tensor that is missing, unknown, of another shape or not
 * finite is an error that names it. With `plain_t5`, EmbSum's own tensors may all be absent; they are drawn
 * from the seed. */
struct model_load_options {
    bool plain_t5;
    unsigned long seed;
    const char *config_path; /* instead of dir/config.json, or NULL */
};
int model_load(
    struct model **out, const char *dir, const struct model_load_options *options, struct err *err);

/* Random weights, as Hugging Face initialises T5, but for three choices that help EmbSum from scratch: embeddings have a
 * fifth of T5's deviation, [SOS]'s row half of that, so that the state that stands for an item is made of the item and not
 * of [SOS], and the final norms begin at d^-1/4. The same seed gives the same model everywhere. */
int model_init(struct model **out, const char *config_path, unsigned long seed, struct err *err);

/* Write dir/config.json and dir/model.safetensors, each replaced in one step. The folder must exist. */
int model_save(const struct model *model, const char *dir, struct err *err);

void model_free(struct model *model);

#endif
