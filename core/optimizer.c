#include "core/optimizer.h"

#include <math.h>
#include <stdlib.h>

int optimizer_init(struct optimizer *optimizer, const struct model *model,
    const struct optimizer_config *config, struct err *err)
{
    struct optimizer fresh = {.config = *config};
    fresh.first = calloc(model->param_count, sizeof *fresh.first);
    fresh.second = calloc(model->param_count, sizeof *fresh.second);
    if (!fresh.first || !fresh.second) {
        optimizer_done(&fresh);
        return err_set(err, ERR_NOMEM, "out of memory for the optimizer");
    }
    *optimizer = fresh;
    return 0;
}

void optimizer_done(struct optimizer *optimizer)
{
    free(optimizer->first);
    free(optimizer->second);
    optimizer->first = optimizer->second = NULL;
}

double optimizer_schedule(const struct optimizer_config *config, size_t step)
{
    if (!config->steps)
        return 1;
    const double rise = config->warmup * (double)config->steps, at = (double)step;
    if (at < rise)
        return at / rise;
    const double left = (double)config->steps - at + 1, fall = (double)config->steps - rise;
    return left <= 0 ? 0 : fmin(1, left / fall);
}

int optimizer_begin(struct optimizer *o, double norm, struct err *err)
{
    const struct optimizer_config *c = &o->config;
    if (!isfinite(norm))
        return err_set(err, ERR_CORRUPT, "the gradient is not finite");
    const double share = optimizer_schedule(c, ++o->step);
    const double unbias1 = 1 - pow(c->beta1, (double)o->step), unbias2 = 1 - pow(c->beta2, (double)o->step);
    o->rate = c->rate * share;
    o->adam = (struct vec_adam){.beta1 = (float)c->beta1,
        .beta2 = (float)c->beta2,
        .epsilon = (float)c->epsilon,
        .shrink = (float)(c->clip > 0 && norm > c->clip ? c->clip / norm : 1),
        .unbias1 = (float)(1 / unbias1),
        .unbias2 = (float)(1 / sqrt(unbias2))};
    return 0;
}

void optimizer_apply(
    const struct optimizer *o, struct model *model, const float *grads, size_t first, size_t end)
{
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        const size_t tensor_end = tensor->offset + tensor->rows * tensor->cols;
        const size_t from = tensor->offset > first ? tensor->offset : first,
                     to = tensor_end < end ? tensor_end : end;
        if (from >= to)
            continue;
        const double rate = o->rate * (tensor->head ? o->config.head_factor : 1);
        struct vec_adam adam = o->adam;
        adam.rate = (float)rate;
        adam.keep = tensor->dims > 1 ? (float)(1 - rate * o->config.weight_decay) : 1.0f;
        vec_adam(model->params + from, o->first + from, o->second + from, grads + from, to - from, &adam);
    }
}

int optimizer_step(
    struct optimizer *o, struct model *model, const float *grads, double *norm, struct err *err)
{
    *norm = sqrt(vec_square_sum(grads, model->param_count));
    const int result = optimizer_begin(o, *norm, err);
    if (result == 0)
        optimizer_apply(o, model, grads, 0, model->param_count);
    return result;
}
