/* The training loop: batches over threads and ranks, one step of Adam for each, progress, checkpoints. */
#ifndef EMBSUM_BATCH_TRAIN_JOB_H
#define EMBSUM_BATCH_TRAIN_JOB_H

#include "batch/train_step.h"
#include "batch/validation.h"

struct train_options {
    struct optimizer_config adam;   /* steps is filled in by the job */
    struct train_step_options step; /* the workers' numbers are filled in by the job */
    size_t batch, epochs;
    size_t max_steps;        /* 0: as the epochs ask */
    size_t checkpoint_every; /* steps */
    struct validation_options validation;
    const char *out;   /* the folder of the trained model; it has the vocabulary already */
    const char *label; /* what the run is called beside its bar; NULL: "steps" */
    size_t following;  /* runs like this one that come after it: for the time that is left */
    bool resume, quiet;
};

/* The steps of a run with so many examples. */
size_t train_job_steps(const struct train_options *options, size_t examples);

/* Train the workspace's model in place. Every checkpoint and the end write OUT/model.safetensors, OUT/config.json and
 * OUT/train.safetensors; OUT/train.jsonl gets a line a step and a line a validation, which OUT/curves.svg is drawn from
 * at every checkpoint and every validation (batch/validation.h). SIGINT and SIGTERM end after the step in hand, with a
 * checkpoint, and ERR_UNAVAILABLE. The same seed and the same numbers of ranks and threads give the same model, bit for bit,
 * however often the run was stopped and resumed. With other numbers the sums round differently, and no more than that; a
 * run may be resumed with them.
 *
 * All ranks call it with the same data and options, and return the same result. Rank 0 alone reads and writes OUT. */
int train_job(struct workspace *workspace, const struct train_set *set, const struct train_options *options,
    struct ranks *ranks, struct err *err);

#endif
