/* Which requests are refused before anything else looks at them: those whose end or target two readers could
 * see in different places (RFC 9112, sections 3.2, 6.1 and 11.2). The HTTP library lets a good part of them
 * pass, and behind a proxy each is a way to smuggle a request.
 *
 *     struct http_guard guard = {0};
 *     http_guard_field(&guard, name, name_len, value, value_len);          for each header field
 *     status = http_guard_verdict(&guard, version, target, &message);
 */
#ifndef EMBSUM_SERVER_HTTP_GUARD_H
#define EMBSUM_SERVER_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_guard {
    unsigned hosts, lengths, encodings;
    uint64_t length;   /* Content-Length */
    const char *fault; /* the first thing wrong with a field, or NULL */
};

void http_guard_field(
    struct http_guard *guard, const char *name, size_t name_len, const char *value, size_t value_len);

/* 0, or the status of the refusal with a message. version is "HTTP/1.1" or what came in its place. */
unsigned http_guard_verdict(
    const struct http_guard *guard, const char *version, const char *target, const char **message);

#endif
