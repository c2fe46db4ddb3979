/* Which contents are in which categories: news.tsv's column, or the categories.tsv of a folder of matrices, whose lines
 * are a content's id, a tab, a category. A content may be in several, or in none. */
#ifndef EMBSUM_BATCH_CATEGORIES_H
#define EMBSUM_BATCH_CATEGORIES_H

#include "batch/mind.h"
#include "store/generation.h"

struct category_member {
    uint32_t category, content; /* indices into names, into the contents' ids */
};

struct categories {
    struct id_map names;
    struct category_member *members; /* in the order of their categories, then contents; each once */
    size_t count, capacity;
};

/* Items without a category are in none; one whose text cannot be a category is told, unless quiet, and is in none. */
int categories_of_news(struct categories *categories, const struct news *news, bool quiet, struct err *err);
/* ERR_INVALID names the line: no tab, an id that is none of the contents, what cannot be a category. */
int categories_read(
    struct categories *categories, const char *path, const struct id_map *contents, struct err *err);
void categories_done(struct categories *categories);

int categories_write(
    const struct categories *categories, const struct id_map *contents, const char *path, struct err *err);
/* only: one for each category, which are put; NULL: all. */
int categories_put(const struct categories *categories, const struct id_map *contents, const bool *only,
    struct generation_writer *writer, struct err *err);

/* ids (room for all members) = the contents of a category; returns their number. */
size_t categories_contents(struct store_id *ids, const struct categories *categories,
    const struct id_map *contents, size_t category);

#endif
