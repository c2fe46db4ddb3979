/* train.jsonl of a training run, and curves.svg drawn from it: a line a step and a line a validation, in their order.
 *
 *     {"step":500,"epoch":0,"loss":...,"nce":...,"sum":...,...}
 *     {"step":500,"validation":{"impressions":...,"skipped":...,"auc":...,...},"best":true}
 */
#ifndef EMBSUM_BATCH_TRAIN_LOG_H
#define EMBSUM_BATCH_TRAIN_LOG_H

#include "batch/curves.h"
#include "batch/eval_job.h"
#include "batch/validation.h"

struct train_log {
    FILE *stream;
    const char *dir;
    struct curves curves;
};

/* The figures of one step. */
struct train_log_step {
    size_t step, epoch;
    double loss, nce, sum, norm, rate;
    size_t tokens, encoded;
    double tokens_per_second;
};

/* Open dir/train.jsonl with what belongs to a run that has come to `step` and has validated up to `validated`; lines
 * behind those, of a process that was killed, are cut off. Step 0 begins a new file. */
int train_log_open(struct train_log *log, const char *dir, size_t step, size_t validated, struct err *err);
void train_log_close(struct train_log *log);

int train_log_step(struct train_log *log, const struct train_log_step *step, struct err *err);
int train_log_validation(struct train_log *log, const struct validation_state *state,
    const struct eval_result *result, struct err *err);

/* Write dir/curves.svg. */
int train_log_draw(const struct train_log *log, struct err *err);

#endif
