#include "batch/summaries.h"

#include "batch/lines.h"
#include "core/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct summary_lines {
    summaries_fn *fn;
    void *ctx;
};

static int take_line(void *ctx, const char *line, size_t len, struct err *err)
{
    const struct summary_lines *lines = ctx;
    if (strspn(line, " \t\r\n") == len)
        return 0;
    json_error_t where;
    json_t *object = json_read(line, len, JSON_REJECT_DUPLICATES, &where);
    const json_t *user = json_object_get(object, "user"), *summary = json_object_get(object, "summary");
    int result;
    if (!json_is_string(user) || !json_is_string(summary))
        result = err_set(err, ERR_INVALID, "%s", object ? "user and summary must be strings" : where.text);
    else
        result = lines->fn(
            lines->ctx, json_string_value(user), json_string_length(user), json_string_value(summary), err);
    json_decref(object);
    return result;
}

int summaries_read(const char *path, summaries_fn *fn, void *ctx, struct err *err)
{
    return summaries_read_part(path, SIZE_MAX, fn, ctx, err);
}

int summaries_read_part(const char *path, size_t bytes, summaries_fn *fn, void *ctx, struct err *err)
{
    return lines_read(path, bytes, take_line, &(struct summary_lines){fn, ctx}, err);
}
