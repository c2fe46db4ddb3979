/* Validation while a model is trained: MIND's metrics on held-out impressions, and the best model by their AUC in a folder
 * of its own, OUT/best. Nothing of it changes the course of the training. */
#ifndef EMBSUM_BATCH_VALIDATION_H
#define EMBSUM_BATCH_VALIDATION_H

#include "batch/eval_job.h"

struct validation_options {
    const char *path; /* behaviors.tsv with labels; NULL: there are no validations */
    size_t every;     /* steps, and after the last one; 0: ten times a run */
    size_t limit;     /* the first so many impressions; 0: all */
    struct tsv_limit max_bad;
};

/* What a checkpoint keeps. */
struct validation_state {
    size_t step;      /* of the newest validation; 0: none yet */
    size_t best_step; /* of the best one; 0: none yet */
    double best_auc;
};

/* Read the impressions once, before hours of training: ERR_INVALID where the file is not what it should be, or holds none
 * with a positive and a negative. Bad rows are told unless quiet. */
int validation_check(
    const struct workspace *workspace, const struct validation_options *options, bool quiet, struct err *err);

/* Is there one to do after this step, of `steps` in all? */
bool validation_due(const struct validation_options *options, const struct validation_state *state,
    size_t step, size_t steps);

/* Rank the impressions with the workspace's model as it is after `step`, and where its AUC is higher than all before,
 * keep it in OUT/best, whole at any time. ERR_UNAVAILABLE after a signal. Then and at any failure the state is as it was. */
int validation_run(struct validation_state *state, struct eval_result *out, const struct workspace *workspace,
    const struct validation_options *options, const char *out_dir, size_t step, size_t threads,
    struct err *err);

/* A run begins anew: the best model of another one is removed, so that it is not taken for this one's. */
int validation_clear(const char *out_dir, struct err *err);

#endif
