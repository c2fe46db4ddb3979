/* The runs of a study: each is trained, evaluated and remembered in a folder of its own, DIR/runs/NAME.
 *
 * The folder is a model directory with the run's train.jsonl, curves.svg and, once it was evaluated, result.json. A run with
 * a result is not done again, one without goes on from its checkpoint; either only if data and settings are the same, which
 * result.json and the checkpoint tell.
 */
#ifndef EMBSUM_BATCH_STUDY_RUN_H
#define EMBSUM_BATCH_STUDY_RUN_H

#include "batch/study_grid.h"
#include "batch/train_args.h"

struct study_result {
    bool done;
    struct eval_result eval;
    size_t parameters, steps;
};

struct study {
    const struct train_args *args;
    struct ranks *ranks;                 /* one */
    const struct train_options *options; /* out, seed, label and following are set for each run */
    const char *start;                   /* a model to start from; NULL: random weights */
    const char *config_path, *vocab, *dir;
    char *config_text; /* of the base */
    size_t config_len;
    uint64_t data; /* hash of all files that the runs read */
    struct study_grid grid;
    struct study_result *results; /* variant_count x seed_count */
    struct workspace workspace;   /* opened by the first run that needs it */
    bool opened;
};

static inline struct study_result *study_result(const struct study *study, size_t variant, size_t seed)
{
    return &study->results[variant * study->grid.seed_count + seed];
}

/* Hash the files. */
int study_data(struct study *study, struct err *err);

/* Where a start model is given: does every variant of the grid fit it? */
int study_check_start(const struct study *study, struct err *err);

/* Read what an earlier process left of a run: the result is done if it had finished. ERR_INVALID if it is another run's. */
int study_recall(struct study *study, size_t variant, size_t seed, struct err *err);

/* Train and evaluate one run. label names it beside its bar, `following` runs come after it. ERR_UNAVAILABLE after SIGINT
 * or SIGTERM: its checkpoint is there to go on from. */
int study_run(
    struct study *study, size_t variant, size_t seed, const char *label, size_t following, struct err *err);

#endif
