/* A folder of matrices for exchange (DESIGN, "Files"): content.npy, content.ids, user.npy, user.ids,
 * score_proj.npy, and summaries.jsonl, categories.tsv and titles.tsv where there are such. */
#ifndef EMBSUM_BATCH_EXCHANGE_H
#define EMBSUM_BATCH_EXCHANGE_H

#include "batch/categories.h"
#include "batch/npy.h"
#include "core/id.h"

struct exchange {
    struct npy content, user, score_proj;
    struct id_map content_ids, user_ids;
    char **summary; /* of each user; NULL where there is none */
    size_t summaries;
    char **title; /* of each content, likewise */
    size_t titles;
    struct categories categories; /* of the contents */
};

/* Open and check: ids as many as rows, each once and valid (one empty id is the default user), dimensions that fit. */
int exchange_open(struct exchange *exchange, const char *dir, struct err *err);
void exchange_close(struct exchange *exchange);

#endif
