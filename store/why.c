#include "store/why.h"

#include "core/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 6 }; /* of a weight: nobody looks at more */

char *why_write(const struct why *why)
{
    const size_t failures = json_failures();
    json_t *codes = json_array();
    for (size_t i = 0; i < why->code_count; i++) {
        json_t *code = json_array();
        for (size_t at = why->first[i]; at < why->first[i + 1]; at++) {
            const struct why_look *look = &why->looks[at];
            json_array_append_new(code, json_pack("[s%, f]", look->name, look->len, (double)look->weight));
        }
        json_array_append_new(codes, code);
    }
    json_t *line = json_pack("{s:o}", "codes", codes);
    char *text = line && json_failures() == failures
                     ? json_write(line, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS))
                     : NULL;
    json_decref(line);
    return text;
}

/* ---- reading ---- */

static bool is_look(const json_t *look)
{
    const json_t *name = json_array_get(look, 0), *weight = json_array_get(look, 1);
    return json_array_size(look) == 2 && json_is_string(name) && json_is_number(weight) &&
           isfinite((float)json_number_value(weight));
}

/* The number of looks and of their names' bytes; false if one is none. */
static bool measure(const json_t *codes, size_t *looks, size_t *bytes)
{
    *looks = *bytes = 0;
    for (size_t i = 0; i < json_array_size(codes); i++) {
        const json_t *code = json_array_get(codes, i);
        if (!json_is_array(code))
            return false;
        for (size_t k = 0; k < json_array_size(code); k++) {
            const json_t *look = json_array_get(code, k);
            if (!is_look(look))
                return false;
            ++*looks;
            *bytes += json_string_length(json_array_get(look, 0));
        }
    }
    return true;
}

static void copy(struct why *why, const json_t *codes)
{
    char *to = why->bytes;
    size_t at = 0;
    for (size_t i = 0; i < why->code_count; i++) {
        const json_t *code = json_array_get(codes, i);
        why->first[i] = at;
        for (size_t k = 0; k < json_array_size(code); k++) {
            const json_t *look = json_array_get(code, k), *name = json_array_get(look, 0);
            const size_t len = json_string_length(name);
            memcpy(to, json_string_value(name), len);
            why->looks[at++] = (struct why_look){to, len, (float)json_number_value(json_array_get(look, 1))};
            to += len;
        }
    }
    why->first[why->code_count] = at;
}

static int take(struct why *why, const json_t *line, struct err *err)
{
    const json_t *codes = json_object_get(line, "codes");
    size_t looks, bytes;
    if (json_object_size(line) != 1 || !json_is_array(codes) || !measure(codes, &looks, &bytes))
        return err_set(
            err, ERR_CORRUPT, "an explanation is not {\"codes\": [[[\"name\", weight], ...], ...]}");
    struct why read = {.code_count = json_array_size(codes),
        .first = calloc(json_array_size(codes) + 1, sizeof *read.first),
        .looks = calloc(looks + 1, sizeof *read.looks),
        .bytes = malloc(bytes + 1)};
    if (!read.first || !read.looks || !read.bytes) {
        why_done(&read);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    copy(&read, codes);
    *why = read;
    return 0;
}

int why_read(struct why *why, const void *text, size_t len, struct err *err)
{
    json_error_t where;
    json_t *line = json_read(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!line)
        return strcmp(where.text, "out of memory") == 0
                   ? err_set(err, ERR_NOMEM, "out of memory")
                   : err_set(err, ERR_CORRUPT, "an explanation is no JSON: %s", where.text);
    const int rc = take(why, line, err);
    json_decref(line);
    return rc;
}

void why_done(struct why *why)
{
    free(why->first);
    free(why->looks);
    free(why->bytes);
    *why = (struct why){0};
}
