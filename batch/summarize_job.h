/* Ask an endpoint about every user of a set, several at a time, and append what it says to a log.
 *
 * Each user is in the hands of one slot until there is a summary or the user is given up: a failure that may pass is followed
 * by a pause of the slot that doubles from one to sixty seconds, less a random part of up to a half, and by another attempt. So
 * an endpoint in trouble sees at most as many requests as there are slots, ever more slowly. Rejected: a queue of users to be
 * tried again, which lets the rest of a large set run against the wall in the meantime.
 *
 * Where the endpoint says that it is asked too much (429, 503 with Retry-After), nobody asks before the pause that it wants, or
 * else the slot's own, is over; and half as many ask at a time from then on, one more whenever as many as that had an answer
 * (TCP's rule), so that a run finds the pace of a rate limit instead of losing users to it.
 */
#ifndef EMBSUM_BATCH_SUMMARIZE_JOB_H
#define EMBSUM_BATCH_SUMMARIZE_JOB_H

#include "batch/chat.h"
#include "batch/summarize_set.h"
#include "batch/summary_log.h"

struct summarize_figures {
    size_t asked;    /* users about whom at least one request was sent */
    size_t requests; /* all that were sent */
    size_t written;
    size_t cut;                              /* of those written: ended by --max-tokens */
    size_t failed;                           /* users who were given up; each is named on stderr */
    size_t prompt_tokens, completion_tokens; /* as the endpoint counts them */
};

/* `retries` is the most attempts at a user behind the first one. Returns 0 when every user was asked, also if some were
 * given up. Ends early where going on makes no sense: a key, model or address that is refused, FAILED_IN_ROW_MAX users
 * given up without a summary between them, a pause of more than an hour, an output that cannot be written, or a signal
 * (ERR_UNAVAILABLE). The figures are filled in in any case. */
int summarize_job(struct summarize_figures *figures, const struct summarize_set *set, struct summary_log *log,
    const struct chat_options *options, size_t retries, bool quiet, struct err *err);

#endif
