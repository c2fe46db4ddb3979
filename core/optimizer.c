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

static double global_norm(const float *grads, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)grads[i] * (double)grads[i];
    return sqrt(sum);
}

static void step_tensor(struct optimizer *o, float *params, const float *grads,
    const struct model_tensor *tensor, double share, double scale)
{
    const struct optimizer_config *c = &o->config;
    const double rate = c->rate * share * (tensor->head ? c->head_factor : 1);
    const double decay = tensor->dims > 1 ? 1 - rate * c->weight_decay : 1;
    const double unbias1 = 1 - pow(c->beta1, (double)o->step),
                 unbias2 = sqrt(1 - pow(c->beta2, (double)o->step));
    const float beta1 = (float)c->beta1, beta2 = (float)c->beta2, gain = (float)(rate / unbias1);
    const float keep = (float)decay, shrink = (float)scale, widen = (float)(1 / unbias2),
                epsilon = (float)c->epsilon;
    for (size_t i = tensor->offset, end = i + tensor->rows * tensor->cols; i < end; i++) {
        const float g = grads[i] * shrink;
        o->first[i] = beta1 * o->first[i] + (1 - beta1) * g;
        o->second[i] = beta2 * o->second[i] + (1 - beta2) * g * g;
        params[i] = params[i] * keep - gain * o->first[i] / (sqrtf(o->second[i]) * widen + epsilon);
    }
}

double optimizer_step(struct optimizer *o, struct model *model, const float *grads)
{
    const double norm = global_norm(grads, model->param_count);
    if (!isfinite(norm))
        return norm;
    const double scale = o->config.clip > 0 && norm > o->config.clip ? o->config.clip / norm : 1;
    const double share = optimizer_schedule(&o->config, ++o->step);
    for (size_t i = 0; i < model->tensor_count; i++)
        step_tensor(o, model->params, grads, &model->tensors[i], share, scale);
    return norm;
}
