/* What is kept of a category: the ids of its contents, each with a newline behind it, in any order. An id has no white
 * space, so nothing needs to be escaped, and an operator reads the value as it is. A content may be in several
 * categories, or in none; an id that is no content of the generation (any more) does no harm. */
#ifndef EMBSUM_STORE_CATEGORY_H
#define EMBSUM_STORE_CATEGORY_H

#include "store/store.h"

/* Bytes of the value of these ids; SIZE_MAX if there are too many to count. */
size_t category_size(const struct store_id *ids, size_t count);
void category_encode(char *out, const struct store_id *ids, size_t count); /* category_size bytes */

/* The next id of a value, from *at on (0 at first), which moves behind it. 1, 0 at the end, or ERR_CORRUPT: what stands
 * there is no id, *at is behind it all the same. An id lasts as long as the value. */
int category_next(struct store_id *id, const char *value, size_t len, size_t *at);

#endif
