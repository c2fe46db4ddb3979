/* The daemon's answer to /rank, key by key and number by number (server/rank_answer.c). */
#include "batch/ranking.h"

#include "batch/screen.h"
#include "core/decimal.h"

#include <string.h>

#define MISSING_LISTED 100 /* of a whole catalogue, as the daemon */

struct json_out {
    FILE *stream;
    bool ascii;
};

/* What is no UTF-8 becomes U+FFFD, byte by byte: it must not break the document. */
static void put_string(const struct json_out *out, const char *text, size_t len)
{
    fputc('"', out->stream);
    for (size_t at = 0, bytes; at < len; at += bytes) {
        uint32_t c = 0xFFFD;
        bytes = screen_decode(&c, text + at, len - at);
        const char *const simple = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
        if (simple)
            fputs(simple, out->stream);
        else if (c < ' ' || c == 0x7F || (out->ascii && c >= 0x80 && c < 0x10000))
            fprintf(out->stream, "\\u%04x", c);
        else if (out->ascii && c >= 0x10000)
            fprintf(out->stream, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + (c & 0x3FF));
        else if (c == '"' || c == '\\')
            fprintf(out->stream, "\\%c", (int)c);
        else if (bytes)
            fwrite(text + at, 1, bytes, out->stream);
        else
            fputs("\xEF\xBF\xBD", out->stream);
        bytes += !bytes;
    }
    fputc('"', out->stream);
}

static void put_float(const struct json_out *out, float value)
{
    char text[DECIMAL_FLOAT_MAX];
    fwrite(text, 1, decimal_format_float(text, value), out->stream);
}

static void put_matrix(const struct json_out *out, const char *key, const double *values, size_t m, size_t n)
{
    fprintf(out->stream, ",\"%s\":[", key);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            fputs(j ? "," : i ? ",[" : "[", out->stream);
            put_float(out, (float)values[i * n + j]);
        }
        fputc(']', out->stream);
    }
    fputc(']', out->stream);
}

static void put_explanation(const struct json_out *out, const struct ranking_item *item, size_t m, size_t n)
{
    put_matrix(out, "weights", item->weights, m, n);
    put_matrix(out, "similarities", item->similarities, m, n);
    fputs(",\"top_pairs\":[", out->stream);
    for (size_t i = 0; i < item->pair_count; i++) {
        const struct ranking_pair *const pair = &item->pairs[i];
        fprintf(out->stream, "%s{\"user_code\":%zu,\"content_code\":%zu,\"weight\":", i ? "," : "",
            pair->user_code, pair->content_code);
        put_float(out, pair->weight);
        fputs(",\"similarity\":", out->stream);
        put_float(out, pair->similarity);
        fputc('}', out->stream);
    }
    fputc(']', out->stream);
}

static void put_ranking(const struct json_out *out, const struct ranking *ranking, bool explain)
{
    fputs(",\"ranking\":[", out->stream);
    for (size_t i = 0; i < ranking->count; i++) {
        const struct ranking_item *const item = &ranking->items[i];
        fputs(i ? ",{\"id\":" : "{\"id\":", out->stream);
        put_string(out, item->id.id, item->id.len);
        fputs(",\"score\":", out->stream);
        put_float(out, item->score);
        if (item->title) {
            fputs(",\"title\":", out->stream);
            put_string(out, item->title, item->title_len);
        }
        if (explain && item->weights)
            put_explanation(out, item, ranking->manifest.m, ranking->manifest.n);
        fputc('}', out->stream);
    }
    fputc(']', out->stream);
}

static void put_missing(const struct json_out *out, const struct ranking *ranking)
{
    fputs(",\"missing\":[", out->stream);
    for (size_t i = 0; i < ranking->missing_count && !(ranking->whole_catalogue && i == MISSING_LISTED);
         i++) {
        fputs(i ? ",{\"id\":" : "{\"id\":", out->stream);
        put_string(out, ranking->missing[i].id.id, ranking->missing[i].id.len);
        fprintf(out->stream, ",\"reason\":\"%s\"}", ranking->missing[i].reason);
    }
    fputc(']', out->stream);
    if (ranking->whole_catalogue)
        fprintf(out->stream, ",\"missing_count\":%zu", ranking->missing_count);
}

void ranking_write_json(FILE *stream, const struct ranking *ranking, bool explain, bool ascii)
{
    const struct json_out out = {stream, ascii};
    fputs("{\"user\":", stream);
    put_string(&out, ranking->user, strlen(ranking->user));
    fprintf(stream, ",\"generation\":\"%s\",\"user_status\":\"%s\"", ranking->generation,
        ranking->user_default ? "default" : "present");
    if (ranking->user_corrupt)
        fputs(",\"degraded\":[\"user_corrupt\"]", stream);
    put_ranking(&out, ranking, explain);
    put_missing(&out, ranking);
    fputs("}\n", stream);
}
