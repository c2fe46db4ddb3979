#include "batch/tsv.h"

#include "core/id.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TOLD_MAX = 20 }; /* bad rows and notes told one by one; the rest is only counted */

int tsv_open(struct tsv *tsv, const char *path, size_t columns, size_t max_bad, bool quiet, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    *tsv =
        (struct tsv){.path = path, .stream = stream, .columns = columns, .max_bad = max_bad, .quiet = quiet};
    return 0;
}

void tsv_close(struct tsv *tsv)
{
    if (tsv->stream)
        fclose(tsv->stream);
    free(tsv->line);
    tsv->stream = NULL;
    tsv->line = NULL;
}

static void tell(const struct tsv *tsv, const char *format, va_list args)
{
    fprintf(stderr, "%s:%zu: ", tsv->path, tsv->number);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void tsv_bad(struct tsv *tsv, const char *format, ...)
{
    tsv->bad++;
    if (tsv->told || tsv->bad > TOLD_MAX)
        return;
    va_list args;
    va_start(args, format);
    tell(tsv, format, args);
    va_end(args);
}

void tsv_note(const struct tsv *tsv, const char *format, ...)
{
    if (tsv->quiet || tsv->told)
        return;
    va_list args;
    va_start(args, format);
    tell(tsv, format, args);
    va_end(args);
}

/* Cut the line into fields; says why it cannot be done, or NULL. */
static const char *split(
    const struct tsv *tsv, char *line, size_t len, struct tsv_field *fields, size_t *found)
{
    if (memchr(line, '\0', len))
        return "holds a NUL byte";
    if (!utf8_valid(line, len))
        return "is not valid UTF-8";
    *found = 0;
    for (char *at = line, *const end = line + len;; at++) {
        char *tab = memchr(at, '\t', (size_t)(end - at));
        char *const stop = tab ? tab : end;
        if (*found < TSV_COLUMNS_MAX)
            fields[*found] = (struct tsv_field){at, (size_t)(stop - at)};
        ++*found;
        *stop = '\0';
        if (!tab)
            break;
        at = tab;
    }
    return *found == tsv->columns ? NULL : "columns";
}

int tsv_next(struct tsv *tsv, struct tsv_field *fields, struct err *err)
{
    ssize_t got;
    while ((got = getline(&tsv->line, &tsv->size, tsv->stream)) >= 0) {
        char *line = tsv->line;
        size_t len = (size_t)got, found;
        tsv->number++;
        if (len && line[len - 1] == '\n')
            len--;
        if (len && line[len - 1] == '\r')
            len--;
        if (tsv->number == 1 && len >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
            line += 3;
            len -= 3;
        }
        if (!len) {
            if (++tsv->empty <= TOLD_MAX)
                tsv_note(tsv, "empty line, skipped");
            continue;
        }
        const char *wrong = split(tsv, line, len, fields, &found);
        if (!wrong) {
            tsv->rows++;
            return 1;
        }
        if (strcmp(wrong, "columns") == 0)
            tsv_bad(tsv, "%zu columns instead of %zu", found, tsv->columns);
        else
            tsv_bad(tsv, "the line %s", wrong);
    }
    if (!feof(tsv->stream)) /* errno alone may be from a message that could not be told */
        return err_errno(err, "read %s", tsv->path);
    return tsv_end(tsv, err);
}

int tsv_end(const struct tsv *tsv, struct err *err)
{
    if (tsv->bad > tsv->max_bad)
        return err_set(err, ERR_INVALID, "%s: %zu bad rows, at most %zu are allowed (--max-bad)", tsv->path,
            tsv->bad, tsv->max_bad);
    return 0;
}

int tsv_rewind(struct tsv *tsv, struct err *err)
{
    if (fseek(tsv->stream, 0, SEEK_SET) != 0)
        return err_errno(err, "read %s a second time", tsv->path);
    tsv->number = tsv->rows = tsv->empty = tsv->bad = 0;
    tsv->told = true;
    return 0;
}

bool tsv_word(struct tsv_field *word, const struct tsv_field *field, size_t *at)
{
    while (*at < field->len && field->bytes[*at] == ' ')
        ++*at;
    if (*at == field->len)
        return false;
    char *const start = field->bytes + *at;
    const char *space = memchr(start, ' ', field->len - *at);
    *word = (struct tsv_field){start, space ? (size_t)(space - start) : field->len - *at};
    *at += word->len;
    return true;
}
