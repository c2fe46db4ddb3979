/* One value at a time: from the defaults, a flag or the environment.
 *
 * Every source ends in config_put_long(), _bool() or _string(), so that a value is checked in the same way,
 * and refused in the same words, wherever it came from. Nothing is allocated for a value: config_init()
 * cannot fail. Rejected: converting a text to JSON and back for one way in (it allocates), and warning of
 * unknown keys (a mistyped limit would quietly stay at its default).
 */
#include "config/config.h"

#include "config/address.h"
#include "config/config_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one value --------------------------------------------------------------------------------------- */

void config_show(char out[CONFIG_SHOWN_MAX], const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;
    out[used++] = '"';
    for (; *text && used < CONFIG_SHOWN_MAX - 9; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else if (c >= ' ' && c < 0x7F) {
            out[used++] = (char)c;
        } else {
            out[used++] = '\\';
            out[used++] = 'x';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
        }
    }
    memcpy(out + used, *text ? "...\"" : "\"", *text ? 5 : 2);
}

int config_refuse(const struct config_key *key, const char *shown, struct err *err)
{
    char allowed[CONFIG_ALLOWED_MAX];
    config_allowed(allowed, key);
    return err_set(err, ERR_INVALID, "%s is %s; allowed: %s", key->name, shown, allowed);
}

bool config_put_long(struct config *config, const struct config_key *key, long long value)
{
    if (key->type != CONFIG_LONG || value < key->min || value > key->max)
        return false;
    const long stored = (long)value;
    memcpy((char *)config + key->offset, &stored, sizeof stored);
    return true;
}

bool config_put_share(struct config *config, const struct config_key *key, double value)
{
    if (key->type != CONFIG_SHARE || !(value >= 0 && value <= 1))
        return false;
    memcpy((char *)config + key->offset, &value, sizeof value);
    return true;
}

bool config_put_bool(struct config *config, const struct config_key *key, bool value)
{
    if (key->type != CONFIG_BOOL)
        return false;
    memcpy((char *)config + key->offset, &value, sizeof value);
    return true;
}

static bool is_choice(const char *choices, const char *text, size_t len)
{
    if (memchr(text, '|', len))
        return false;
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0'))
            return true;
    }
    return false;
}

bool config_put_string(struct config *config, const struct config_key *key, const char *text)
{
    const size_t len = strlen(text);
    if (key->type != CONFIG_STRING || len < (size_t)key->min || len > (size_t)key->max)
        return false;
    if (key->choices && !is_choice(key->choices, text, len))
        return false;
    if (key->valid && !key->valid(text))
        return false;
    memcpy((char *)config + key->offset, text, len + 1);
    return true;
}

/* The text of a flag or of the environment. */
static bool put_text(struct config *config, const struct config_key *key, const char *text)
{
    char *end;
    switch (key->type) {
    case CONFIG_LONG: {
        if (text[strspn(text, "-0123456789")] != '\0') /* strtoll would take spaces and a plus */
            return false;
        errno = 0;
        const long long value = strtoll(text, &end, 10);
        return errno == 0 && end != text && *end == '\0' && config_put_long(config, key, value);
    }
    case CONFIG_SHARE: {
        if (text[strspn(text, ".0123456789")] != '\0') /* strtod would take "inf" and hexadecimal digits */
            return false;
        const double value = strtod(text, &end);
        return end != text && *end == '\0' && config_put_share(config, key, value);
    }
    case CONFIG_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return false;
        return config_put_bool(config, key, text[0] == 't');
    case CONFIG_STRING:
        return config_put_string(config, key, text);
    }
    return false;
}

void config_init(struct config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < config_key_count; i++)
        put_text(config, &config_keys[i], config_keys[i].fallback);
}

/* ---- flags and the environment ----------------------------------------------------------------------- */

int config_set(struct config *config, const char *name, const char *text, struct err *err)
{
    char shown[CONFIG_SHOWN_MAX];
    const struct config_key *const key = config_find(name);
    if (!key) {
        config_show(shown, name);
        return err_set(err, ERR_INVALID, "%s is no key; config/REFERENCE.md lists them", shown);
    }
    if (put_text(config, key, text))
        return 0;
    config_show(shown, text);
    return config_refuse(key, shown, err);
}

/* Walks the keys, not the variables: Kubernetes puts an EMBSUM_SERVICE_HOST and its like into the environment
 * of every pod beside a service named embsum, and they must not stop the start. */
int config_env(struct config *config, char *const *environ, struct err *err)
{
    struct config out = *config;
    for (size_t i = 0; i < config_key_count; i++) {
        char name[CONFIG_ENV_NAME_MAX];
        config_env_name(name, &config_keys[i]);
        const size_t len = strlen(name);
        for (char *const *entry = environ; entry && *entry; entry++) {
            if (strncmp(*entry, name, len) != 0 || (*entry)[len] != '=')
                continue;
            if (config_set(&out, config_keys[i].name, *entry + len + 1, err) < 0)
                return err_place(err, "environment %s: ", name);
            break; /* the first of two wins, as in getenv */
        }
    }
    *config = out;
    return 0;
}

/* ---- the whole --------------------------------------------------------------------------------------- */

static bool is_loopback(const char *listen)
{
    struct address address;
    return address_parse(&address, listen) && address_is_loopback(&address);
}

int config_check(const struct config *config, struct err *err)
{
    if (config->store.retry_min_ms > config->store.retry_max_ms)
        return err_set(err, ERR_INVALID,
            "store.retry_min_ms is %ld; allowed: at most store.retry_max_ms, %ld", config->store.retry_min_ms,
            config->store.retry_max_ms);
    if (config->server.workers > config->server.connections_max)
        return err_set(err, ERR_INVALID,
            "server.workers is %ld; allowed: at most server.connections_max, %ld", config->server.workers,
            config->server.connections_max);
    char shown[CONFIG_SHOWN_MAX];
    if (!is_loopback(config->server.listen) && !config->server.token_file[0] &&
        !config->server.allow_anonymous) {
        config_show(shown, config->server.listen);
        return err_set(err, ERR_INVALID,
            "server.listen is %s, where others can connect: name their tokens in server.token_file, or say "
            "server.allow_anonymous",
            shown);
    }
    if (config->admin.listen[0] && !is_loopback(config->admin.listen) && !config->admin.token_file[0]) {
        config_show(shown, config->admin.listen);
        return err_set(err, ERR_INVALID,
            "admin.listen is %s, where others can connect: name the operators' tokens in admin.token_file",
            shown);
    }
    return 0;
}

/* Reads at most size bytes. */
static int read_password(char *out, size_t size, size_t *len, const char *path, struct err *err)
{
    FILE *const file = fopen(path, "re");
    if (!file)
        return err_errno(err, "store.password_file %s", path);
    setvbuf(file, NULL, _IONBF, 0); /* no second copy of the secret */
    errno = 0;
    *len = fread(out, 1, size, file);
    const int code = ferror(file) ? err_errno(err, "store.password_file %s", path) : 0;
    fclose(file);
    return code;
}

int config_password(const struct config *config, char out[CONFIG_STRING_MAX], struct err *err)
{
    char text[CONFIG_STRING_MAX + 1] = ""; /* the longest password, its newline, and one byte too many */
    size_t len = 0;
    int code = 0;
    const char *const path = config->store.password_file;
    const char *const source = path[0] ? path : "EMBSUM_STORE_PASSWORD", *const value =
                                                                             getenv("EMBSUM_STORE_PASSWORD");
    if (path[0]) {
        code = read_password(text, sizeof text, &len, path, err);
        if (code == 0 && len > 0 && text[len - 1] == '\n')
            len--;
        if (code == 0 && len == 0) /* a secret that was not mounted, and not the wish for none */
            code = err_set(err, ERR_INVALID, "store.password_file %s is empty", path);
    } else if (value) {
        len = strnlen(value, sizeof text);
        memcpy(text, value, len);
    }
    if (code == 0 && len >= CONFIG_STRING_MAX)
        code = err_set(err, ERR_INVALID, "the store's password in %s has more than %d bytes", source,
            CONFIG_STRING_MAX - 1);
    else if (code == 0 && memchr(text, '\0', len))
        code = err_set(err, ERR_INVALID, "the store's password in %s holds a NUL byte", source);
    if (code == 0) {
        memcpy(out, text, len);
        out[len] = '\0';
    }
    explicit_bzero(text, sizeof text);
    return code;
}
