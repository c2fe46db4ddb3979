/* All content ids of one generation: read from the store once, by the first request that ranks the whole
 * catalogue, and kept in the order of their bytes, so that ties come out the same every time. */
#ifndef EMBSUM_SERVER_CATALOGUE_H
#define EMBSUM_SERVER_CATALOGUE_H

#include "core/err.h"
#include "store/store.h"

#include <stddef.h>

struct catalogue;

int catalogue_new(struct catalogue **out, struct err *err);
void catalogue_free(struct catalogue *catalogue); /* NULL is allowed */

/* *ids is owned by the catalogue. A failed reading is tried again by the next caller; callers at the same
 * time wait for one reading. */
int catalogue_get(struct catalogue *catalogue, struct store_link *link, const char *generation,
    const struct store_id **ids, size_t *count, struct err *err);

#endif
