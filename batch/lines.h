/* A text file line by line; whatever is wrong with a line is told with its place. */
#ifndef EMBSUM_BATCH_LINES_H
#define EMBSUM_BATCH_LINES_H

#include "core/err.h"

#include <stddef.h>

/* len counts the line's ending; a NUL is behind it. */
typedef int lines_fn(void *ctx, const char *line, size_t len, struct err *err);

/* Call fn for each line that begins within the first `bytes` of the file (SIZE_MAX: all). A negative return ends the
 * reading and is returned, with "PATH:LINE: " before its message. */
int lines_read(const char *path, size_t bytes, lines_fn *fn, void *ctx, struct err *err);

/* The length without LF or CRLF. */
size_t lines_trim(const char *line, size_t len);

#endif
