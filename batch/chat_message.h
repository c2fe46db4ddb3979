/* What is said in a conversation by OpenAI's chat completions, the dialect that vLLM, llama.cpp and the hosted models
 * share: the request as JSON, and what an answer means. No network here (batch/chat.h). */
#ifndef EMBSUM_BATCH_CHAT_MESSAGE_H
#define EMBSUM_BATCH_CHAT_MESSAGE_H

#include "batch/prompt.h"

/* How the model is to write. */
struct chat_style {
    const char *llm;    /* its name at the endpoint */
    double temperature; /* NaN: as the endpoint likes */
    long max_tokens;    /* of the answer; 0: as the endpoint likes */
};

enum chat_verdict {
    CHAT_ANSWERED, /* with a text */
    CHAT_AGAIN,    /* it may go well another time */
    CHAT_REFUSED,  /* this prompt never will */
    CHAT_HOPELESS  /* none will: the key, the model or the address is wrong */
};

struct chat_answer {
    enum chat_verdict verdict;
    char *text;    /* CHAT_ANSWERED: not empty, in one line, the caller's to free; else NULL */
    bool cut;      /* it ended because max_tokens were reached */
    char why[256]; /* of the other verdicts: a reason for a person, in one line */
    bool pause;    /* the endpoint, not this prompt alone, wants to be left in peace */
    double wait;   /* for so many seconds, if it said so; else 0 */
    size_t prompt_tokens, completion_tokens; /* as the endpoint counts them, 0 where it does not */
};

/* The malloc'ed body of the request; NULL when memory is out. */
char *chat_request(const struct chat_style *style, const struct prompt *prompt);

struct chat_response {
    long status;
    const char *body; /* NULL where it is empty */
    size_t len;
    double retry_after;   /* seconds; 0 where it does not say, below it where that is over */
    const char *location; /* of a redirect, or NULL */
};

/* Judge a whole response. */
void chat_judge(struct chat_answer *out, const struct chat_response *response);

/* An answer without a response: the connection failed. */
void chat_fail(struct chat_answer *out, enum chat_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put a text into one line: white space and control characters become single spaces, none at the ends. */
void chat_one_line(char *text);

#endif
