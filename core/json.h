/* jansson, for the day on which memory runs out. */
#ifndef EMBSUM_CORE_JSON_H
#define EMBSUM_CORE_JSON_H

#include <jansson.h>

/* json_loadb(), which in jansson 2.14 crashes when the text of a token cannot be kept (its issue 362): this gives NULL with
 * "out of memory" in *where, which may be NULL. The tree is jansson's as ever. */
json_t *json_read(const char *text, size_t len, size_t flags, json_error_t *where);

/* json_dumps(), whose text may lack something where memory was short: NULL then. free() gives it back. */
char *json_write(const json_t *tree, size_t flags);

/* How many of this thread's allocations in jansson have failed so far. Who builds a tree from many small calls compares two
 * of them instead of looking at each call; a tree that was built meanwhile lacks something. */
size_t json_failures(void);

#endif
