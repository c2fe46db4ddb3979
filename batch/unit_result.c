#include "batch/unit.h"

#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *unit_result_write(const struct unit_result *result)
{
    char job[24];
    snprintf(job, sizeof job, "%016" PRIx64, result->job);
    const size_t failures = json_failures();
    json_t *refused = json_array();
    for (size_t i = 0; i < result->refused_count; i++) {
        const struct unit_refusal *one = &result->refused[i];
        json_array_append_new(
            refused, json_pack("{s:s%, s:s}", "id", one->id.id, one->id.len, "why", one->why));
    }
    json_t *line = json_pack("{s:s, s:I, s:I, s:f, s:o}", "job", job, "unit", (json_int_t)result->number,
        "tokens", (json_int_t)result->tokens, "seconds", result->seconds, "refused", refused);
    char *text = line && json_failures() == failures ? json_write(line, JSON_COMPACT) : NULL;
    json_decref(line);
    return text;
}

static int read_refusals(struct unit_result *read, const json_t *list, struct err *err)
{
    const size_t count = json_array_size(list);
    read->refused = calloc(count + 1, sizeof *read->refused);
    if (!read->refused)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(list, i);
        const json_t *id = json_object_get(one, "id"), *why = json_object_get(one, "why");
        if (!json_is_string(id) || !json_is_string(why))
            return err_set(err, ERR_CORRUPT, "the result of a unit of work has a refusal that is none");
        char *copy = strdup(json_string_value(id)), *reason = strdup(json_string_value(why));
        read->refused[read->refused_count++] = (struct unit_refusal){{copy, copy ? strlen(copy) : 0}, reason};
        if (!copy || !reason)
            return err_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

static int read_fields(struct unit_result *read, const json_t *line, struct err *err)
{
    const json_t *job = json_object_get(line, "job"), *number = json_object_get(line, "unit"),
                 *tokens = json_object_get(line, "tokens"), *seconds = json_object_get(line, "seconds"),
                 *refused = json_object_get(line, "refused");
    int end = 0;
    if (!json_is_string(job) || !json_is_integer(number) || !json_is_integer(tokens) ||
        !json_is_number(seconds) || !json_is_array(refused) || json_string_length(job) != 16 ||
        sscanf(json_string_value(job), "%16" SCNx64 "%n", &read->job, &end) != 1 || end != 16 ||
        json_integer_value(number) < 0 || json_integer_value(number) > UINT32_MAX ||
        json_integer_value(tokens) < 0)
        return err_set(err, ERR_CORRUPT, "the result of a unit of work lacks a field");
    read->number = (uint32_t)json_integer_value(number);
    read->tokens = (size_t)json_integer_value(tokens);
    read->seconds = json_number_value(seconds);
    return read_refusals(read, refused, err);
}

int unit_result_read(struct unit_result *result, const void *text, size_t len, struct err *err)
{
    struct unit_result read = {.refused_count = 0};
    json_error_t where;
    json_t *line = json_read(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!line)
        return strcmp(where.text, "out of memory") == 0
                   ? err_set(err, ERR_NOMEM, "out of memory")
                   : err_set(err, ERR_CORRUPT, "the result of a unit of work: %s", where.text);
    const int rc = read_fields(&read, line, err);
    json_decref(line);
    if (rc < 0)
        unit_result_done(&read);
    else
        *result = read;
    return rc;
}

void unit_result_done(struct unit_result *result)
{
    for (size_t i = 0; i < result->refused_count; i++) {
        free((void *)(uintptr_t)result->refused[i].id.id);
        free((void *)(uintptr_t)result->refused[i].why);
    }
    free(result->refused);
    *result = (struct unit_result){.refused_count = 0};
}
