#include "server/http_guard.h"

#include <string.h>
#include <strings.h>

enum { HTTP_GUARD_BLANKS = 65536 }; /* more than any head has */

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_token_char((unsigned char)text[i]))
            return false;
    return len > 0;
}

/* The characters of a host and port (RFC 3986, section 3.2.2). */
static bool is_host(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_token_char((unsigned char)text[i]) && !(text[i] && strchr("[]:", text[i])))
            return false;
    return len > 0;
}

static bool is_field_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7F)
            return false;
    }
    return true;
}

static bool parse_length(const char *text, size_t len, uint64_t *out)
{
    uint64_t value = 0;
    if (len == 0 || len > 18)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = 10 * value + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return true;
}

static bool is_named(const char *name, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(name, word, len) == 0;
}

static const char *check_field(
    struct http_guard *guard, const char *name, size_t name_len, const char *value, size_t value_len)
{
    if (!is_token(name, name_len))
        return "a header field's name is not a token";
    if (!is_field_value(value, value_len))
        return "a header field holds a control character";
    if (is_named(name, name_len, "host")) {
        guard->hosts++;
        if (!is_host(value, value_len))
            return "the Host header is not a host";
    } else if (is_named(name, name_len, "content-length")) {
        guard->lengths++;
        if (!parse_length(value, value_len, &guard->length))
            return "Content-Length is not a number";
    } else if (is_named(name, name_len, "transfer-encoding")) {
        guard->encodings++;
        if (!is_named(value, value_len, "chunked"))
            return "the only Transfer-Encoding that is understood is chunked";
    }
    return NULL;
}

void http_guard_field(
    struct http_guard *guard, const char *name, size_t name_len, const char *value, size_t value_len)
{
    const char *fault = check_field(guard, name, name_len, value, value_len);
    if (!guard->fault)
        guard->fault = fault;
}

static void scattered(struct http_guard *guard)
{
    if (!guard->fault)
        guard->fault = "the header holds a NUL, a folded line, a line without CR, or a field without a name";
}

/* Pieces may lie in different blocks of memory, where pointers have no difference: their numbers have. */
static size_t distance(const char *from, const char *to)
{
    return (size_t)((uintptr_t)to - (uintptr_t)from);
}

/* Nothing but what parts pieces, or the zeros that a library has put in its place. */
static bool is_gap(const char *at, enum http_gap gap)
{
    if (gap == HTTP_GAP_SPACE)
        return *at == ' ' || *at == '\0';
    return (*at == '\r' || *at == '\0') && (at[1] == '\n' || at[1] == '\0');
}

void http_guard_place(struct http_guard *guard, enum http_gap gap, struct http_piece piece)
{
    if (distance(guard->end, piece.begin) != gap || !is_gap(guard->end, gap))
        scattered(guard);
    guard->end = piece.end;
}

void http_guard_place_field(struct http_guard *guard, struct http_piece name, struct http_piece value)
{
    http_guard_place(guard, HTTP_GAP_LINE, name);
    guard->end = value.end;
    const size_t between = distance(name.end, value.begin);
    if (between < 1 || between > HTTP_GUARD_BLANKS)
        scattered(guard); /* it was put together elsewhere */
    else
        for (const char *c = name.end + 1; c < value.begin; c++)
            if (*c != ' ' && *c != '\t')
                scattered(guard);
}

static const char *find_fault(const struct http_guard *guard, const char *version, const char *target)
{
    const bool is_1_1 = strcmp(version, "HTTP/1.1") == 0;
    if (!is_1_1 && strcmp(version, "HTTP/1.0") != 0)
        return "the HTTP version is neither 1.0 nor 1.1";
    if (guard->fault)
        return guard->fault;
    if (guard->hosts > 1 || (is_1_1 && guard->hosts == 0))
        return "exactly one Host header is expected";
    if (guard->lengths > 1)
        return "more than one Content-Length";
    if (guard->encodings > 1)
        return "more than one Transfer-Encoding";
    if (guard->encodings && guard->lengths)
        return "Transfer-Encoding beside Content-Length";
    if (guard->encodings && !is_1_1)
        return "Transfer-Encoding in HTTP/1.0";
    for (const char *c = target; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7F)
            return "the request target holds a space or a control character";
    return NULL;
}

unsigned http_guard_verdict(
    const struct http_guard *guard, const char *version, const char *target, const char **message)
{
    const char *fault = find_fault(guard, version, target);
    if (!fault)
        return 0;
    *message = fault;
    return 400;
}
