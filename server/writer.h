/* JSON written front to back into a growing buffer, without a tree.
 *
 *     struct writer w = {0};
 *     writer_open(&w, '{');
 *     writer_key(&w, "id");
 *     writer_string(&w, id, len);
 *     writer_key(&w, "score");
 *     writer_float(&w, 0.7f);
 *     writer_close(&w, '}');                  {"id":"N1","score":0.7}
 *
 * Commas come by themselves. When memory runs out `failed` is set and the rest is dropped: one check at the
 * end is enough. Zero-initialised is empty and valid; writer_clear keeps the buffer for the next use. */
#ifndef EMBSUM_SERVER_WRITER_H
#define EMBSUM_SERVER_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
    char *data;
    size_t used, size;
    bool failed;
};

void writer_clear(struct writer *w);
void writer_done(struct writer *w);

void writer_open(struct writer *w, char bracket); /* '{' or '[' */
void writer_close(struct writer *w, char bracket);
void writer_key(struct writer *w, const char *name); /* a plain name of the program's own: not escaped */

void writer_string(struct writer *w, const char *text, size_t len); /* any bytes; see writer.c on bad UTF-8 */
void writer_text(struct writer *w, const char *text);               /* NUL-terminated */
void writer_float(struct writer *w, float value);
void writer_uint(struct writer *w, uint64_t value);
void writer_int(struct writer *w, int64_t value);
void writer_bool(struct writer *w, bool value);
void writer_null(struct writer *w);

/* {"id":"N1","score":1.25}, the same as by the calls above, but at once: answers have thousands of them. */
void writer_hit(struct writer *w, const char *id, size_t len, float score);

/* Bytes as they are, for formats other than JSON. */
void writer_raw(struct writer *w, const char *data, size_t len);
void writer_printf(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
