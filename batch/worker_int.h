/* What the files of batch/worker.h share. */
#ifndef EMBSUM_BATCH_WORKER_INT_H
#define EMBSUM_BATCH_WORKER_INT_H

#include "batch/unit.h"
#include "batch/workspace.h"

/* ---- worker_unit.c: one unit, from tokens to what is stored ---- */

/* One thread's. Zeroed but for what is given it. */
struct worker_hands {
    const struct workspace *workspace; /* a model and its vocabulary */
    struct encoder *encoder;
    struct store_link *link;
    struct unit_refusal *refused; /* of the last unit; the reasons are copies, the ids the unit's */
    size_t refused_count;
    char written[STORE_GENERATION_MAX]; /* where it has written last, "": nowhere */
    double written_at;                  /* progress_now() */
    bool waiting;                       /* for a store that does not answer; it has been told */
};

/* After a call of the store: is it to be tried again? Then some time has passed, and the failure was told. */
bool worker_again(struct worker_hands *hands, int result, const struct err *err);

/* Encode a unit that fits the model and store its matrices, those that are fit for it. *tokens went through the encoder.
 * ERR_NOT_FOUND: the generation is gone, and nothing is left of it here. */
int worker_unit(struct worker_hands *hands, const struct unit *unit, size_t *tokens, struct err *err);
void worker_forget_refused(struct worker_hands *hands);
/* None of it: it is not tried. */
int worker_refuse(struct worker_hands *hands, const struct unit *unit, const char *why, struct err *err);

/* What was written into a generation that is dropped meanwhile, or soon after, would be there for ever: delete it. Call it
 * now and then. */
int worker_tidy(struct worker_hands *hands, struct err *err);

#endif
