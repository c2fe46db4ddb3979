#include "core/text.h"

#include <stdlib.h>
#include <string.h>

size_t text_item_max(const struct model_config *config)
{
    size_t most = 2;
    for (size_t i = 0; i < config->field_count; i++)
        most += config->fields[i].max_tokens;
    return most;
}

void text_scratch_done(struct text_scratch *scratch)
{
    free(scratch->bytes);
    *scratch = (struct text_scratch){0};
}

static int join(struct text_scratch *scratch, size_t *len, const struct model_field *field, const char *value,
    size_t value_len, struct err *err)
{
    const size_t prefix = strlen(field->prefix), suffix = strlen(field->suffix);
    const size_t need = prefix + value_len + suffix;
    if (need < value_len)
        return err_set(err, ERR_INVALID, "a text is too long");
    if (need > scratch->size) {
        char *bytes = realloc(scratch->bytes, need);
        if (!bytes)
            return err_set(err, ERR_NOMEM, "out of memory for a text of %zu bytes", need);
        scratch->bytes = bytes;
        scratch->size = need;
    }
    memcpy(scratch->bytes, field->prefix, prefix);
    memcpy(scratch->bytes + prefix, value, value_len);
    memcpy(scratch->bytes + prefix + value_len, field->suffix, suffix);
    *len = need;
    return 0;
}

int text_item_tokens(const struct model_config *config, const struct tokenizer *tokenizer,
    const struct text_item *item, int32_t *ids, size_t *count, struct text_scratch *scratch, struct err *err)
{
    size_t used = 0;
    ids[used++] = config->sos_id;
    for (size_t i = 0; i < config->field_count; i++) {
        const struct model_field *field = &config->fields[i];
        const char *value = item->column[field->column].bytes;
        const size_t value_len = item->column[field->column].len;
        size_t len = 0, found = 0;
        if (!value_len)
            continue;
        int result = join(scratch, &len, field, value, value_len, err);
        if (result == 0)
            result =
                tokenizer_encode(tokenizer, scratch->bytes, len, ids + used, field->max_tokens, &found, err);
        if (result < 0)
            return result;
        used += found < field->max_tokens ? found : field->max_tokens;
    }
    ids[used++] = config->eos_id;
    *count = used;
    return 0;
}

size_t text_window_start(const struct model_config *config, size_t items)
{
    const size_t session = model_session_size(config);
    if (items <= config->max_items)
        return 0;
    return (items - config->max_items + session - 1) / session * session;
}
