#include "core/model_config.h"

#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const ablation_names[] = {"none", "no_cpe", "no_upe", "no_grouping", "no_lsum"};
static const char *const column_names[TEXT_COLUMNS] = {"title", "abstract", "category", "subcategory"};

/* One key: where it goes, what it may be, and what it is when it is left out (required: fallback < 0). */
enum value_type { VALUE_SIZE, VALUE_ID, VALUE_REAL, VALUE_BOOL };
struct key {
    const char *name;
    enum value_type type;
    size_t offset;
    double min, max, fallback;
};

#define AT(member) offsetof(struct model_config, member)
#define DIM_MAX 65536.0
#define ID_MAX_VALUE 2147483646.0

static const struct key t5_keys[] = {
    {"d_model", VALUE_SIZE, AT(d_model), 1, DIM_MAX, -1},
    {"d_kv", VALUE_SIZE, AT(d_kv), 1, DIM_MAX, -1},
    {"d_ff", VALUE_SIZE, AT(d_ff), 1, DIM_MAX, -1},
    {"num_heads", VALUE_SIZE, AT(heads), 1, 1024, -1},
    {"num_layers", VALUE_SIZE, AT(encoder_layers), 1, 256, -1},
    {"num_decoder_layers", VALUE_SIZE, AT(decoder_layers), 1, 256, 0}, /* 0: as num_layers */
    {"vocab_size", VALUE_SIZE, AT(vocab_size), 3, 4e6, -1},
    {"relative_attention_num_buckets", VALUE_SIZE, AT(relative_buckets), 4, 4096, 32},
    {"relative_attention_max_distance", VALUE_SIZE, AT(relative_max_distance), 2, 1e6, 128},
    {"layer_norm_epsilon", VALUE_REAL, AT(layer_norm_epsilon), 1e-12, 1, 1e-6},
    {"initializer_factor", VALUE_REAL, AT(initializer_factor), 1e-6, 1e3, 1},
    {"dropout_rate", VALUE_REAL, AT(dropout_rate), 0, 0.99, 0.1},
    {"tie_word_embeddings", VALUE_BOOL, AT(tied), 0, 1, 1},
    {"pad_token_id", VALUE_ID, AT(pad_id), 0, ID_MAX_VALUE, 0},
    {"eos_token_id", VALUE_ID, AT(eos_id), 0, ID_MAX_VALUE, 1},
    {"decoder_start_token_id", VALUE_ID, AT(decoder_start_id), 0, ID_MAX_VALUE, 0},
};

static const struct key embsum_keys[] = {
    {"m", VALUE_SIZE, AT(user_codes), 1, 4096, 32},
    {"n", VALUE_SIZE, AT(content_codes), 1, 4096, 4},
    {"code_dim", VALUE_SIZE, AT(code_dim), 1, DIM_MAX, 256},
    {"session_size", VALUE_SIZE, AT(session_size), 1, 4096, 4},
    {"max_items", VALUE_SIZE, AT(max_items), 1, 65536, 60},
    {"max_summary_tokens", VALUE_SIZE, AT(max_summary_tokens), 1, 4096, 96},
    {"sos_token_id", VALUE_ID, AT(sos_id), 0, ID_MAX_VALUE, 32100},
};

/* MIND's fields with the limits of SPAR, table 7. */
static const struct model_field default_fields[] = {
    {TEXT_TITLE, "News Title: ", ";", 32},
    {TEXT_ABSTRACT, "News Abstract: ", ";", 72},
    {TEXT_CATEGORY, "News Category: ", "", 8},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const char *ablation_name(enum ablation ablation)
{
    return ablation_names[ablation];
}

int ablation_parse(enum ablation *ablation, const char *name, struct err *err)
{
    for (size_t i = 0; i < COUNT(ablation_names); i++) {
        if (strcmp(ablation_names[i], name) == 0) {
            *ablation = (enum ablation)i;
            return 0;
        }
    }
    return err_set(
        err, ERR_INVALID, "'%.32s' is no ablation; use none, no_cpe, no_upe, no_grouping or no_lsum", name);
}

size_t model_m(const struct model_config *config)
{
    return config->ablation == ABLATION_NO_UPE ? 1 : config->user_codes;
}

size_t model_n(const struct model_config *config)
{
    return config->ablation == ABLATION_NO_CPE ? 1 : config->content_codes;
}

size_t model_session_size(const struct model_config *config)
{
    return config->ablation == ABLATION_NO_GROUPING ? 1 : config->session_size;
}

static void store_value(struct model_config *config, const struct key *key, double value)
{
    void *at = (char *)config + key->offset;
    switch (key->type) {
    case VALUE_SIZE:
        *(size_t *)at = (size_t)value;
        break;
    case VALUE_ID:
        *(int32_t *)at = (int32_t)value;
        break;
    case VALUE_REAL:
        *(double *)at = value;
        break;
    case VALUE_BOOL:
        *(bool *)at = value != 0;
        break;
    }
}

static int parse_key(struct model_config *config, const struct key *key, const json_t *value, struct err *err)
{
    double number;
    if (!value || json_is_null(value)) {
        if (key->fallback < 0)
            return err_set(err, ERR_INVALID, "key %s is missing", key->name);
        store_value(config, key, key->fallback);
        return 0;
    }
    if (key->type == VALUE_BOOL
            ? !json_is_boolean(value)
            : !(json_is_integer(value) || (key->type == VALUE_REAL && json_is_real(value))))
        return err_set(err, ERR_INVALID, "key %s must be %s", key->name,
            key->type == VALUE_BOOL   ? "true or false"
            : key->type == VALUE_REAL ? "a number"
                                      : "an integer");
    number = key->type == VALUE_BOOL ? json_is_true(value) : json_number_value(value);
    if (!(number >= key->min && number <= key->max))
        return err_set(err, ERR_INVALID, "key %s is %g; it must lie between %g and %g", key->name, number,
            key->min, key->max);
    store_value(config, key, number);
    return 0;
}

static int parse_affix(char out[MODEL_AFFIX_MAX], const json_t *field, const char *name, struct err *err)
{
    const json_t *value = json_object_get(field, name);
    if (value && !json_is_string(value))
        return err_set(err, ERR_INVALID, "%s must be a string", name);
    if (json_string_length(value) >= MODEL_AFFIX_MAX)
        return err_set(err, ERR_INVALID, "%s is longer than %d bytes", name, MODEL_AFFIX_MAX - 1);
    strcpy(out, value ? json_string_value(value) : "");
    return 0;
}

static int parse_field(struct model_field *field, json_t *value, struct err *err)
{
    if (!json_is_object(value))
        return err_set(err, ERR_INVALID, "must be an object");
    const char *key;
    json_t *ignored;
    json_object_foreach(value, key, ignored)
    {
        if (strcmp(key, "column") && strcmp(key, "prefix") && strcmp(key, "suffix") &&
            strcmp(key, "max_tokens"))
            return err_set(err, ERR_INVALID, "unknown key %.64s", key);
    }
    const json_t *column = json_object_get(value, "column"), *limit = json_object_get(value, "max_tokens");
    size_t index = 0;
    while (index < TEXT_COLUMNS &&
           !(json_is_string(column) && strcmp(column_names[index], json_string_value(column)) == 0))
        index++;
    if (index == TEXT_COLUMNS)
        return err_set(err, ERR_INVALID, "column must be title, abstract, category or subcategory");
    if (!json_is_integer(limit) || json_integer_value(limit) < 1 || json_integer_value(limit) > 65536)
        return err_set(err, ERR_INVALID, "max_tokens must be an integer between 1 and 65536");
    field->column = (enum text_column)index;
    field->max_tokens = (size_t)json_integer_value(limit);
    int result = parse_affix(field->prefix, value, "prefix", err);
    return result < 0 ? result : parse_affix(field->suffix, value, "suffix", err);
}

static int parse_fields(struct model_config *config, const json_t *fields, struct err *err)
{
    if (!fields) {
        memcpy(config->fields, default_fields, sizeof default_fields);
        config->field_count = COUNT(default_fields);
        return 0;
    }
    config->field_count = json_array_size(fields);
    if (!json_is_array(fields) || config->field_count < 1 || config->field_count > MODEL_FIELDS_MAX)
        return err_set(
            err, ERR_INVALID, "key embsum.fields must be a list of 1 to %d fields", MODEL_FIELDS_MAX);
    for (size_t i = 0; i < config->field_count; i++) {
        const int result = parse_field(&config->fields[i], json_array_get(fields, i), err);
        if (result < 0) {
            err_place(err, "embsum.fields[%zu]: ", i);
            return result;
        }
    }
    return 0;
}

static int parse_embsum(struct model_config *config, json_t *object, struct err *err)
{
    const char *name;
    json_t *value;
    if (object && !json_is_object(object))
        return err_set(err, ERR_INVALID, "key embsum must be an object");
    json_object_foreach(object, name, value)
    {
        bool known = strcmp(name, "ablation") == 0 || strcmp(name, "fields") == 0;
        for (size_t i = 0; i < COUNT(embsum_keys) && !known; i++)
            known = strcmp(embsum_keys[i].name, name) == 0;
        if (!known)
            return err_set(err, ERR_INVALID, "unknown key embsum.%.64s", name);
    }
    for (size_t i = 0; i < COUNT(embsum_keys); i++) {
        const int result =
            parse_key(config, &embsum_keys[i], json_object_get(object, embsum_keys[i].name), err);
        if (result < 0) {
            err_place(err, "embsum: ");
            return result;
        }
    }
    const json_t *ablation = json_object_get(object, "ablation");
    config->ablation = ABLATION_NONE;
    if (ablation && !json_is_null(ablation)) {
        if (!json_is_string(ablation))
            return err_set(err, ERR_INVALID, "key embsum.ablation must be a string");
        const int result = ablation_parse(&config->ablation, json_string_value(ablation), err);
        if (result < 0) {
            err_place(err, "embsum.ablation: ");
            return result;
        }
    }
    return parse_fields(config, json_object_get(object, "fields"), err);
}

static int parse_feed_forward(struct model_config *config, const json_t *value, struct err *err)
{
    const char *name = value ? json_string_value(value) : "relu";
    if (!name || (strcmp(name, "relu") && strcmp(name, "gated-gelu")))
        return err_set(
            err, ERR_INVALID, "key feed_forward_proj must be relu (T5 v1.0) or gated-gelu (v1.1, Flan)");
    config->gated = strcmp(name, "gated-gelu") == 0;
    return 0;
}

/* What no single key can tell. */
static int check(const struct model_config *config, struct err *err)
{
    const int32_t ids[] = {config->pad_id, config->eos_id, config->decoder_start_id, config->sos_id};
    static const char *const names[] = {
        "pad_token_id", "eos_token_id", "decoder_start_token_id", "embsum.sos_token_id"};
    for (size_t i = 0; i < COUNT(ids); i++)
        if ((size_t)ids[i] >= config->vocab_size)
            return err_set(err, ERR_INVALID, "key %s is %d, but vocab_size is %zu", names[i], ids[i],
                config->vocab_size);
    if (config->max_items < model_session_size(config))
        return err_set(err, ERR_INVALID, "key embsum.max_items is %zu, less than one session of %zu",
            config->max_items, model_session_size(config));
    if (config->heads * config->d_kv > 1 << 20)
        return err_set(err, ERR_INVALID, "num_heads x d_kv is %zu; at most 1048576 is possible",
            config->heads * config->d_kv);
    /* Half of the decoder's buckets are exact, the others spread up to the maximal distance. */
    if (config->relative_buckets / 2 >= config->relative_max_distance)
        return err_set(err, ERR_INVALID,
            "relative_attention_max_distance is %zu; it must exceed half of the %zu "
            "relative_attention_num_buckets",
            config->relative_max_distance, config->relative_buckets);
    return 0;
}

static int parse_object(struct model_config *config, const json_t *object, struct err *err)
{
    if (!json_is_object(object))
        return err_set(err, ERR_INVALID, "must hold a JSON object");
    const json_t *type = json_object_get(object, "model_type");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "t5") != 0))
        return err_set(err, ERR_INVALID, "key model_type must be t5");
    for (size_t i = 0; i < COUNT(t5_keys); i++) {
        const int result = parse_key(config, &t5_keys[i], json_object_get(object, t5_keys[i].name), err);
        if (result < 0)
            return result;
    }
    if (!config->decoder_layers)
        config->decoder_layers = config->encoder_layers;
    int result = parse_feed_forward(config, json_object_get(object, "feed_forward_proj"), err);
    if (result == 0)
        result = parse_embsum(config, json_object_get(object, "embsum"), err);
    return result < 0 ? result : check(config, err);
}

int model_config_parse(struct model_config *config, const char *text, size_t len, struct err *err)
{
    struct model_config parsed = {0};
    json_error_t where;
    json_t *object = json_read(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!object && json_error_code(&where) == json_error_out_of_memory)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (!object)
        return err_set(err, ERR_INVALID, "line %d: %s", where.line, where.text);
    const int result = parse_object(&parsed, object, err);
    json_decref(object);
    if (result == 0)
        *config = parsed;
    return result;
}

char *model_config_dump(const struct model_config *config, const char *text, size_t len)
{
    const size_t failures = json_failures();
    json_t *object = text ? json_read(text, len, 0, NULL) : json_object(), *embsum = json_object(),
           *fields = json_array();
    for (size_t i = 0; i < COUNT(t5_keys); i++) {
        const struct key *key = &t5_keys[i];
        const void *at = (const char *)config + key->offset;
        json_t *value = key->type == VALUE_SIZE   ? json_integer((json_int_t) * (const size_t *)at)
                        : key->type == VALUE_ID   ? json_integer(*(const int32_t *)at)
                        : key->type == VALUE_REAL ? json_real(*(const double *)at)
                                                  : json_boolean(*(const bool *)at);
        if (!json_object_get(object, key->name))
            json_object_set_new(object, key->name, value);
        else
            json_decref(value);
    }
    if (!json_object_get(object, "feed_forward_proj"))
        json_object_set_new(object, "feed_forward_proj", json_string(config->gated ? "gated-gelu" : "relu"));
    for (size_t i = 0; i < COUNT(embsum_keys); i++) {
        const void *at = (const char *)config + embsum_keys[i].offset;
        json_object_set_new(embsum, embsum_keys[i].name,
            json_integer(
                embsum_keys[i].type == VALUE_ID ? *(const int32_t *)at : (json_int_t) * (const size_t *)at));
    }
    json_object_set_new(embsum, "ablation", json_string(ablation_name(config->ablation)));
    for (size_t i = 0; i < config->field_count; i++) {
        const struct model_field *field = &config->fields[i];
        json_array_append_new(
            fields, json_pack("{s:s, s:s, s:s, s:I}", "column", column_names[field->column], "prefix",
                        field->prefix, "suffix", field->suffix, "max_tokens", (json_int_t)field->max_tokens));
    }
    json_object_set_new(embsum, "fields", fields);
    char *out = NULL;
    if (json_object_set_new(object, "embsum", embsum) == 0 && failures == json_failures())
        out = json_write(object, JSON_INDENT(2));
    json_decref(object);
    return out;
}
