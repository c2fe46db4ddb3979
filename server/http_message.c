#include "server/http_message.h"

#include "server/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const struct {
    unsigned status;
    const char *reason, *code;
} statuses[] = {
    {400, "Bad Request", "bad_request"}, {401, "Unauthorized", "unauthorized"},
    {404, "Not Found", "not_found"}, {405, "Method Not Allowed", "method_not_allowed"},
    {408, "Request Timeout", "timeout"}, {411, "Length Required", "length_required"},
    {413, "Payload Too Large", "payload_too_large"}, {414, "URI Too Long", "uri_too_long"},
    {415, "Unsupported Media Type", "unsupported_media_type"},
    {431, "Request Header Fields Too Large", "headers_too_large"},
    {503, "Service Unavailable", "unavailable"},
    {500, "Internal Server Error", "internal"}, /* the last: what no other row names */
};
enum { STATUSES = sizeof statuses / sizeof *statuses };

static size_t status_row(unsigned status)
{
    size_t row = 0;
    while (row < STATUSES - 1 && statuses[row].status != status)
        row++;
    return row;
}

const char *http_error_code(unsigned status)
{
    return statuses[status_row(status)].code;
}

const char *http_reason(unsigned status)
{
    return statuses[status_row(status)].reason;
}

void http_response_reset(struct http_response *response)
{
    response->status = 200;
    response->content_type = "application/json";
    response->cache_control = "no-store";
    response->header_count = 0;
    response->close = false;
    writer_clear(&response->body);
}

void http_response_header(struct http_response *response, const char *name, const char *format, ...)
{
    if (response->header_count == HTTP_HEADERS_MAX)
        return;
    struct http_header *header = &response->headers[response->header_count++];
    header->name = name;
    va_list args;
    va_start(args, format);
    if (vsnprintf(header->value, sizeof header->value, format, args) < 0)
        header->value[0] = '\0';
    va_end(args);
}

static void write_error(struct writer *body, unsigned status, const char *message, const char *id)
{
    writer_open(body, '{');
    writer_key(body, "error");
    writer_open(body, '{');
    writer_key(body, "code");
    writer_text(body, http_error_code(status));
    writer_key(body, "message");
    writer_text(body, message);
    writer_key(body, "request_id");
    writer_text(body, id);
    writer_close(body, '}');
    writer_close(body, '}');
}

void http_fail(
    struct http_response *response, const struct http_request *request, unsigned status, const char *message)
{
    http_response_reset(response);
    response->status = status;
    write_error(&response->body, status, message, request->id);
    if (status == 503)
        http_response_header(response, "Retry-After", "1");
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

ptrdiff_t http_percent_decode(char *dst, const char *src, size_t len)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        if (src[i] != '%') {
            dst[used++] = src[i];
            continue;
        }
        if (len - i < 3 || hex_digit(src[i + 1]) < 0 || hex_digit(src[i + 2]) < 0)
            return -ERR_INVALID;
        dst[used++] = (char)(hex_digit(src[i + 1]) << 4 | hex_digit(src[i + 2]));
        i += 2;
    }
    dst[used] = '\0';
    return (ptrdiff_t)used;
}

bool http_id_valid(const char *id)
{
    size_t len = 0;
    for (; id[len]; len++)
        if (len == HTTP_ID_MAX || id[len] <= ' ' || id[len] > '~')
            return false;
    return len > 0;
}

void http_id_seed(uint64_t *state)
{
    if (getrandom(state, sizeof *state, 0) != sizeof *state)
        *state = clock_ns();
}

/* SplitMix64: ids need to be distinct, not secret. */
void http_id_make(char id[HTTP_ID_MAX + 1], uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    snprintf(id, HTTP_ID_MAX + 1, "%016llx", (unsigned long long)(x ^ x >> 31));
}

size_t http_refusal(char *out, size_t size, unsigned status, const char *message, const char *id)
{
    struct writer body = {0};
    write_error(&body, status, message, id);
    const int len = snprintf(out, size,
        "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nCache-Control: "
        "no-store\r\n"
        "X-Request-Id: %s\r\n%sConnection: close\r\n\r\n%.*s",
        status, http_reason(status), body.used, id, status == 503 ? "Retry-After: 1\r\n" : "", (int)body.used,
        body.failed ? "" : body.data);
    writer_done(&body);
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}
