/* The file: an object of sections, each an object of keys. */
#include "config/config.h"

#include "config/config_int.h"
#include "core/file.h"
#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_FILE_MAX = 1 << 20 };

static void show_json(char out[CONFIG_SHOWN_MAX], const json_t *value)
{
    if (json_is_string(value)) {
        config_show(out, json_string_value(value));
    } else if (json_is_object(value) || json_is_array(value)) {
        strcpy(out, json_is_object(value) ? "an object" : "a list");
    } else {
        memset(out, 0, CONFIG_SHOWN_MAX);
        json_dumpb(value, out, CONFIG_SHOWN_MAX - 1, JSON_ENCODE_ANY);
    }
}

/* Append ", word" while there is room. */
static void append_word(char *list, size_t size, const char *word, size_t len)
{
    const size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%.*s", used ? ", " : "", (int)len, word);
}

/* Every section once, or every key of one section. A value is not shown: whoever mistypes the name of a
 * password does not want it in the log. */
static int refuse_unknown(const char *section, const char *key, struct err *err)
{
    char shown[CONFIG_SHOWN_MAX], known[256] = "";
    const char *before = "";
    size_t before_len = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        const char *const name = config_keys[i].name, *const dot = strchr(name, '.');
        const size_t len = (size_t)(dot - name);
        if (!key && (len != before_len || strncmp(name, before, len) != 0))
            append_word(known, sizeof known, name, len);
        else if (key && len == strlen(section) && strncmp(name, section, len) == 0)
            append_word(known, sizeof known, dot + 1, strlen(dot + 1));
        before = name;
        before_len = len;
    }
    config_show(shown, key ? key : section);
    return err_set(err, ERR_INVALID, "%s%s%s is no %s; known: %s", shown, key ? " in " : "",
        key ? section : "", key ? "key" : "section", known);
}

static bool is_section(const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < config_key_count; i++)
        if (strncmp(config_keys[i].name, name, len) == 0 && config_keys[i].name[len] == '.')
            return true;
    return false;
}

static int load_value(
    struct config *config, const char *section, const char *name, const json_t *value, struct err *err)
{
    char dotted[64];
    const int len = snprintf(dotted, sizeof dotted, "%s.%s", section, name);
    const struct config_key *const key = len < (int)sizeof dotted ? config_find(dotted) : NULL;
    if (!key)
        return refuse_unknown(section, name, err);
    if (key->type == CONFIG_SHARE && json_is_number(value)
            ? config_put_share(config, key, json_number_value(value))
        : json_is_integer(value) ? config_put_long(config, key, json_integer_value(value))
        : json_is_boolean(value)
            ? config_put_bool(config, key, json_is_true(value))
            : json_is_string(value) && config_put_string(config, key, json_string_value(value)))
        return 0;
    char shown[CONFIG_SHOWN_MAX];
    show_json(shown, value);
    return config_refuse(key, shown, err);
}

static int load_sections(struct config *config, json_t *root, struct err *err)
{
    const char *section, *name;
    json_t *keys, *value;
    if (!json_is_object(root))
        return err_set(err, ERR_INVALID, "not an object of sections");
    json_object_foreach(root, section, keys)
    {
        if (!is_section(section))
            return refuse_unknown(section, NULL, err);
        if (!json_is_object(keys)) {
            char shown[CONFIG_SHOWN_MAX];
            show_json(shown, keys);
            return err_set(err, ERR_INVALID, "%s is %s; allowed: an object of keys", section, shown);
        }
        json_object_foreach(keys, name, value)
        {
            if (load_value(config, section, name, value, err) < 0)
                return -ERR_INVALID;
        }
    }
    return 0;
}

int config_load(struct config *config, const char *path, struct err *err)
{
    struct config out = *config;
    json_error_t why;
    char *text;
    size_t len;
    int code = file_read(&text, &len, path, CONFIG_FILE_MAX, err);
    if (code < 0)
        return code;
    json_t *const root = json_read(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!root && json_error_code(&why) == json_error_out_of_memory)
        code = err_set(err, ERR_NOMEM, "%s: memory is short", path);
    else if (!root)
        code = err_set(err, ERR_INVALID, "%s:%d:%d: %s", path, why.line, why.column, why.text);
    else if (load_sections(&out, root, err) < 0)
        code = err_place(err, "%s: ", path);
    else
        code = 0;
    json_decref(root);
    free(text);
    if (code == 0)
        *config = out;
    return code;
}
