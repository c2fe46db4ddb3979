/* What a refresh has to do: what is stored is compared with what the inputs say, by the hash of what each matrix was computed
 * from, and what is stored of nobody any more goes. */
#ifndef EMBSUM_BATCH_REFRESH_PLAN_H
#define EMBSUM_BATCH_REFRESH_PLAN_H

#include "batch/categories.h"
#include "batch/workspace.h"
#include "store/generation.h"

struct refresh_plan {
    uint32_t *contents,
        *users; /* to encode: indices of the news, of the users (behind the last: the default user) */
    size_t content_count, user_count;
    size_t all_contents, all_users; /* that there will be, the default user among them */
    size_t stored_contents, stored_users;
    struct id_map gone_contents, gone_users, gone_categories; /* of those: in no input any more */
    struct id_map
        gone_whys; /* explanations (STORE_WHY) of nobody: of one who was killed, and who has gone since */
    struct categories categories;
    bool *category_changed;
    bool *title_changed; /* one for each of the news: what is stored is another; NULL: nobody asks */
    size_t changed_categories;
};

/* Asks the writer's generation, and the store for its lists of ids. */
int refresh_plan_make(struct refresh_plan *plan, const struct workspace *workspace,
    struct generation_writer *writer, struct store_link *link, bool quiet, struct err *err);
/* Of these users alone, inside a generation whose manifest says how many there are; nothing goes. */
int refresh_plan_users(struct refresh_plan *plan, const struct workspace *workspace,
    const struct id_map *users, struct generation_writer *writer, struct err *err);
void refresh_plan_done(struct refresh_plan *plan);

#endif
