/* The daemon's configuration: every value of a file that is accepted is one that its key allows, and as the text of a
 * flag it is accepted, too, and means the same; a file that is refused changes nothing. Lines KEY=TEXT in place of a
 * file are flags, and the environment's variables mean the same. The file may be a password, too. */
#include "config/config.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void value_text(char *out, size_t size, const struct config *config, const struct config_key *key)
{
    const char *const at = (const char *)config + key->offset;
    long number;
    double share;
    bool yes;
    switch (key->type) {
    case CONFIG_LONG:
        memcpy(&number, at, sizeof number);
        must(number >= key->min && number <= key->max);
        snprintf(out, size, "%ld", number);
        return;
    case CONFIG_SHARE:
        memcpy(&share, at, sizeof share);
        must(share >= 0 && share <= 1);
        snprintf(out, size, "%.20f", share);
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

/* A variable of a key's name does what the flag does. */
static void check_environment(
    const struct config *before, const struct config *after, const char *name, const char *text, int code)
{
    char variable[CONFIG_ENV_NAME_MAX];
    char *entry = NULL;
    static struct config config;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0) {
            config_env_name(variable, &config_keys[i]);
            must(asprintf(&entry, "%s=%s", variable, text) > 0);
        }
    if (!entry)
        return;
    char *const environment[] = {(char[]){"EMBSUM_SERVICE_HOST=10.0.0.1"}, entry, NULL};
    config = *before;
    must(config_env(&config, environment, &err) == code);
    if (code < 0)
        fuzz_must_tell(code, &err);
    must(memcmp(&config, after, sizeof config) == 0);
    free(entry);
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
    check_environment(&untouched, config, name, text, code);
    free(name);
    free(text);
}

/* A file with a secret: its bytes without one newline at the end, if they are a text that fits; the environment's, too,
 * which has no NUL and no newline to cut, and may be empty. */
static void check_password(const uint8_t *data, size_t size)
{
    static struct config config;
    static char variable[sizeof "EMBSUM_STORE_PASSWORD=" + 2 * CONFIG_STRING_MAX] = "EMBSUM_STORE_PASSWORD=";
    char *const value = variable + strlen("EMBSUM_STORE_PASSWORD=");
    char password[CONFIG_STRING_MAX];
    struct err err = ERR_INIT;
    const size_t len = size && data[size - 1] == '\n' ? size - 1 : size;
    config_init(&config);
    strcpy(config.store.password_file, fuzz_file(data, size));
    int code = config_password(&config, password, &err);
    must(code == (len && len < CONFIG_STRING_MAX && !memchr(data, '\0', len) ? 0 : -ERR_INVALID));
    must(code < 0 || (strlen(password) == len && memcmp(password, data, len) == 0));
    if (code < 0)
        fuzz_must_tell(code, &err);

    config_init(&config);
    snprintf(value, 2 * CONFIG_STRING_MAX, "%.*s", (int)size, (const char *)data);
    must(putenv(variable) == 0);
    code = config_password(&config, password, &err);
    must(code == (strlen(value) < CONFIG_STRING_MAX ? 0 : -ERR_INVALID));
    must(code < 0 || strcmp(password, value) == 0);
}

static void check_short(const uint8_t *data, size_t size, int code)
{
    static struct config config;
    struct err err = ERR_INIT;
    const char *const path = fuzz_file(data, size);
    config_init(&config);
    fuzz_memory_fail(data, size);
    const int again = config_load(&config, path, &err);
    must(again == code || (fuzz_memory_failed() && again == -ERR_NOMEM)); /* a value may not be shown */
    if (again < 0)
        fuzz_must_tell(again, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config, untouched;
    struct err err = ERR_INIT;
    config_init(&config);
    untouched = config;
    const char *const path = fuzz_file(data, size);
    fuzz_memory_count();
    const int code = config_load(&config, path, &err);
    check_short(data, size, code);
    check_password(data, size);
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
