#include "batch/summarize_set.h"

#include "batch/progress.h"
#include "batch/summary_log.h"

#include <stdlib.h>
#include <string.h>

/* Sort every user into one of three: known, nothing to ask about, to be asked. */
static int choose(struct summarize_set *set, const struct id_map *known, size_t limit, struct err *err)
{
    const struct id_map *users = &set->histories.users;
    set->users = malloc((users->count + 1) * sizeof *set->users);
    if (!set->users)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = 0;
    for (size_t i = 0; result >= 0 && i < users->count; i++) {
        const char *id = id_map_get(users, i);
        if (id_map_find(known, id, strlen(id)) >= 0) {
            set->known++;
            continue;
        }
        const struct history history = histories_get(&set->histories, i);
        result = prompt_possible(set->template, &set->news, &history, err);
        if (result == 0)
            set->skipped++;
        else if (limit && set->count == limit)
            set->later++;
        else
            set->users[set->count++] = (uint32_t)i;
    }
    return result < 0 ? result : 0;
}

int summarize_set_open(struct summarize_set *set, const struct summarize_options *options, struct err *err)
{
    const struct tsv_options rows = {.max_bad = options->max_bad, .quiet = options->quiet};
    struct id_map known = {0};
    *set = (struct summarize_set){0};
    int result = prompt_template_load(&set->template, options->template, err);
    if (result == 0 && options->out)
        result = summary_log_users(&known, options->out, err);
    if (result == 0)
        result = news_load(&set->news, options->news, &rows, err);
    if (result == 0)
        result = histories_load(&set->histories, options->behaviors, &set->news, SIZE_MAX, &rows, err);
    if (result == 0)
        result = choose(set, &known, options->limit, err);
    id_map_done(&known);
    if (result < 0)
        summarize_set_close(set);
    else
        progress_say(options->quiet,
            "%zu items, %zu users: %zu to ask, %zu behind the limit, %zu have a summary, %zu have read "
            "nothing with a "
            "text; %zu history ids without a text left out",
            set->news.ids.count, set->histories.users.count, set->count, set->later, set->known, set->skipped,
            histories_ids(&set->histories).missing);
    return result;
}

void summarize_set_close(struct summarize_set *set)
{
    prompt_template_free(set->template);
    histories_done(&set->histories);
    news_done(&set->news);
    free(set->users);
    *set = (struct summarize_set){0};
}

int summarize_set_prompt(struct prompt *out, const struct summarize_set *set, size_t index, struct err *err)
{
    const struct history history = histories_get(&set->histories, set->users[index]);
    return prompt_write(out, set->template, &set->news, &history, err);
}
