#include "batch/lines.h"

#include <stdio.h>
#include <stdlib.h>

int lines_read(const char *path, size_t bytes, lines_fn *fn, void *ctx, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t got = 0;
    int result = 0;
    while (result == 0 && bytes && (got = getline(&line, &size, stream)) >= 0) {
        number++;
        bytes -= (size_t)got < bytes ? (size_t)got : bytes;
        result = fn(ctx, line, (size_t)got, err);
        if (result < 0)
            err_place(err, "%s:%zu: ", path, number);
    }
    if (got < 0 && !feof(stream)) /* a line too long for the memory is no end, either */
        result = err_errno(err, "read %s", path);
    free(line);
    fclose(stream);
    return result;
}

size_t lines_trim(const char *line, size_t len)
{
    if (len && line[len - 1] == '\n')
        len--;
    if (len && line[len - 1] == '\r')
        len--;
    return len;
}
