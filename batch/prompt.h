/* What an LLM is asked about a user: a template, and the prompt that it makes of a history.
 *
 *     struct prompt_template *t;
 *     struct prompt prompt = {0};
 *     if (prompt_template_load(&t, "news", &err) == 0 && prompt_write(&prompt, t, &news, &history, &err) == 0)
 *         puts(prompt.user);
 *
 * The syntax of a template is told in config/prompts/news.txt. A template is immutable: any number of prompts may be
 * written from it at once.
 */
#ifndef EMBSUM_BATCH_PROMPT_H
#define EMBSUM_BATCH_PROMPT_H

#include "batch/mind.h"

struct prompt_template;

/* "news" or "books", the shipped ones, which are part of the program, or the path of a file. ERR_INVALID names
 * the line that is wrong. */
int prompt_template_load(struct prompt_template **out, const char *name, struct err *err);
void prompt_template_free(struct prompt_template *t);

/* The text of a shipped template, or NULL where there is none of that name. */
const char *prompt_shipped(const char *name);

struct prompt {
    char *system; /* NULL where the template has no such section */
    char *user;
};

/* The number of items that the prompt of this history lists: the newest ones that have a text, at most as many
 * as the template allows. 0: there is nothing to ask about. */
size_t prompt_items(const struct prompt_template *t, const struct news *news, const struct history *history);

/* The prompt of a history; free it with prompt_done. ERR_NOMEM is all that can go wrong. */
int prompt_write(struct prompt *out, const struct prompt_template *t, const struct news *news,
    const struct history *history, struct err *err);
void prompt_done(struct prompt *prompt);

#endif
