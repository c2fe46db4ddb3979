/* The daemon's configuration: every value of a file that is accepted is one that its key allows, and as the text of a
 * flag it is accepted, too, and means the same; a file that is refused changes nothing. Lines KEY=TEXT in place of a
 * file are flags. */
#include "config/config.h"
#include "tests/lib/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void value_text(char *out, size_t size, const struct config *config, const struct config_key *key)
{
    const char *const at = (const char *)config + key->offset;
    long number;
    bool yes;
    switch (key->type) {
    case CONFIG_LONG:
        memcpy(&number, at, sizeof number);
        must(number >= key->min && number <= key->max);
        snprintf(out, size, "%ld", number);
        return;
    case CONFIG_BOOL:
        memcpy(&yes, at, sizeof yes);
        snprintf(out, size, "%s", yes ? "true" : "false");
        return;
    case CONFIG_STRING:
        must(memchr(at, '\0', CONFIG_STRING_MAX));
        must(strlen(at) >= (size_t)key->min && strlen(at) <= (size_t)key->max);
        must(!key->valid || key->valid(at));
        snprintf(out, size, "%s", at);
    }
}

static void check_values(const struct config *config)
{
    struct config again;
    struct err err = ERR_INIT;
    char text[CONFIG_STRING_MAX], text_again[CONFIG_STRING_MAX];
    config_init(&again);
    for (size_t i = 0; i < config_key_count; i++) {
        value_text(text, sizeof text, config, &config_keys[i]);
        must(config_set(&again, config_keys[i].name, text, &err) == 0);
        value_text(text_again, sizeof text_again, &again, &config_keys[i]);
        must(strcmp(text, text_again) == 0);
    }
    const int code = config_check(config, &err);
    if (code < 0)
        fuzz_must_tell(code, &err);
}

static void set_line(struct config *config, const char *line, size_t len)
{
    const char *const equals = memchr(line, '=', len);
    if (!equals || memchr(line, '\0', len))
        return;
    char *const name = strndup(line, (size_t)(equals - line));
    char *const text = strndup(equals + 1, len - (size_t)(equals + 1 - line));
    struct err err = ERR_INIT;
    must(name && text);
    const struct config untouched = *config;
    const int code = config_set(config, name, text, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(memcmp(config, &untouched, sizeof untouched) == 0);
    }
    free(name);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config, untouched;
    struct err err = ERR_INIT;
    config_init(&config);
    untouched = config;
    const int code = config_load(&config, fuzz_file(data, size), &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(memcmp(&config, &untouched, sizeof config) == 0);
        struct fuzz_input input = {data, data + size};
        const char *line;
        size_t len;
        while (fuzz_line(&input, &line, &len))
            set_line(&config, line, len);
    }
    check_values(&config);
    return 0;
}
