/* The table of keys, config/embsum.json and config/REFERENCE.md say the same. Run from the top of the tree.
 */
#include "config/config.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHIPPED "config/embsum.json"
#define REFERENCE "config/REFERENCE.md"

static char *read_text(const char *path)
{
    FILE *const file = fopen(path, "r");
    if (!file)
        fail_msg("%s cannot be opened", path);
    const size_t size = 1 << 16;
    char *const text = calloc(1, size);
    assert_non_null(text);
    assert_true(fread(text, 1, size - 1, file) < size - 1);
    fclose(file);
    return text;
}

/* A default as JSON writes it. */
static void print_fallback(char *out, size_t size, const struct config_key *key)
{
    const bool string = key->type == CONFIG_STRING;
    snprintf(out, size, "%s%s%s", string ? "\"" : "", key->fallback, string ? "\"" : "");
}

static void test_shipped_file(void **state)
{
    (void)state;
    json_error_t why;
    json_t *const root = json_load_file(SHIPPED, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        fail_msg("%s:%d: %s", SHIPPED, why.line, why.text);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *const key = &config_keys[i];
        char section[64], expected[CONFIG_STRING_MAX + 2];
        snprintf(section, sizeof section, "%.*s", (int)strcspn(key->name, "."), key->name);
        const json_t *const value =
            json_object_get(json_object_get(root, section), strchr(key->name, '.') + 1);
        if (!value)
            fail_msg("%s lacks %s", SHIPPED, key->name);
        print_fallback(expected, sizeof expected, key);
        char *const shipped = json_dumps(value, JSON_ENCODE_ANY);
        if (strcmp(shipped, expected) != 0)
            fail_msg("%s: %s is %s, the default is %s", SHIPPED, key->name, shipped, expected);
        free(shipped);
    }
    json_decref(root);

    /* No key that the table does not have; and loading it over the defaults changes nothing. */
    struct config defaults, loaded;
    struct err err = ERR_INIT;
    config_init(&defaults);
    config_init(&loaded);
    if (config_load(&loaded, SHIPPED, &err) < 0)
        fail_msg("%s", err.message);
    assert_memory_equal(&loaded, &defaults, sizeof loaded);
    assert_int_equal(config_check(&loaded, &err), 0);
}

static void print_row(char *out, size_t size, const struct config_key *key)
{
    static const char *const type[] = {"whole number", "number", "true or false", "text"};
    char fallback[CONFIG_STRING_MAX + 2], allowed[CONFIG_ALLOWED_MAX], env[CONFIG_ENV_NAME_MAX];
    print_fallback(fallback, sizeof fallback, key);
    config_allowed(allowed, key);
    config_env_name(env, key);
    static const char *const before[] = {
        "a whole number from ", "a number from ", "a text of "}; /* the type's column says it */
    const char *range = allowed;
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        if (strncmp(range, before[i], strlen(before[i])) == 0)
            range += strlen(before[i]);
    snprintf(out, size, "| `%s` | %s | `%s` | %s | `%s` | %s |\n", key->name, type[key->type], fallback,
        range, env, key->help);
}

/* Each row of the reference stands there exactly as the table gives it, and no other row does. */
static void test_reference(void **state)
{
    (void)state;
    char *const text = read_text(REFERENCE);
    size_t rows = 0, wrong = 0;
    for (const char *at = text; (at = strstr(at, "\n| `")); at++)
        rows++;
    for (size_t i = 0; i < config_key_count; i++) {
        char row[4096];
        print_row(row, sizeof row, &config_keys[i]);
        if (strstr(text, row))
            continue;
        if (wrong++ == 0)
            print_error("%s lacks these rows:\n", REFERENCE);
        print_error("%s", row);
    }
    free(text);
    assert_int_equal(wrong, 0);
    assert_int_equal(rows, config_key_count);
}

/* Names are told apart in the environment too, and every default is a value that the key takes. */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_key_count; i++) {
        char name[CONFIG_ENV_NAME_MAX], other[CONFIG_ENV_NAME_MAX];
        struct config config;
        struct err err = ERR_INIT;
        const struct config_key *const key = &config_keys[i];
        config_init(&config);
        if (config_set(&config, key->name, key->fallback, &err) < 0)
            fail_msg("%s", err.message);
        assert_non_null(strchr(key->name, '.'));
        config_env_name(name, key);
        assert_true(strlen(name) < sizeof name - 1);
        assert_string_not_equal(name, "EMBSUM_STORE_PASSWORD");
        for (size_t k = 0; k < i; k++) {
            config_env_name(other, &config_keys[k]);
            assert_string_not_equal(name, other);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_file),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
