/* Who is to be asked about, and what to ask: texts, histories and a template, without those who have a summary. */
#ifndef EMBSUM_BATCH_SUMMARIZE_SET_H
#define EMBSUM_BATCH_SUMMARIZE_SET_H

#include "batch/prompt.h"

struct summarize_options {
    const char *news, *behaviors;
    const char *template; /* a name or a file: prompt_template_load() */
    const char *out;      /* its users are left out; NULL: nobody has a summary yet */
    size_t limit;         /* the most users to ask; 0: all */
    struct tsv_limit max_bad;
    bool quiet;
};

struct summarize_set {
    struct prompt_template *template;
    struct news news;
    struct histories histories;
    uint32_t *users; /* to be asked about: indices into the histories, in the order of behaviors.tsv */
    size_t count;
    size_t skipped; /* users without an item that has a text: there is nothing to ask */
    size_t later;   /* users to be asked but for the limit */
    size_t known;   /* users who have a summary already */
};

/* Tells on stderr what it read. */
int summarize_set_open(struct summarize_set *set, const struct summarize_options *options, struct err *err);
void summarize_set_close(struct summarize_set *set);

static inline const char *summarize_set_user(const struct summarize_set *set, size_t index)
{
    return id_map_get(&set->histories.users, set->users[index]);
}

/* The prompt about a user; free it with prompt_done. */
int summarize_set_prompt(struct prompt *out, const struct summarize_set *set, size_t index, struct err *err);

#endif
