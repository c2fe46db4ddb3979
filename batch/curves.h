/* The curves of a training run: its losses and its validations over the steps, as a picture. */
#ifndef EMBSUM_BATCH_CURVES_H
#define EMBSUM_BATCH_CURVES_H

#include "core/err.h"

#include <stddef.h>

struct curves {
    struct curves_step {
        double step, loss, nce, sum;
    } * steps;
    size_t step_count, step_size;
    struct curves_validation {
        double step, auc, mrr;
    } * validations;
    size_t validation_count, validation_size;
};

/* Zero-initialised is empty and valid. */
void curves_done(struct curves *curves);

/* Steps come in ascending order. */
int curves_add_step(struct curves *curves, const struct curves_step *step, struct err *err);
int curves_add_validation(struct curves *curves, const struct curves_validation *validation, struct err *err);

/* Write them as SVG: L and L_NCE, L_sum where there is one, AUC and MRR where something was validated. A loss is drawn
 * twice, as it is (means of a few steps where there are many) and smoothed. The file is replaced in one step. */
int curves_write(const struct curves *curves, const char *path, struct err *err);

#endif
