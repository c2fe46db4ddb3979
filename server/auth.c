#include "server/auth.h"

#include "server/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REREAD_MS = 1000, FILE_MAX = AUTH_TOKENS * (AUTH_TOKEN_MAX + 1) };

/* Filled up with zeros, so that comparing takes the same time for all: no hash is needed for it. A slot without a token
 * is all zeros, which no token is. */
struct token {
    char text[AUTH_TOKEN_MAX + 1];
};

struct auth {
    const char *key;
    const struct log *log;
    char *path;
    pthread_mutex_t lock; /* over what follows */
    struct token tokens[AUTH_TOKENS];
    uint64_t read_ms;
    bool failed; /* the last reading */
};

/* ---- the file ---- */

/* What a header can carry (RFC 6750, section 2.1), and long enough not to be guessed. */
static bool is_token(const char *text, size_t len)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=";
    for (size_t i = 0; i < len; i++)
        if (!memchr(letters, text[i], sizeof letters - 1))
            return false;
    return len >= AUTH_TOKEN_MIN && len <= AUTH_TOKEN_MAX;
}

/* No message shows any of the text. */
static int parse(struct token tokens[AUTH_TOKENS], const char *text, size_t len, struct err *err)
{
    size_t count = 0;
    for (size_t at = 0; at < len; count++) {
        const char *end = memchr(text + at, '\n', len - at);
        const size_t line = end ? (size_t)(end - text) - at : len - at;
        if (count == AUTH_TOKENS)
            return err_set(err, ERR_INVALID, "more than %d lines", AUTH_TOKENS);
        if (!is_token(text + at, line))
            return err_set(err, ERR_INVALID,
                "line %zu is no token: %d to %d letters, digits or any of - . _ ~ + / =", count + 1,
                AUTH_TOKEN_MIN, AUTH_TOKEN_MAX);
        memcpy(tokens[count].text, text + at, line);
        at += line + 1;
    }
    return count ? 0 : err_set(err, ERR_INVALID, "no token in it");
}

static int check_file(int fd, struct err *err)
{
    struct stat about;
    if (fstat(fd, &about) < 0)
        return err_errno(err, "stat");
    if (!S_ISREG(about.st_mode))
        return err_set(err, ERR_INVALID, "not a file");
    if (about.st_mode & S_IRWXO)
        return err_set(err, ERR_INVALID, "open to everybody (mode %04o); chmod o= closes it",
            (unsigned)about.st_mode & 07777u);
    return 0;
}

/* tokens is untouched on failure. */
static int read_tokens(struct token tokens[AUTH_TOKENS], const char *path, struct err *err)
{
    char text[FILE_MAX + 1];
    struct token fresh[AUTH_TOKENS] = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "open");
    int code = check_file(fd, err);
    const ssize_t got = code < 0 ? 0 : read(fd, text, sizeof text);
    if (got < 0)
        code = err_errno(err, "read");
    else if (code == 0)
        code = parse(fresh, text, (size_t)got, err);
    close(fd);
    if (code == 0)
        memcpy(tokens, fresh, sizeof fresh);
    explicit_bzero(text, sizeof text);
    explicit_bzero(fresh, sizeof fresh);
    return code;
}

/* A file of some hundred bytes is read as quickly as its date is asked for, and a date may stay the same. */
static void read_again(struct auth *auth)
{
    struct err err = ERR_INIT;
    struct token before[AUTH_TOKENS];
    const uint64_t now = clock_ms();
    if (now - auth->read_ms < REREAD_MS)
        return;
    auth->read_ms = now;
    memcpy(before, auth->tokens, sizeof before);
    const bool failed = read_tokens(auth->tokens, auth->path, &err) < 0;
    const bool changed = memcmp(before, auth->tokens, sizeof before) != 0;
    explicit_bzero(before, sizeof before);
    if (failed ? !auth->failed : changed || auth->failed) {
        struct log_line line;
        log_begin(&line, auth->log, failed ? LOG_ERROR : LOG_INFO,
            failed ? "tokens cannot be read: the ones before stay valid" : "tokens read");
        log_text(&line, "key", auth->key);
        log_text(&line, "path", auth->path);
        if (failed)
            log_text(&line, "detail", err.message);
        log_end(&line);
    }
    auth->failed = failed;
}

/* ---- asking ---- */

/* False if the header has no bearer token that could be one of ours. */
static bool take_token(struct token *out, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *text = authorization + sizeof scheme - 1;
    text += strspn(text, " ");
    const size_t len = strlen(text);
    if (len < AUTH_TOKEN_MIN || len > AUTH_TOKEN_MAX)
        return false;
    memcpy(out->text, text, len);
    return true;
}

/* All bytes, wherever the first difference is. */
static bool is_same(const struct token *a, const struct token *b)
{
    unsigned char different = 0;
    for (size_t i = 0; i < sizeof a->text; i++)
        different |= (unsigned char)(a->text[i] ^ b->text[i]);
    return different == 0;
}

bool auth_allows(struct auth *auth, const char *authorization)
{
    if (!auth)
        return true;
    struct token given = {0};
    if (!take_token(&given, authorization))
        return false;
    bool allowed = false;
    pthread_mutex_lock(&auth->lock);
    read_again(auth);
    for (size_t i = 0; i < AUTH_TOKENS; i++)
        allowed |= is_same(&given, &auth->tokens[i]);
    pthread_mutex_unlock(&auth->lock);
    explicit_bzero(&given, sizeof given);
    return allowed;
}

/* ---- life ---- */

int auth_open(struct auth **out, const char *key, const char *path, const struct log *log, struct err *err)
{
    *out = NULL;
    if (!path[0])
        return 0;
    struct auth *auth = calloc(1, sizeof *auth);
    char *copy = strdup(path);
    if (!auth || !copy) {
        free(auth);
        free(copy);
        return err_set(err, ERR_NOMEM, "no memory for the tokens");
    }
    auth->key = key;
    auth->log = log;
    auth->path = copy;
    auth->read_ms = clock_ms();
    pthread_mutex_init(&auth->lock, NULL);
    const int code = read_tokens(auth->tokens, path, err);
    if (code < 0) {
        auth_free(auth);
        return err_place(err, "%s %s: ", key, path);
    }
    *out = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    pthread_mutex_destroy(&auth->lock);
    explicit_bzero(auth->tokens, sizeof auth->tokens);
    free(auth->path);
    free(auth);
}
