/* What embsum train and embsum study have in common: the data and the settings of a run on the command line. */
#ifndef EMBSUM_BATCH_TRAIN_ARGS_H
#define EMBSUM_BATCH_TRAIN_ARGS_H

#include "batch/options.h"
#include "batch/train_job.h"

struct train_args {
    const char *news, *behaviors, *summaries, *valid;
    const char *rate, *head_factor, *lambda, *dropout, *warmup, *clip, *decay; /* numbers with a point */
    long batch, micro, shared, epochs, negatives, threads, steps, every, seed, validate_every, valid_limit;
    struct tsv_limit max_bad;
    bool quiet;
};

extern const struct train_args train_args_defaults;

/* Write the rows of the options into a table, after a command's own ones. --valid and --seed, which mean something else
 * to each of them, are not among them. */
enum { TRAIN_ARGS_OPTIONS = 22 };
void train_args_options(struct option rows[TRAIN_ARGS_OPTIONS], struct train_args *args);

/* The options of a job from the arguments, but for the folder. False after a message on stderr. A dropout that was not
 * given is negative: train_args_run() takes the model's. */
bool train_args_check(
    struct train_options *options, const struct train_args *args, const struct ranks *ranks);

/* Train the workspace's model in place, into options->out, which is made if it is missing and gets a copy of the
 * vocabulary. steps (may be NULL): how many steps the whole run has. On all ranks, as train_job(). */
int train_args_run(const struct train_args *args, const struct train_options *options, const char *vocab,
    struct workspace *workspace, struct ranks *ranks, size_t *steps, struct err *err);

#endif
