/* Who asks, in the words of W3C Trace Context: the request's header traceparent says which trace it belongs to and which
 * operation of the caller it is part of; the answer's header traceresponse (of the same group's draft on responses)
 * names the operation that it became here. */
#ifndef EMBSUM_SERVER_TRACE_H
#define EMBSUM_SERVER_TRACE_H

#include <stdbool.h>

struct trace {
    char trace_id[33], parent_id[17]; /* lower-case hexadecimal, as they came */
    char span_id[17];                 /* ours; the caller of trace_parse fills it in */
    bool sampled;
};

#define TRACE_TEXT 56 /* bytes of a header's value, with the NUL */

/* False: the value is no traceparent (Trace Context, section 3.2.2), and is to be ignored; out is untouched then. Of a
 * version to come what version 00 knows is read, as the section demands. White space around the value is no part of it. */
bool trace_parse(struct trace *out, const char *value);

/* The value of traceresponse. Of the flags only the one that is known is passed on. */
void trace_format(char out[TRACE_TEXT], const struct trace *trace);

#endif
