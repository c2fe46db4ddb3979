/* A manifest as JSON. Whoever reads one sizes buffers by it, so every key is checked here: it must be there,
 * of its type and in its range, and there may be no other. */
#include "store/manifest.h"

#include "core/json.h"
#include "store/store_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 65536      /* a manifest has some 300 bytes; more is not parsed at all */
#define DIMENSION_MAX 65536 /* m x d and n x d stay far inside size_t and a blob's 32 bits */
#define COUNT_MAX (INT64_C(1) << 53)

static const struct number {
    const char *name;
    size_t offset;
    json_int_t min, max;
    const char *unless; /* optional: the number that stands for it where it is not there */
} numbers[] = {
    {"m", offsetof(struct manifest, m), 1, DIMENSION_MAX, NULL},
    {"n", offsetof(struct manifest, n), 1, DIMENSION_MAX, NULL},
    {"d", offsetof(struct manifest, d), 1, DIMENSION_MAX, NULL},
    {"users", offsetof(struct manifest, users), 0, COUNT_MAX, NULL},
    {"contents", offsetof(struct manifest, contents), 0, COUNT_MAX, NULL},
    {"users_least", offsetof(struct manifest, users_least), 0, COUNT_MAX, "users"},
    {"contents_least", offsetof(struct manifest, contents_least), 0, COUNT_MAX, "contents"},
};
static const char *const strings[] = {
    "dtype", "model_sha256", "created", "previous", "settings", "refreshed"};

#define NUMBERS (sizeof numbers / sizeof *numbers)
#define STRINGS (sizeof strings / sizeof *strings)
#define TIME_FORMAT "%Y-%m-%dT%H:%M:%SZ"

/* ---- writing ---- */

static size_t number_of(const struct manifest *manifest, const char *name)
{
    size_t value = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(numbers[i].name, name) == 0)
            memcpy(&value, (const char *)manifest + numbers[i].offset, sizeof value);
    return value;
}

static int add_numbers(json_t *object, const struct manifest *manifest)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        const size_t value = number_of(manifest, numbers[i].name);
        if (numbers[i].unless && value == number_of(manifest, numbers[i].unless))
            continue;
        if (json_object_set_new(object, numbers[i].name, json_integer((json_int_t)value)) < 0)
            return -1;
    }
    return 0;
}

static int add_time(json_t *object, const char *name, time_t when)
{
    char text[32];
    struct tm utc;
    if (!gmtime_r(&when, &utc) || !strftime(text, sizeof text, TIME_FORMAT, &utc))
        return -1;
    return json_object_set_new(object, name, json_string(text));
}

static int add_settings(json_t *object, uint64_t settings)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, settings);
    return json_object_set_new(object, "settings", json_string(text));
}

char *manifest_dump(const struct manifest *manifest)
{
    json_t *const object = json_object();
    char *text = NULL;
    if (object && add_numbers(object, manifest) == 0 &&
        json_object_set_new(object, "dtype", json_string(blob_dtype_name(manifest->dtype))) == 0 &&
        json_object_set_new(object, "model_sha256", json_string(manifest->model_sha256)) == 0 &&
        add_time(object, "created", manifest->created) == 0 &&
        json_object_set_new(object, "previous", json_string(manifest->previous)) == 0 &&
        (!manifest->settings || add_settings(object, manifest->settings) == 0) &&
        (!manifest->refreshed || add_time(object, "refreshed", manifest->refreshed) == 0))
        text = json_write(object, JSON_PRESERVE_ORDER);
    json_decref(object);
    return text;
}

/* ---- reading ---- */

static int check_keys(json_t *object, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < NUMBERS; i++)
            known |= strcmp(name, numbers[i].name) == 0;
        for (size_t i = 0; i < STRINGS; i++)
            known |= strcmp(name, strings[i]) == 0;
        if (!known)
            return err_set(err, ERR_CORRUPT, "manifest: unknown key \"%.64s\"", name);
    }
    return 0;
}

static int read_numbers(struct manifest *out, const json_t *object, struct err *err)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        const json_t *const value = json_object_get(object, numbers[i].name);
        if (!value && numbers[i].unless) {
            const size_t same = number_of(out, numbers[i].unless); /* which stands before it in the table */
            memcpy((char *)out + numbers[i].offset, &same, sizeof same);
            continue;
        }
        if (!value)
            return err_set(err, ERR_CORRUPT, "manifest: \"%s\" is missing", numbers[i].name);
        if (!json_is_integer(value))
            return err_set(err, ERR_CORRUPT, "manifest: \"%s\" is not an integer", numbers[i].name);
        const json_int_t number = json_integer_value(value);
        if (number < numbers[i].min || number > numbers[i].max)
            return err_set(err, ERR_CORRUPT,
                "manifest: \"%s\" is %" JSON_INTEGER_FORMAT ", not between %" JSON_INTEGER_FORMAT
                " and %" JSON_INTEGER_FORMAT,
                numbers[i].name, number, numbers[i].min, numbers[i].max);
        const size_t size = (size_t)number;
        memcpy((char *)out + numbers[i].offset, &size, sizeof size);
    }
    return 0;
}

static int read_string(const char **out, const json_t *object, const char *name, struct err *err)
{
    const json_t *const value = json_object_get(object, name);
    if (!value)
        return err_set(err, ERR_CORRUPT, "manifest: \"%s\" is missing", name);
    if (!json_is_string(value))
        return err_set(err, ERR_CORRUPT, "manifest: \"%s\" is not a string", name);
    *out = json_string_value(value);
    return 0;
}

/* Digits in the places of TIME_FORMAT, then a date that survives the way to seconds and back. */
static bool parse_time(time_t *out, const char *text)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";
    struct tm utc = {0}, back;
    char again[32];
    if (strlen(text) != sizeof shape - 1)
        return false;
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i])
            return false;
    if (!strptime(text, TIME_FORMAT, &utc))
        return false;
    *out = timegm(&utc);
    return gmtime_r(out, &back) && strftime(again, sizeof again, TIME_FORMAT, &back) &&
           strcmp(again, text) == 0;
}

/* "settings" and "refreshed", where they are. */
static int read_optional(struct manifest *out, const json_t *object, struct err *err)
{
    const char *settings = "", *refreshed = "";
    int rc = 0;
    if (json_object_get(object, "settings"))
        rc = read_string(&settings, object, "settings", err);
    if (rc == 0 && json_object_get(object, "refreshed"))
        rc = read_string(&refreshed, object, "refreshed", err);
    if (rc < 0)
        return rc;
    if (*settings && (strlen(settings) != 16 || strspn(settings, "0123456789abcdef") != 16))
        return err_set(err, ERR_CORRUPT, "manifest: \"settings\" is not 16 hexadecimal digits");
    out->settings = strtoull(settings, NULL, 16);
    if (*refreshed && !parse_time(&out->refreshed, refreshed))
        return err_set(err, ERR_CORRUPT, "manifest: \"refreshed\" is no time like 2026-11-24T03:00:00Z");
    return 0;
}

static int read_strings(struct manifest *out, const json_t *object, struct err *err)
{
    const char *dtype = NULL, *sha = NULL, *created = NULL, *previous = NULL;
    int rc;
    if ((rc = read_string(&dtype, object, "dtype", err)) < 0 ||
        (rc = read_string(&sha, object, "model_sha256", err)) < 0 ||
        (rc = read_string(&created, object, "created", err)) < 0 ||
        (rc = read_string(&previous, object, "previous", err)) < 0)
        return rc;
    if (blob_dtype_parse(&out->dtype, dtype, NULL) < 0)
        return err_set(err, ERR_CORRUPT, "manifest: \"dtype\" is unknown: \"%.32s\"", dtype);
    const size_t sha_len = strlen(sha);
    if (sha_len != 0 &&
        (sha_len != sizeof out->model_sha256 - 1 || strspn(sha, "0123456789abcdef") != sha_len))
        return err_set(err, ERR_CORRUPT, "manifest: \"model_sha256\" is not 64 hexadecimal digits");
    memcpy(out->model_sha256, sha, sha_len + 1);
    if (!parse_time(&out->created, created))
        return err_set(err, ERR_CORRUPT, "manifest: \"created\" is no time like 2026-11-24T03:00:00Z");
    const size_t previous_len = strlen(previous);
    if (previous_len != 0 && !store_name_valid(previous, previous_len))
        return err_set(err, ERR_CORRUPT, "manifest: \"previous\" is no generation's name");
    memcpy(out->previous, previous, previous_len + 1);
    return 0;
}

int manifest_parse(struct manifest *manifest, const char *json, size_t len, struct err *err)
{
    if (len > TEXT_MAX)
        return err_set(err, ERR_CORRUPT, "manifest: %zu bytes; at most %d are allowed", len, TEXT_MAX);
    json_error_t error;
    json_t *const object = json_read(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!object && json_error_code(&error) == json_error_out_of_memory)
        return err_set(err, ERR_NOMEM, "manifest: out of memory"); /* which is no fault of its */
    if (!object)
        return err_set(err, ERR_CORRUPT, "manifest: not JSON: %s at byte %d", error.text, error.position);
    struct manifest parsed = {0};
    int rc = json_is_object(object) ? 0 : err_set(err, ERR_CORRUPT, "manifest: not a JSON object");
    if (rc == 0)
        rc = check_keys(object, err);
    if (rc == 0)
        rc = read_numbers(&parsed, object, err);
    if (rc == 0)
        rc = read_strings(&parsed, object, err);
    if (rc == 0)
        rc = read_optional(&parsed, object, err);
    json_decref(object);
    if (rc == 0 && (parsed.users_least > parsed.users || parsed.contents_least > parsed.contents))
        rc = err_set(err, ERR_CORRUPT, "manifest: the least number is larger than the largest");
    if (rc == 0)
        *manifest = parsed;
    return rc;
}

/* ---- from the store ---- */

struct taken {
    struct manifest *manifest;
    struct err *err;
};

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    const struct taken *const taken = ctx;
    (void)index;
    return data ? manifest_parse(taken->manifest, data, len, taken->err)
                : err_set(taken->err, ERR_NOT_FOUND, "it has no manifest");
}

int manifest_get(struct manifest *manifest, struct store_link *link, const char *generation, struct err *err)
{
    const struct store_id id = {"", 0};
    struct taken taken = {manifest, err};
    const int rc = store_get(link, generation, STORE_MANIFEST, &id, 1, take, &taken, err);
    if (rc == -ERR_NOT_FOUND || rc == -ERR_CORRUPT)
        err_place(err, "generation %s: ", generation);
    return rc;
}
