/* The requests that a load generator sends in turn, as bytes. */
#ifndef EMBSUM_TESTS_LOAD_REQUESTS_H
#define EMBSUM_TESTS_LOAD_REQUESTS_H

#include "core/err.h"
#include "tests/load/connection.h"
#include "tests/load/options.h"

#include <stdio.h>

struct requests {
    char *text; /* all of them, one behind the other */
    struct message *message;
    size_t count;
};

static inline int read_file(char **text, size_t *len, const char *path, struct err *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return err_errno(err, "open %s", path);
    size_t used = 0, size = 0;
    char *data = NULL;
    do {
        size = size ? 2 * size : 65536;
        char *more = realloc(data, size + 1);
        if (!more) {
            free(data);
            fclose(file);
            return err_set(err, ERR_NOMEM, "no memory for %s", path);
        }
        data = more;
        used += fread(data + used, 1, size - used, file);
    } while (used == size);
    const bool bad = ferror(file);
    fclose(file);
    if (bad) {
        free(data);
        return err_set(err, ERR_IO, "read %s", path);
    }
    data[used] = '\0';
    *text = data;
    *len = used;
    return 0;
}

/* One request for each line of the file of bodies, or one GET. */
static inline int requests_make(struct requests *out, const struct options *o, struct err *err)
{
    char *bodies = NULL, *token = NULL;
    size_t bodies_len = 0, token_len = 0, lines = 1;
    int result = o->bodies ? read_file(&bodies, &bodies_len, o->bodies, err) : 0;
    if (result == 0 && o->token_file)
        result = read_file(&token, &token_len, o->token_file, err);
    for (size_t i = 0; i < bodies_len; i++)
        lines += bodies[i] == '\n';
    const size_t head_max = 256 + strlen(o->path) + strlen(o->address) + token_len;
    if (result == 0) {
        out->text = malloc(lines * head_max + bodies_len);
        out->message = calloc(lines, sizeof *out->message);
        if (!out->text || !out->message)
            result = err_set(err, ERR_NOMEM, "no memory for the requests");
    }
    if (result == 0) {
        char *at = out->text, *line = bodies;
        if (token)
            token[strcspn(token, "\r\n")] = '\0';
        for (;;) {
            const size_t len = line ? strcspn(line, "\n") : 0;
            if (bodies && len == 0 && !*line)
                break;
            struct message *message = &out->message[out->count++];
            message->data = at;
            at += sprintf(at, "%s %s HTTP/1.1\r\nHost: %s\r\n", bodies ? "POST" : "GET", o->path, o->address);
            if (token)
                at += sprintf(at, "Authorization: Bearer %s\r\n", token);
            if (bodies)
                at += sprintf(at, "Content-Type: application/json\r\nContent-Length: %zu\r\n", len);
            at = stpcpy(at, "\r\n");
            if (bodies)
                memcpy(at, line, len);
            at += len;
            message->len = (size_t)(at - message->data);
            if (!bodies)
                break;
            line += len + (line[len] == '\n');
        }
        if (out->count == 0)
            result = err_set(err, ERR_INVALID, "%s holds no body", o->bodies);
    }
    free(bodies);
    free(token);
    return result;
}

static inline void requests_done(struct requests *requests)
{
    free(requests->text);
    free(requests->message);
}

#endif
