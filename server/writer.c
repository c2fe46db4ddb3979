#include "server/writer.h"

#include "core/decimal.h"
#include "core/id.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void writer_clear(struct writer *w)
{
    w->used = 0;
    w->failed = false;
}

void writer_done(struct writer *w)
{
    free(w->data);
    *w = (struct writer){0};
}

/* Room for len more bytes, or NULL. */
static char *reserve(struct writer *w, size_t len)
{
    if (w->failed)
        return NULL;
    if (w->size - w->used < len) {
        const size_t size = 2 * w->size + len + 256;
        char *data = size > len ? realloc(w->data, size) : NULL;
        if (!data) {
            w->failed = true;
            return NULL;
        }
        w->data = data;
        w->size = size;
    }
    return w->data + w->used;
}

void writer_raw(struct writer *w, const char *data, size_t len)
{
    char *at = reserve(w, len);
    if (!at || !len)
        return;
    memcpy(at, data, len);
    w->used += len;
}

void writer_printf(struct writer *w, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *at = len < 0 ? NULL : reserve(w, (size_t)len + 1);
    if (at) {
        vsnprintf(at, (size_t)len + 1, format, again);
        w->used += (size_t)len;
    }
    va_end(again);
}

/* A value stands behind an opening bracket, a colon, or a comma that is put here. The last byte tells: what ends
 * a string is its quote. */
static bool wants_comma(const struct writer *w)
{
    const char last = w->used ? w->data[w->used - 1] : '[';
    return last != '{' && last != '[' && last != ':';
}

static char *put(char *to, const char *data, size_t len)
{
    if (len) /* the empty text may be NULL */
        memcpy(to, data, len);
    return to + len;
}

/* Room for a comma, if there must be one, and len more bytes behind it; NULL if there is none. */
static char *begin(struct writer *w, size_t len)
{
    char *at = reserve(w, len + 1);
    if (at && wants_comma(w))
        *at++ = ',';
    return at;
}

static void end(struct writer *w, const char *at)
{
    w->used = (size_t)(at - w->data);
}

static void value(struct writer *w, const char *text, size_t len)
{
    char *at = begin(w, len);
    if (at)
        end(w, put(at, text, len));
}

void writer_open(struct writer *w, char bracket)
{
    value(w, &bracket, 1);
}

void writer_close(struct writer *w, char bracket)
{
    writer_raw(w, &bracket, 1);
}

void writer_key(struct writer *w, const char *name)
{
    const size_t len = strlen(name);
    char *at = begin(w, len + 3);
    if (!at)
        return;
    *at++ = '"';
    at = put(at, name, len);
    *at++ = '"';
    *at++ = ':';
    end(w, at);
}

static void escape(struct writer *w, unsigned char c)
{
    switch (c) {
    case '"':
        writer_raw(w, "\\\"", 2);
        break;
    case '\\':
        writer_raw(w, "\\\\", 2);
        break;
    case '\n':
        writer_raw(w, "\\n", 2);
        break;
    case '\r':
        writer_raw(w, "\\r", 2);
        break;
    case '\t':
        writer_raw(w, "\\t", 2);
        break;
    default:
        writer_printf(w, "\\u%04x", (unsigned)c);
    }
}

/* Bytes of the valid UTF-8 sequence at text, 0 if it is none. */
static size_t sequence_length(const char *text, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++)
        if (utf8_valid(text, n))
            return n;
    return 0;
}

/* Text that came from outside must not break the document: each byte that is not part of valid UTF-8 becomes
 * U+FFFD. Ids never need it, they were checked at the door; parsers' messages quote bytes that were refused.
 */
static void write_escaped(struct writer *w, const char *text, size_t len)
{
    value(w, "\"", 1);
    const bool valid = utf8_valid(text, len);
    for (size_t i = 0, plain; i < len; i += plain) {
        for (plain = 0; i + plain < len; plain++) {
            const unsigned char c = (unsigned char)text[i + plain];
            if (c < ' ' || c == '"' || c == '\\' || c == 0x7F || (!valid && c >= 0x80))
                break;
        }
        writer_raw(w, text + i, plain);
        if (i + plain == len)
            break;
        const unsigned char c = (unsigned char)text[i + plain];
        if (c < 0x80) {
            escape(w, c);
            plain++;
            continue;
        }
        const size_t sequence = sequence_length(text + i + plain, len - i - plain);
        if (sequence)
            writer_raw(w, text + i + plain, sequence);
        else
            writer_raw(w, "\xEF\xBF\xBD", 3);
        plain += sequence ? sequence : 1;
    }
    writer_raw(w, "\"", 1);
}

void writer_string(struct writer *w, const char *text, size_t len)
{
    if (id_plain_span(text, len) < len) {
        write_escaped(w, text, len);
        return;
    }
    char *at = begin(w, len + 2);
    if (!at)
        return;
    *at++ = '"';
    at = put(at, text, len);
    *at++ = '"';
    end(w, at);
}

void writer_text(struct writer *w, const char *text)
{
    writer_string(w, text, strlen(text));
}

/* ---- numbers and words ---- */

void writer_float(struct writer *w, float number)
{
    if (!isfinite(number)) { /* JSON has no word for it */
        writer_null(w);
        return;
    }
    char *at = begin(w, DECIMAL_FLOAT_MAX);
    if (at)
        end(w, at + decimal_format_float(at, number));
}

void writer_uint(struct writer *w, uint64_t number)
{
    char *at = begin(w, DECIMAL_UINT_MAX);
    if (at)
        end(w, at + decimal_format_uint(at, number));
}

void writer_int(struct writer *w, int64_t number)
{
    char *at = begin(w, 1 + DECIMAL_UINT_MAX);
    if (!at)
        return;
    if (number < 0)
        *at++ = '-';
    end(w, at + decimal_format_uint(at, number < 0 ? -(uint64_t)number : (uint64_t)number));
}

void writer_bool(struct writer *w, bool yes)
{
    value(w, yes ? "true" : "false", yes ? 4 : 5);
}

void writer_null(struct writer *w)
{
    value(w, "null", 4);
}

/* ---- what there is most of ---- */

void writer_hit(struct writer *w, const char *id, size_t len, float score)
{
    static const char head[] = "{\"id\":\"", middle[] = "\",\"score\":";
    if (id_plain_span(id, len) < len || !isfinite(score)) {
        writer_open(w, '{');
        writer_key(w, "id");
        writer_string(w, id, len);
        writer_key(w, "score");
        writer_float(w, score);
        writer_close(w, '}');
        return;
    }
    char *at = begin(w, sizeof head + len + sizeof middle + DECIMAL_FLOAT_MAX + 1);
    if (!at)
        return;
    at = put(at, head, sizeof head - 1);
    at = put(at, id, len);
    at = put(at, middle, sizeof middle - 1);
    at += decimal_format_float(at, score);
    *at++ = '}';
    end(w, at);
}
