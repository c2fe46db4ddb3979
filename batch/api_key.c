#include "batch/api_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads at most API_KEY_MAX bytes, without libc's buffer: no second copy of a secret. */
static int read_key(char *out, size_t *len, const char *path, struct err *err)
{
    FILE *stream = fopen(path, "re");
    if (!stream)
        return err_errno(err, "open %s", path);
    setvbuf(stream, NULL, _IONBF, 0);
    errno = 0;
    *len = fread(out, 1, API_KEY_MAX, stream);
    const int result = ferror(stream) ? err_errno(err, "read %s", path) : 0;
    fclose(stream);
    if (*len && out[*len - 1] == '\n')
        --*len;
    if (*len && out[*len - 1] == '\r')
        --*len;
    return result;
}

/* Visible ASCII alone: white space would end the key, a line break would begin another header. */
static int check(const char *key, size_t len, const char *source, struct err *err)
{
    if (!len)
        return err_set(err, ERR_INVALID, "the API key in %s is empty", source);
    if (len >= API_KEY_MAX)
        return err_set(err, ERR_INVALID, "the API key in %s has more than %d bytes", source, API_KEY_MAX - 1);
    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return err_set(err, ERR_INVALID,
                "the API key in %s holds a space, a control character or one that is not ASCII", source);
    return 0;
}

int api_key_load(char key[API_KEY_MAX], const char **source, const char *path, bool openai, struct err *err)
{
    char text[API_KEY_MAX] = "";
    size_t len = 0;
    const char *from = path, *value = NULL;
    int result = 0;
    if (path) {
        result = read_key(text, &len, path, err);
    } else {
        from = "EMBSUM_API_KEY";
        value = getenv(from);
        if (!value && openai)
            value = getenv(from = "OPENAI_API_KEY");
        len = value ? strnlen(value, sizeof text) : 0;
        memcpy(text, value ? value : "", len);
    }
    if (result == 0 && (path || len)) /* an empty variable says: none; an empty file was not mounted */
        result = check(text, len, from, err);
    if (result == 0) {
        memcpy(key, text, len);
        key[len] = '\0';
        *source = len ? from : NULL;
    }
    explicit_bzero(text, sizeof text);
    return result;
}
