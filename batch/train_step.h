/* One step of training: the gradient of a batch over the threads of all ranks, then Adam on each of them. */
#ifndef EMBSUM_BATCH_TRAIN_STEP_H
#define EMBSUM_BATCH_TRAIN_STEP_H

#include "batch/ranks.h"
#include "batch/train_set.h"
#include "core/optimizer.h"

struct train_step_options {
    double lambda, dropout;
    size_t micro_batch; /* examples whose activations are in memory at once, in each thread */
    size_t negatives, shared_negatives;
    size_t threads;               /* this rank's workers */
    size_t first_worker, workers; /* the place of these among the workers of all ranks */
    uint64_t seed;
};

struct train_step;
int train_step_new(struct train_step **out, struct model *model, const struct train_set *set,
    struct optimizer *optimizer, const struct train_step_options *options, struct ranks *ranks,
    struct err *err);
void train_step_free(struct train_step *step);

/* Train on the examples examples[0 .. count), drawing negatives and dropout for this epoch: the mean of their losses in
 * *loss, the gradient's norm before clipping in *norm. A gradient that is not finite is an error and is not applied.
 *
 * All ranks call it with the same arguments, and their models and optimizers stay the same bit by bit: each applies the
 * same sum. The batch is cut into micro-batches of consecutive examples, and of the W workers of all ranks worker w takes
 * every W-th of them: who computes what, and in which order it is summed, is fixed by the batch and the numbers of ranks
 * and workers alone. An error of one rank is returned by all of them. */
int train_step_run(struct train_step *step, const uint32_t *examples, size_t count, size_t epoch,
    struct train_loss *loss, double *norm, struct err *err);

#endif
