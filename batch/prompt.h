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

/* 1 if an item of this history has a text for the template, 0 if not: there is nothing to ask about. Or a negative code of
 * news_item(). */
int prompt_possible(
    const struct prompt_template *t, const struct news *news, const struct history *history, struct err *err);

/* The prompt of a history: its newest items that have a text, at most as many as the template allows. Free it with
 * prompt_done. Fails as news_item() does. */
int prompt_write(struct prompt *out, const struct prompt_template *t, const struct news *news,
    const struct history *history, struct err *err);
void prompt_done(struct prompt *prompt);

#endif
