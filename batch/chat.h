/* Conversations with one endpoint over HTTP, several at a time in one thread, connections kept alive.
 *
 *     chat_ask(chat, 0, &prompt, &err);
 *     chat_ask(chat, 1, &other, &err);
 *     while ((result = chat_wait(chat, &slot, &answer, 250, &err)) >= 0)
 *         if (result > 0)
 *             use(slot, &answer);
 *
 * The key goes into the Authorization header and nowhere else: redirects are not followed, and what an endpoint says
 * back has it blotted out. A response of more than 1 MiB is refused.
 */
#ifndef EMBSUM_BATCH_CHAT_H
#define EMBSUM_BATCH_CHAT_H

#include "batch/chat_message.h"

#define CHAT_URL_MAX 2048

/* Where the requests go. */
struct chat_endpoint {
    char url[CHAT_URL_MAX];
    bool openai;  /* https://api.openai.com */
    bool exposed; /* http to another machine: whoever is between reads the key */
};

/* `text` is the base of the API (http://127.0.0.1:8000 or .../v1), or the whole address, which ends in
 * /chat/completions. ERR_INVALID for another scheme, or a user or password in it. */
int chat_endpoint_parse(struct chat_endpoint *out, const char *text, struct err *err);

struct chat_options {
    const struct chat_endpoint *endpoint; /* this and the strings must outlive the chat */
    struct chat_style style;
    const char *key; /* or NULL */
    size_t slots;    /* the most conversations at a time */
    long timeout_s;  /* of one, from connecting to the last byte */
};

struct chat;
int chat_new(struct chat **out, const struct chat_options *options, struct err *err);
void chat_free(struct chat *chat); /* what is under way is broken off */

/* Begin a conversation in a slot that has none. The prompt is copied. */
int chat_ask(struct chat *chat, size_t slot, const struct prompt *prompt, struct err *err);

/* Wait at most `ms` for an answer to any of them, or for a signal: 1 with the slot, which is free again, and its answer
 * (the text is the caller's), 0 without one. */
int chat_wait(struct chat *chat, size_t *slot, struct chat_answer *answer, int ms, struct err *err);

#endif
