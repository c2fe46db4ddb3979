/* The guard and the exchange, fed with a request as a careless reader takes it apart: lines at LF, names at the first
 * colon. What is let through has one end and one target by the letter of RFC 9112, written down here a second time. */
#include "server/exchange.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 64 };

static struct exchange_account bodies = {.max = 1 << 20};
static const struct exchange_limits limits = {.body_max = 300, .header_max = 2000, .bodies = &bodies};

struct text {
    char *bytes; /* NUL-terminated, of its size for the sanitizers */
    size_t len;
};

struct head {
    struct text method, target, version;
    struct text names[FIELDS_MAX], values[FIELDS_MAX];
    size_t count;
};

static struct text copy(const char *bytes, size_t len)
{
    struct text text = {malloc(len + 1), len};
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
    fuzz_line(input, &line, &len);
    const char *at = line;
    head->method = next_word(&at, line + len);
    head->target = next_word(&at, line + len);
    head->version = copy(at, (size_t)(line + len - at));
    for (head->count = 0; head->count < FIELDS_MAX && fuzz_line(input, &line, &len) && len; head->count++) {
        const char *const colon = memchr(line, ':', len);
        const size_t name_len = colon ? (size_t)(colon - line) : len;
        size_t from = name_len + (colon != NULL);
        while (from < len && line[from] == ' ')
            from++;
        head->names[head->count] = copy(line, name_len);
        head->values[head->count] = copy(line + from, len - from);
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
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct exchange_pool pool;
    struct fuzz_input input = {data, data + size};
    struct head head;
    uint64_t ids = 1;
    struct exchange *const exchange = exchange_take(&pool);
    must(exchange);
    read_head(&head, &input);
    const size_t header_size = (size_t)(input.at - data), body_len = (size_t)(input.end - input.at);
    exchange_target(exchange, head.target.bytes);
    for (size_t i = 0; i < head.count; i++)
        exchange_field(
            exchange, head.names[i].bytes, head.names[i].len, head.values[i].bytes, head.values[i].len);
    bool going_on = exchange_begin(exchange, head.version.bytes, header_size, &limits, &ids);
    must(going_on || exchange->refusal);
    must(http_id_valid(exchange->id));
    if (going_on)
        going_on = send_body(exchange, input);
    if (going_on && exchange_finish(exchange, head.method.bytes)) {
        const struct http_request *const request = &exchange->call.request;
        const long length = check_framing(&head);
        head.target.len = strlen(head.target.bytes); /* what the library hands over ends there, too */
        check_target(&head, request);
        must(length <= (long)limits.body_max && (length < 0 || exchange->guard.length == (uint64_t)length));
        must(request->framed == (exchange->guard.lengths + exchange->guard.encodings > 0));
        must(header_size <= limits.header_max);
        must(request->body_len == body_len && body_len <= limits.body_max);
        must(memcmp(request->body, input.at, body_len) == 0);
    } else {
        check_refusal(exchange);
    }
    exchange_give(&pool, exchange);
    free_head(&head);
    return 0;
}
