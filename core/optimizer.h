/* Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), two learning rates, gradient
 * clipping by the global norm, warm-up and linear decay.
 */
#ifndef EMBSUM_CORE_OPTIMIZER_H
#define EMBSUM_CORE_OPTIMIZER_H

#include "core/model.h"
#include "core/vec.h"

struct optimizer_config {
    double rate;        /* of T5's parameters at its peak */
    double head_factor; /* EmbSum's own tensors have this times the rate (5 in the paper) */
    double beta1, beta2, epsilon;
    double weight_decay; /* 0: none; norms are never decayed */
    double clip;         /* largest global norm of the gradient; 0: none */
    double warmup;       /* share of the steps in which the rate rises linearly from 0 */
    size_t steps;        /* in all; the rate falls linearly to 0 at the last. 0: constant rate */
};

#define OPTIMIZER_CONFIG_INIT                                                                                \
    {                                                                                                        \
        2e-5, 5, 0.9, 0.999, 1e-8, 0, 1, 0.1, 0                                                              \
    }

struct optimizer {
    struct optimizer_config config;
    float *first, *second; /* moments, laid out like model->params */
    size_t step;           /* steps taken */
    double rate;           /* of the step in hand, and its constants */
    struct vec_adam adam;
};

int optimizer_init(struct optimizer *optimizer, const struct model *model,
    const struct optimizer_config *config, struct err *err);
void optimizer_done(struct optimizer *optimizer);

/* The share of the peak rate at a step (the first is 1). */
double optimizer_schedule(const struct optimizer_config *config, size_t step);

/* One step: begin with the gradient's global norm (before clipping), then apply to the parameters first .. end - 1, in
 * parts if several threads share the work. ERR_CORRUPT if the norm is not finite; no step is taken then. */
int optimizer_begin(struct optimizer *optimizer, double norm, struct err *err);
void optimizer_apply(
    const struct optimizer *optimizer, struct model *model, const float *grads, size_t first, size_t end);

/* The same on one thread, norm included. */
int optimizer_step(
    struct optimizer *optimizer, struct model *model, const float *grads, double *norm, struct err *err);

#endif
