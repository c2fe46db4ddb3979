#include "server/trace.h"

#include <stdio.h>
#include <string.h>

/* version "-" trace-id "-" parent-id "-" trace-flags */
enum { VERSION = 0, TRACE_ID = 3, PARENT_ID = 36, FLAGS = 53, LENGTH = 55 };

static bool is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

/* An id of zeros alone is none. */
static bool is_id(const char *text, size_t len)
{
    return is_hex(text, len) && strspn(text, "0") < len;
}

static bool is_version(const char *value, size_t len)
{
    if (!is_hex(value + VERSION, 2) || memcmp(value + VERSION, "ff", 2) == 0)
        return false;
    return len == LENGTH || (memcmp(value + VERSION, "00", 2) != 0 && value[LENGTH] == '-');
}

bool trace_parse(struct trace *out, const char *value)
{
    value += strspn(value, " \t");
    size_t len = strlen(value);
    while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    if (len < LENGTH || !is_version(value, len) || value[TRACE_ID - 1] != '-' ||
        value[PARENT_ID - 1] != '-' || value[FLAGS - 1] != '-' || !is_id(value + TRACE_ID, 32) ||
        !is_id(value + PARENT_ID, 16) || !is_hex(value + FLAGS, 2))
        return false;
    memcpy(out->trace_id, value + TRACE_ID, 32);
    memcpy(out->parent_id, value + PARENT_ID, 16);
    out->trace_id[32] = out->parent_id[16] = '\0';
    const char low = value[FLAGS + 1];
    out->sampled = (low <= '9' ? low - '0' : low - 'a' + 10) & 1;
    return true;
}

void trace_format(char out[TRACE_TEXT], const struct trace *trace)
{
    snprintf(out, TRACE_TEXT, "00-%s-%s-%s", trace->trace_id, trace->span_id, trace->sampled ? "01" : "00");
}
