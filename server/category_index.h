/* The categories of a generation in memory: of each name its contents, as a catalogue whose ids are those of the whole
 * one. What it takes beside the names is 24 bytes for each content of each category. Like a catalogue it does not
 * change: when contents come or go, or a category changes, a new one takes its place. */
#ifndef EMBSUM_SERVER_CATEGORY_INDEX_H
#define EMBSUM_SERVER_CATEGORY_INDEX_H

#include "server/catalogue.h"

struct category_index {
    struct catalogue *names;
    struct catalogue **contents; /* of each name; NULL: gone while it was read */
};

/* Read all categories of a generation from the store. Of their ids those that are in the catalogue are kept. */
int category_index_read(struct category_index **out, struct store_link *link, const char *generation,
    struct catalogue *catalogue, struct err *err);
void category_index_free(struct category_index *index); /* NULL is allowed */

/* The contents of a category, the index's; NULL if there is none of the name. */
struct catalogue *category_index_find(const struct category_index *index, const struct store_id *name);

#endif
