/* Contents' titles: news.tsv's column, or the titles.tsv of a folder of matrices, whose lines are a content's id, a tab, its
 * title. An item without a title has none in the store. */
#ifndef EMBSUM_BATCH_TITLES_H
#define EMBSUM_BATCH_TITLES_H

#include "batch/mind.h"
#include "store/generation.h"

/* changed[i] = the title of item i is not the one that the writer's generation has. */
int titles_compare(bool *changed, const struct news *news, struct generation_writer *writer,
    struct store_link *link, struct err *err);
/* Put an item's title, or delete what is stored where it has none. text is used from call to call, see news_item(). */
int titles_put(struct generation_writer *writer, struct news_text *text, const struct news *news,
    size_t index, struct err *err);

int titles_write(const struct news *news, const char *path, struct err *err);
/* titles (of calloc, one a content) = their malloc'ed titles. ERR_INVALID names the line: no tab, an id that is none of the
 * contents, or a second time, what is no text. */
int titles_read(char **titles, const char *path, const struct id_map *contents, struct err *err);

#endif
