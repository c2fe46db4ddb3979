#include "batch/quarantine.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

int quarantine_open(struct quarantine *quarantine, const char *path, struct err *err)
{
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return err_set(err, ERR_INVALID, "%s is there and is no regular file", path);
    quarantine->rows = 0;
    return file_replace_begin(&quarantine->file, path, err);
}

static bool plain(unsigned char byte)
{
    return (byte >= ' ' && byte != 0x7F && byte != '\\') || byte == '\t';
}

static void put(FILE *stream, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t span = 0;
        while (at + span < len && plain((unsigned char)text[at + span]))
            span++;
        fwrite(text + at, 1, span, stream);
        at += span;
        if (at == len)
            break;
        if (text[at] == '\\')
            fputs("\\\\", stream);
        else
            fprintf(stream, "\\x%02x", (unsigned char)text[at]);
        at++;
    }
}

void quarantine_add(struct quarantine *quarantine, const char *path, size_t line, const char *reason,
    const char *row, size_t len)
{
    FILE *const stream = quarantine->file.stream;
    put(stream, path, strlen(path));
    fprintf(stream, "\t%zu\t", line);
    put(stream, reason, strlen(reason));
    fputc('\t', stream);
    put(stream, row, len);
    fputc('\n', stream);
    quarantine->rows++;
}

int quarantine_close(struct quarantine *quarantine, struct err *err)
{
    return file_replace_commit(&quarantine->file, err);
}
