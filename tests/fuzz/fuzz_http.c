/* The guard and the exchange, fed with a request as a careless reader takes it apart: lines at LF or CR LF, names at the
 * first colon, texts up to a NUL. What is let through has one end and one target by the letter of RFC 9112, written down
 * here a second time. Where the reader shows the places of its pieces, what is let through stood in lines of their own. */
#include "server/exchange.h"
#include "tests/lib/fuzz.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 64 };

static struct exchange_account bodies = {.max = 280};
static const struct exchange_limits limits = {.body_max = 300, .header_max = 2000, .bodies = &bodies};

struct text {
    char *bytes; /* NUL-terminated, of its size for the sanitizers */
    size_t len;
    struct http_piece place; /* in the input, up to a NUL */
};

struct head {
    struct text method, target, version;
    struct text names[FIELDS_MAX], values[FIELDS_MAX];
    size_t count;
    const char *end; /* of the empty line, or NULL where none came */
};

static struct text copy(const char *bytes, size_t len)
{
    struct text text = {malloc(len + 1), len, {bytes, bytes + strnlen(bytes, len)}};
    must(text.bytes);
    memcpy(text.bytes, bytes, len);
    text.bytes[len] = '\0';
    return text;
}

/* The word before the next space, which is passed. */
static struct text next_word(const char **at, const char *end)
{
    const char *const space = memchr(*at, ' ', (size_t)(end - *at)), *const start = *at;
    *at = space ? space + 1 : end;
    return copy(start, (size_t)((space ? space : end) - start));
}

static void read_head(struct head *head, struct fuzz_input *input)
{
    const char *line = "";
    size_t len = 0;
    head->end = NULL;
    fuzz_line(input, &line, &len);
    const char *at = line;
    len -= len && line[len - 1] == '\r';
    head->method = next_word(&at, line + len);
    head->target = next_word(&at, line + len);
    head->version = copy(at, (size_t)(line + len - at));
    for (head->count = 0; head->count < FIELDS_MAX && fuzz_line(input, &line, &len); head->count++) {
        len -= len && line[len - 1] == '\r';
        if (!len) {
            head->end = (const char *)input->at;
            return;
        }
        const char *const colon = memchr(line, ':', strnlen(line, len));
        const size_t name_len = colon ? (size_t)(colon - line) : len;
        size_t from = name_len + (colon != NULL);
        while (from < len && line[from] == ' ')
            from++;
        head->names[head->count] = copy(line, name_len);
        head->values[head->count] = copy(line + from, len - from);
        if (!colon)
            head->values[head->count].place.begin = head->names[head->count].place.end;
    }
}

static void free_head(struct head *head)
{
    free(head->method.bytes);
    free(head->target.bytes);
    free(head->version.bytes);
    for (size_t i = 0; i < head->count; i++) {
        free(head->names[i].bytes);
        free(head->values[i].bytes);
    }
}

/* ---- the letter of the law ---- */

static bool all_of(struct text text, const char *bytes)
{
    return text.len > 0 && strspn(text.bytes, bytes) == text.len;
}

/* How many fields have the name; the last one's value. */
static size_t count_named(const struct head *head, const char *name, struct text *value)
{
    size_t count = 0;
    for (size_t i = 0; i < head->count; i++)
        if (strlen(head->names[i].bytes) == head->names[i].len &&
            strcasecmp(head->names[i].bytes, name) == 0) {
            *value = head->values[i];
            count++;
        }
    return count;
}

#define ALPHA "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

/* The length that the head promises, or -1: chunks. */
static long check_framing(const struct head *head)
{
    struct text host = {0}, length = {0}, encoding = {0};
    const bool is_1_1 = strcmp(head->version.bytes, "HTTP/1.1") == 0;
    must(is_1_1 || strcmp(head->version.bytes, "HTTP/1.0") == 0);
    for (size_t i = 0; i < head->count; i++) {
        must(all_of(head->names[i], "!#$%&'*+-.^_`|~" DIGIT ALPHA));
        for (size_t k = 0; k < head->values[i].len; k++)
            must((unsigned char)head->values[i].bytes[k] >= ' ' ? head->values[i].bytes[k] != 0x7F
                                                                : head->values[i].bytes[k] == '\t');
    }
    const size_t hosts = count_named(head, "Host", &host),
                 lengths = count_named(head, "Content-Length", &length),
                 encodings = count_named(head, "Transfer-Encoding", &encoding);
    must(hosts == 1 || (hosts == 0 && !is_1_1));
    must(!hosts || !strpbrk(host.bytes, " \t,/@?\"\\"));
    must(lengths + encodings <= 1);
    if (encodings) {
        must(is_1_1 && strcasecmp(encoding.bytes, "chunked") == 0);
        return -1;
    }
    if (!lengths)
        return 0;
    must(all_of(length, DIGIT));
    return strtol(length.bytes, NULL, 10);
}

/* RFC 9112, section 3.2: origin form, absolute form, or what no route answers. */
static void check_target(const struct head *head, const struct http_request *request)
{
    const char *path = head->target.bytes, *const scheme_end = strstr(path, "://");
    for (size_t i = 0; i < head->target.len; i++)
        must((unsigned char)path[i] > ' ' && path[i] != 0x7F);
    char expected[4096] = "";
    if (scheme_end && scheme_end > path && strspn(path, ALPHA DIGIT "+-.") == (size_t)(scheme_end - path)) {
        path = scheme_end + 3;
        path += strcspn(path, "/?");
        if (*path != '/')
            strcpy(expected, "/");
    }
    const size_t len = strcspn(path, "?");
    must(len < sizeof expected - 1);
    strncat(expected, path, len);
    must(strcmp(request->path, expected) == 0);
    if (path[len])
        must(request->query && strcmp(request->query, path + len + 1) == 0);
    else
        must(!request->query);
}

/* Two digits behind each percent sign, and a byte for the three. */
static void check_decoded(const char *path)
{
    const size_t len = strlen(path);
    size_t expected = len;
    bool good = true;
    for (const char *at = path; (at = strchr(at, '%')); at++) {
        good &= isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2]);
        if (!good)
            break;
        expected -= 2;
        at += 2;
    }
    char *const decoded = malloc(len + 1);
    must(decoded);
    must(http_percent_decode(decoded, path, len) == (good ? (ptrdiff_t)expected : -ERR_INVALID));
    free(decoded);
}

static bool is_end(char c)
{
    return c == '\0' || c == '\r' || c == '\n';
}

/* A head, whose end is an empty line, in lines that end with CR LF, all with a colon but for the first. A NUL may stand in
 * the place of a CR, because the library writes zeros where lines ended, and at the end in that of an LF, too. */
static bool is_in_lines(const char *bytes, size_t size, const struct head *head)
{
    const char *const end = bytes + size;
    if (strlen(head->method.bytes) < head->method.len)
        return false;
    for (const char *line = bytes, *at;; line = at + 2) {
        for (at = line == bytes ? bytes + head->method.len : line; at < end && !is_end(*at);)
            at++;
        if (line != bytes && !memchr(line, ':', (size_t)(at - line)))
            return false;
        if (end - at <= 4)
            return end - at == 4 && *at != '\n' && at[1] != '\r' && is_end(at[1]);
        if (*at == '\n' || at[1] != '\n')
            return false;
    }
}

/* ---- */

static bool send_body(struct exchange *exchange, struct fuzz_input body)
{
    const size_t piece = 1 + (size_t)(body.end - body.at) / 3;
    while (body.at < body.end) {
        const size_t left = (size_t)(body.end - body.at), some = left < piece ? left : piece;
        if (!exchange_receive(exchange, (const char *)body.at, some, &limits))
            return false;
        body.at += some;
    }
    return true;
}

static void check_refusal(struct exchange *exchange)
{
    must(exchange->refusal >= 400 && exchange->refusal <= 503 && exchange->message && *exchange->message);
    exchange_refuse(exchange);
    must(exchange->call.response.status == exchange->refusal);
    must(exchange->call.response.body.used && !exchange->call.response.body.failed);

    /* The same without the library. */
    char bytes[1024], expected[32];
    const size_t len = http_refusal(bytes, sizeof bytes, exchange->refusal, exchange->message, exchange->id);
    snprintf(expected, sizeof expected, "HTTP/1.1 %u ", exchange->refusal);
    must(len == strlen(bytes) && strncmp(bytes, expected, strlen(expected)) == 0);
    must(strstr(bytes, "\r\n\r\n{\"error\":{\"code\":\"") && bytes[len - 1] == '}');
}

static void check_accepted(
    const struct exchange *exchange, struct head *head, size_t header_size, const struct fuzz_input *body)
{
    const struct http_request *const request = &exchange->call.request;
    const size_t body_len = (size_t)(body->end - body->at);
    const long length = check_framing(head);
    head->target.len = strlen(head->target.bytes); /* what the library hands over ends there, too */
    check_target(head, request);
    check_decoded(request->path);
    must(length <= (long)limits.body_max && (length < 0 || exchange->guard.length == (uint64_t)length));
    must(request->framed == (exchange->guard.lengths + exchange->guard.encodings > 0));
    must(header_size <= limits.header_max);
    must(request->body_len == body_len && body_len <= limits.body_max && body_len <= bodies.max);
    must(memcmp(request->body, body->at, body_len) == 0);
    must(request->timeout_ms < 1000000000);
}

/* As server/http.c does it, with texts that end at a NUL and perhaps their places, where the empty line begins is told for
 * that; or with whole texts. True if the head is let through. */
static bool feed_head(struct exchange *exchange, const struct head *head, bool whole, const char *empty_line,
    size_t header_size, uint64_t *ids)
{
    struct http_guard *const guard = &exchange->guard;
    exchange_target(exchange, head->target.bytes);
    if (empty_line) {
        guard->end = head->method.place.end;
        http_guard_place(guard, HTTP_GAP_SPACE, head->target.place);
        http_guard_place(guard, HTTP_GAP_SPACE, head->version.place);
    }
    for (size_t i = 0; i < head->count; i++) {
        const struct text *const name = &head->names[i], *const value = &head->values[i];
        if (empty_line)
            http_guard_place_field(guard, name->place, value->place);
        exchange_field(exchange, name->bytes, whole ? name->len : strlen(name->bytes), value->bytes,
            whole ? value->len : strlen(value->bytes));
    }
    if (empty_line)
        http_guard_place(guard, HTTP_GAP_LINE, (struct http_piece){empty_line, NULL});
    const bool going_on = exchange_begin(exchange, head->version.bytes, header_size, &limits, ids);
    must(going_on || exchange->refusal);
    must(http_id_valid(exchange->id));
    return going_on;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct exchange_pool pool = {0};
    struct fuzz_input body = {data, data + size};
    struct head head;
    uint64_t ids;
    http_id_seed(&ids);
    read_head(&head, &body);
    const size_t header_size = (size_t)(body.at - data);

    struct exchange *exchange = exchange_take(&pool);
    must(exchange);
    const bool passes = feed_head(exchange, &head, false, NULL, header_size, &ids) && !exchange->refusal;
    exchange_give(&pool, exchange);

    exchange = exchange_take(&pool); /* the same one, of which nothing is left; and again */
    must(exchange);
    const bool passes_in_place =
        head.end && feed_head(exchange, &head, false, head.end - 2, header_size, &ids) && !exchange->refusal;
    must(!head.end || passes_in_place == (passes && is_in_lines((const char *)data, header_size, &head)));
    exchange_give(&pool, exchange);

    exchange = exchange_take(&pool);
    must(exchange);
    const bool going_on = feed_head(exchange, &head, true, NULL, header_size, &ids);
    if (going_on && send_body(exchange, body) && exchange_finish(exchange, head.method.bytes))
        check_accepted(exchange, &head, header_size, &body);
    else
        check_refusal(exchange);
    exchange_give(&pool, exchange);
    must(atomic_load(&bodies.used) == 0);
    exchange_pool_done(&pool);
    free_head(&head);
    return 0;
}
