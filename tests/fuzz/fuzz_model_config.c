/* A model's config.json: one that is read, written (alone, and into the text that it came from) and read again is the
 * same, and what the model's arithmetic takes for granted holds. Without memory that is said, or no text is written. */
#include "core/model_config.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool same_fields(const struct model_config *a, const struct model_config *b)
{
    if (a->field_count != b->field_count)
        return false;
    for (size_t i = 0; i < a->field_count; i++) {
        const struct model_field *const x = &a->fields[i], *const y = &b->fields[i];
        if (x->column != y->column || x->max_tokens != y->max_tokens || strcmp(x->prefix, y->prefix) != 0 ||
            strcmp(x->suffix, y->suffix) != 0)
            return false;
    }
    return true;
}

static bool same(const struct model_config *a, const struct model_config *b)
{
    return a->d_model == b->d_model && a->d_kv == b->d_kv && a->d_ff == b->d_ff && a->heads == b->heads &&
           a->encoder_layers == b->encoder_layers && a->decoder_layers == b->decoder_layers &&
           a->vocab_size == b->vocab_size && a->relative_buckets == b->relative_buckets &&
           a->relative_max_distance == b->relative_max_distance &&
           memcmp(&a->layer_norm_epsilon, &b->layer_norm_epsilon, sizeof(double)) == 0 &&
           memcmp(&a->initializer_factor, &b->initializer_factor, sizeof(double)) == 0 &&
           a->dropout_rate == b->dropout_rate && a->gated == b->gated && a->tied == b->tied &&
           a->pad_id == b->pad_id && a->eos_id == b->eos_id && a->decoder_start_id == b->decoder_start_id &&
           a->user_codes == b->user_codes && a->content_codes == b->content_codes &&
           a->code_dim == b->code_dim && a->session_size == b->session_size && a->max_items == b->max_items &&
           a->max_summary_tokens == b->max_summary_tokens && a->sos_id == b->sos_id &&
           a->ablation == b->ablation && same_fields(a, b);
}

static void check_bounds(const struct model_config *config)
{
    const int32_t ids[] = {config->pad_id, config->eos_id, config->decoder_start_id, config->sos_id};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        must(ids[i] >= 0 && (size_t)ids[i] < config->vocab_size);
    must(config->d_model >= 1 && config->d_model <= 65536 && config->d_ff >= 1 && config->d_ff <= 65536);
    must(config->heads >= 1 && config->d_kv >= 1 && config->heads * config->d_kv <= 1 << 20);
    must(config->encoder_layers >= 1 && config->decoder_layers >= 1);
    must(config->relative_buckets / 2 < config->relative_max_distance);
    must(isfinite(config->layer_norm_epsilon) && config->layer_norm_epsilon > 0);
    must(config->dropout_rate >= 0 && config->dropout_rate < 1 && config->initializer_factor > 0);
    must(config->ablation <= ABLATION_NO_LSUM && ablation_name(config->ablation));
    must(model_m(config) >= 1 && model_n(config) >= 1 && config->code_dim >= 1);
    must(model_session_size(config) >= 1 && model_session_size(config) <= config->max_items);
    must(config->field_count >= 1 && config->field_count <= MODEL_FIELDS_MAX);
    for (size_t i = 0; i < config->field_count; i++)
        must(config->fields[i].column < TEXT_COLUMNS && config->fields[i].max_tokens >= 1);
}

static void check_again(const struct model_config *config, const char *text, size_t len)
{
    struct model_config again;
    struct err err = ERR_INIT;
    char *const dump = model_config_dump(config, text, len);
    must(dump);
    must(model_config_parse(&again, dump, strlen(dump), &err) == 0);
    must(same(config, &again));
    free(dump);
}

static void check_short(const uint8_t *data, size_t size, int code)
{
    const char *const text = (const char *)data;
    struct model_config config;
    struct err err = ERR_INIT;
    fuzz_memory_fail(data, size);
    const int again = model_config_parse(&config, text, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    if (again < 0) {
        fuzz_must_tell(again, &err);
        return;
    }
    free(model_config_dump(&config, text, size));
    fuzz_memory_fail(data, size);
    char *const dump = model_config_dump(&config, text, size);
    must(fuzz_memory_failed() ? !dump : dump != NULL);
    free(dump);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *const text = (const char *)data;
    struct model_config config, untouched;
    struct err err = ERR_INIT;
    memset(&config, 0x5A, sizeof config);
    untouched = config;
    fuzz_memory_count();
    const int code = model_config_parse(&config, text, size, &err);
    check_short(data, size, code);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(memcmp(&config, &untouched, sizeof config) == 0);
        return 0;
    }
    check_bounds(&config);
    check_again(&config, NULL, 0);
    check_again(&config, text, size);
    return 0;
}
