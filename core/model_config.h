/* A model's config.json: T5's own keys as Hugging Face writes them, and the "embsum" object (DESIGN,
 * "Files"). */
#ifndef EMBSUM_CORE_MODEL_CONFIG_H
#define EMBSUM_CORE_MODEL_CONFIG_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left out of the model (the paper's ablation table). */
enum ablation {
    ABLATION_NONE,
    ABLATION_NO_CPE,      /* B = mean of H, n = 1 */
    ABLATION_NO_UPE,      /* A = mean of Z, m = 1 */
    ABLATION_NO_GROUPING, /* session_size 1 */
    ABLATION_NO_LSUM      /* no decoder: Z = [u_1..u_k] */
};

/* The columns of news.tsv that item text can be made of. */
enum text_column { TEXT_TITLE, TEXT_ABSTRACT, TEXT_CATEGORY, TEXT_SUBCATEGORY, TEXT_COLUMNS };

#define MODEL_FIELDS_MAX 16
#define MODEL_AFFIX_MAX 128

/* One field of an item's text: prefix, value and suffix are tokenised as one string and cut to max_tokens. */
struct model_field {
    enum text_column column;
    char prefix[MODEL_AFFIX_MAX], suffix[MODEL_AFFIX_MAX];
    size_t max_tokens;
};

struct model_config {
    /* T5 */
    size_t d_model, d_kv, d_ff, heads, encoder_layers, decoder_layers, vocab_size;
    size_t relative_buckets, relative_max_distance;
    double layer_norm_epsilon, initializer_factor, dropout_rate;
    bool gated; /* feed_forward_proj: gated-gelu (T5 v1.1), else relu (v1.0) */
    bool tied;  /* the output embedding is the input embedding, and its logits are scaled by d_model^-0.5 */
    int32_t pad_id, eos_id, decoder_start_id;

    /* EmbSum */
    size_t user_codes, content_codes, code_dim; /* m, n, p */
    size_t session_size, max_items, max_summary_tokens;
    int32_t sos_id;
    enum ablation ablation;
    struct model_field fields[MODEL_FIELDS_MAX];
    size_t field_count;
};

/* Parse the text of a config.json. T5's keys that do not concern the computation are ignored; a key of the
 * "embsum" object that is unknown is an error. Keys that are left out have T5's and the paper's defaults. */
int model_config_parse(struct model_config *config, const char *text, size_t len, struct err *err);

/* The malloc'ed text of config.json for a model made from `text` (NULL: from the config alone): its keys as
 * they are, with the "embsum" object written out in full. NULL when memory is short. */
char *model_config_dump(const struct model_config *config, const char *text, size_t len);

/* Rows of A and B as the ablation leaves them. */
size_t model_m(const struct model_config *config);
size_t model_n(const struct model_config *config);
/* Items of a session as the ablation leaves them. */
size_t model_session_size(const struct model_config *config);

const char *ablation_name(enum ablation ablation);
int ablation_parse(enum ablation *ablation, const char *name, struct err *err);

#endif
