#include "batch/summaries.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_line(const char *line, size_t len, summaries_fn *fn, void *ctx, struct err *err)
{
    json_error_t where;
    json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
    const json_t *user = json_object_get(object, "user"), *summary = json_object_get(object, "summary");
    int result;
    if (!json_is_string(user) || !json_is_string(summary))
        result = err_set(err, ERR_INVALID, "%s", object ? "user and summary must be strings" : where.text);
    else
        result = fn(ctx, json_string_value(user), json_string_length(user), json_string_value(summary), err);
    json_decref(object);
    return result;
}

int summaries_read(const char *path, summaries_fn *fn, void *ctx, struct err *err)
{
    return summaries_read_part(path, SIZE_MAX, fn, ctx, err);
}

int summaries_read_part(const char *path, size_t bytes, summaries_fn *fn, void *ctx, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t got;
    int result = 0;
    while (result == 0 && bytes && (got = getline(&line, &size, stream)) >= 0) {
        number++;
        bytes -= (size_t)got < bytes ? (size_t)got : bytes;
        if (strspn(line, " \t\r\n") == (size_t)got)
            continue;
        result = take_line(line, (size_t)got, fn, ctx, err);
        if (result < 0)
            err_place(err, "%s:%zu: ", path, number);
    }
    if (result == 0 && ferror(stream))
        result = err_errno(err, "read %s", path);
    free(line);
    fclose(stream);
    return result;
}
