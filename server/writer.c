#include "server/writer.h"

#include "core/id.h"

#include <float.h>
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

/* A value stands behind an opening bracket, a colon, or a comma that is put here. */
static void separate(struct writer *w)
{
    if (w->used && !strchr("{[:", w->data[w->used - 1]))
        writer_raw(w, ",", 1);
}

void writer_open(struct writer *w, char bracket)
{
    separate(w);
    writer_raw(w, &bracket, 1);
}

void writer_close(struct writer *w, char bracket)
{
    writer_raw(w, &bracket, 1);
}

void writer_key(struct writer *w, const char *name)
{
    separate(w);
    writer_raw(w, "\"", 1);
    writer_raw(w, name, strlen(name));
    writer_raw(w, "\":", 2);
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
void writer_string(struct writer *w, const char *text, size_t len)
{
    separate(w);
    writer_raw(w, "\"", 1);
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

void writer_text(struct writer *w, const char *text)
{
    writer_string(w, text, strlen(text));
}

static bool reads_back(char out[WRITER_FLOAT_MAX], int digits, double near, float value)
{
    snprintf(out, WRITER_FLOAT_MAX, "%.*g", digits, near);
    return strtof(out, NULL) == value;
}

/* A decimal of six digits survives the way through float32 (FLT_DIG), nine tell all float32 apart
 * (FLT_DECIMAL_DIG), so the answer is among four tries; subnormals have fewer digits. The nearest decimal of
 * a length is the one to try, but for a power of two: what rounds to it reaches twice as far away from zero
 * as towards it, so that the next decimal outwards may read back where the nearest does not (2^87, 2^90 and
 * 2^-96). The program never leaves the "C" locale: the point is a point. */
size_t writer_format_float(char out[WRITER_FLOAT_MAX], float value)
{
    int exponent;
    const double outwards = fabsf(frexpf(value, &exponent)) == 0.5f ? (double)value * (1 + 0x1p-25) : 0;
    for (int digits = fabsf(value) < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
        if (reads_back(out, digits, (double)value, value))
            break;
        if (outwards != 0 && reads_back(out, digits, outwards, value))
            break;
    }
    return strlen(out);
}

void writer_float(struct writer *w, float value)
{
    if (!isfinite(value)) { /* JSON has no word for it */
        writer_null(w);
        return;
    }
    char text[WRITER_FLOAT_MAX];
    const size_t len = writer_format_float(text, value);
    separate(w);
    writer_raw(w, text, len);
}

void writer_uint(struct writer *w, uint64_t value)
{
    separate(w);
    writer_printf(w, "%llu", (unsigned long long)value);
}

void writer_int(struct writer *w, int64_t value)
{
    separate(w);
    writer_printf(w, "%lld", (long long)value);
}

void writer_bool(struct writer *w, bool value)
{
    separate(w);
    writer_raw(w, value ? "true" : "false", value ? 4 : 5);
}

void writer_null(struct writer *w)
{
    separate(w);
    writer_raw(w, "null", 4);
}
