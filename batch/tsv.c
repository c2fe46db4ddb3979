#include "batch/tsv.h"

#include "core/array.h"
#include "core/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOLD_MAX = 20,         /* bad rows and notes told one by one; the rest is only counted */
    BLOCK_BYTES = 1 << 18, /* stays in the second cache between the reading and the cutting */
    MILLION = 1000000,
    ROWS_MOST = 1000000000
};

/* ---- how many bad rows are allowed ---- */

/* Up to ten digits at *text, which moves behind them; false if there are none, or more. */
static bool take_digits(const char **text, size_t *value, size_t *count)
{
    for (*count = 0; **text >= '0' && **text <= '9' && *count < 11; ++*text, ++*count)
        *value = 10 * *value + (size_t)(**text - '0');
    return *count > 0 && *count < 11;
}

bool tsv_limit_parse(struct tsv_limit *limit, const char *text)
{
    size_t value = 0, digits;
    if (!take_digits(&text, &value, &digits))
        return false;
    if (!*text) {
        if (value > ROWS_MOST)
            return false;
        *limit = (struct tsv_limit){.rows = value};
        return true;
    }
    size_t decimals = 0;
    if (*text == '.') {
        text++;
        if (!take_digits(&text, &value, &decimals) || decimals > 4)
            return false;
    }
    while (decimals++ < 4)
        value *= 10;
    if (strcmp(text, "%") != 0 || value > MILLION)
        return false;
    *limit = (struct tsv_limit){.per_million = value};
    return true;
}

static size_t allowed(const struct tsv *tsv)
{
    const struct tsv_limit *limit = &tsv->options.max_bad;
    const size_t millions = tsv->rows / MILLION, rest = tsv->rows % MILLION;
    return limit->rows + millions * limit->per_million + rest * limit->per_million / MILLION;
}

int tsv_end(const struct tsv *tsv, struct err *err)
{
    const size_t most = allowed(tsv), share = tsv->options.max_bad.per_million;
    if (tsv->bad <= most)
        return 0;
    if (share)
        return err_set(err, ERR_INVALID,
            "%s: %zu bad rows of %zu, at most %zu (%g%%) are allowed (--max-bad)", tsv->path, tsv->bad,
            tsv->rows, most, (double)share / 10000);
    return err_set(
        err, ERR_INVALID, "%s: %zu bad rows, at most %zu are allowed (--max-bad)", tsv->path, tsv->bad, most);
}

/* ---- what is told about a row ---- */

void tsv_bad(struct tsv *tsv, const char *format, ...)
{
    char reason[ID_MAX + 512]; /* an id and a sentence */
    tsv->bad++;
    if (tsv->told || (tsv->bad > TOLD_MAX && !tsv->options.quarantine))
        return;
    va_list args;
    va_start(args, format);
    if (vsnprintf(reason, sizeof reason, format, args) < 0)
        *reason = '\0';
    va_end(args);
    if (tsv->bad <= TOLD_MAX)
        fprintf(stderr, "%s:%zu: %s\n", tsv->path, tsv->number, reason);
    if (!tsv->options.quarantine)
        return;
    for (size_t i = 0; tsv->cut && i < tsv->len; i++) /* one that was cut has held no NUL */
        if (!tsv->line[i])
            tsv->line[i] = '\t';
    quarantine_add(tsv->options.quarantine, tsv->path, tsv->number, reason, tsv->line, tsv->len);
}

void tsv_note(const struct tsv *tsv, const char *format, ...)
{
    if (tsv->options.quiet || tsv->told)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%zu: ", tsv->path, tsv->number);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* ---- lines ---- */

int tsv_open_fd(struct tsv *tsv, int fd, const char *path, size_t columns, const struct tsv_options *options,
    struct err *err)
{
    char *block = malloc(BLOCK_BYTES);
    if (!block)
        return err_set(err, ERR_NOMEM, "read %s: out of memory", path);
    *tsv = (struct tsv){
        .path = path, .options = *options, .columns = columns, .fd = fd, .block = block, .size = BLOCK_BYTES};
    return 0;
}

int tsv_open(
    struct tsv *tsv, const char *path, size_t columns, const struct tsv_options *options, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    const int result = tsv_open_fd(tsv, fd, path, columns, options, err);
    if (result < 0)
        close(fd);
    else
        tsv->owned = true;
    return result;
}

void tsv_close(struct tsv *tsv)
{
    if (tsv->options.bad_rows)
        *tsv->options.bad_rows += tsv->bad;
    if (tsv->owned)
        close(tsv->fd);
    free(tsv->block);
    tsv->owned = false;
    tsv->block = NULL;
}

/* Read more behind what is left of the block, which moves to its front. */
static int read_more(struct tsv *tsv, struct err *err)
{
    memmove(tsv->block, tsv->block + tsv->at, tsv->end - tsv->at);
    tsv->offset += tsv->at;
    tsv->end -= tsv->at;
    tsv->at = 0;
    if (tsv->size - tsv->end < BLOCK_BYTES / 2) { /* a long line: the room doubles */
        const int result = array_grow(&tsv->block, &tsv->size, tsv->end + BLOCK_BYTES, 1, err);
        if (result < 0)
            return err_place(err, "read %s: ", tsv->path);
    }
    ssize_t got;
    do
        got = read(tsv->fd, tsv->block + tsv->end, tsv->size - tsv->end - 1);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_errno(err, "read %s", tsv->path);
    tsv->end += (size_t)got;
    tsv->last = got == 0;
    return 0;
}

/* Take the next line into hand: 1, 0 at the end, or a negative code. */
static int next_line(struct tsv *tsv, struct err *err)
{
    char *newline;
    for (size_t searched = 0;;) {
        const size_t left = tsv->end - tsv->at;
        newline = memchr(tsv->block + tsv->at + searched, '\n', left - searched);
        if (newline || tsv->last)
            break;
        searched = left;
        const int result = read_more(tsv, err);
        if (result < 0)
            return result;
    }
    if (!newline && tsv->at == tsv->end)
        return 0;
    tsv->line = tsv->block + tsv->at;
    tsv->len = newline ? (size_t)(newline - tsv->line) : tsv->end - tsv->at;
    tsv->at += tsv->len + (newline != NULL);
    tsv->number++;
    tsv->cut = false;
    if (tsv->len && tsv->line[tsv->len - 1] == '\r')
        tsv->len--;
    if (tsv->number == 1 && tsv->len >= 3 && memcmp(tsv->line, "\xEF\xBB\xBF", 3) == 0) {
        tsv->line += 3;
        tsv->len -= 3;
    }
    return 1;
}

/* Cut the line in hand into fields; false after telling a bad row. */
static bool split(struct tsv *tsv, struct tsv_field *fields)
{
    size_t found = 0;
    if (memchr(tsv->line, '\0', tsv->len)) {
        tsv_bad(tsv, "the line holds a NUL byte");
        return false;
    }
    if (!utf8_valid(tsv->line, tsv->len)) {
        tsv_bad(tsv, "the line is not valid UTF-8");
        return false;
    }
    tsv->cut = true;
    for (char *at = tsv->line, *const end = tsv->line + tsv->len;; at++) {
        char *tab = memchr(at, '\t', (size_t)(end - at));
        char *const stop = tab ? tab : end;
        if (found < TSV_COLUMNS_MAX)
            fields[found] = (struct tsv_field){at, (size_t)(stop - at)};
        found++;
        *stop = '\0';
        if (!tab)
            break;
        at = tab;
    }
    if (found != tsv->columns)
        tsv_bad(tsv, "%zu columns instead of %zu", found, tsv->columns);
    return found == tsv->columns;
}

int tsv_next(struct tsv *tsv, struct tsv_field *fields, struct err *err)
{
    int result;
    while ((result = next_line(tsv, err)) > 0) {
        if (!tsv->len) {
            if (++tsv->empty <= TOLD_MAX)
                tsv_note(tsv, "empty line, skipped");
            continue;
        }
        tsv->rows++;
        if (split(tsv, fields))
            return 1;
    }
    return result < 0 ? result : tsv_end(tsv, err);
}

int tsv_rewind(struct tsv *tsv, struct err *err)
{
    if (lseek(tsv->fd, 0, SEEK_SET) != 0)
        return err_errno(err, "read %s a second time", tsv->path);
    tsv->at = tsv->end = tsv->number = tsv->rows = tsv->empty = tsv->bad = 0;
    tsv->offset = 0;
    tsv->last = false;
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
