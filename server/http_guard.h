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

/* Where a piece of a head begins and ends in memory, as the library that found it says. */
struct http_piece {
    const char *begin, *end;
};

struct http_guard {
    unsigned hosts, lengths, encodings;
    uint64_t length;   /* Content-Length */
    const char *fault; /* the first thing wrong with a field, or NULL */
    const char *end;   /* of the piece before; see http_guard_place */
};

void http_guard_field(
    struct http_guard *guard, const char *name, size_t name_len, const char *value, size_t value_len);

/* A library that hands out strings does not show what lay between them: a NUL that cut a value short, a line that was folded
 * into the one before, a field without a name, a line that ended with LF alone. One that leaves the pieces where they came in
 * does: a piece begins a space (of the first line) or CR LF behind the end of the one before. For each piece in its order,
 * once guard->end is the end of the first, the method; the last is the empty line's end. Where the library has written zeros
 * over the ends of lines, one that a NUL and LF ended looks as if it had been CR LF. */
enum http_gap { HTTP_GAP_SPACE = 1, HTTP_GAP_LINE = 2 };
void http_guard_place(struct http_guard *guard, enum http_gap gap, struct http_piece piece);
/* A line with a field: a colon and blanks alone lie between its name and its value. */
void http_guard_place_field(struct http_guard *guard, struct http_piece name, struct http_piece value);

/* 0, or the status of the refusal with a message. version is "HTTP/1.1" or what came in its place. */
unsigned http_guard_verdict(
    const struct http_guard *guard, const char *version, const char *target, const char **message);

#endif
