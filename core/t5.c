/* What encoder and decoder have in common. */
#include "core/array.h"
#include "core/t5_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int t5_scratch_new(struct t5_scratch **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void t5_scratch_free(struct t5_scratch *s)
{
    if (!s)
        return;
    struct buffer *const all[] = {&s->norm, &s->qkv, &s->context, &s->ffn, &s->gate, &s->scores, &s->bias,
        &s->logits, &s->d_wide, &s->d_gate, &s->d_hidden, &s->d_qkv, &s->d_context, &s->d_bias, &s->d_cross};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->data);
    free(s);
}

int t5_reserve(struct buffer *buffer, size_t need, struct err *err)
{
    if (need <= buffer->size)
        return 0;
    free(buffer->data);
    *buffer = (struct buffer){0};
    buffer->data = array_floats(need, false);
    if (!buffer->data)
        return err_set(err, ERR_NOMEM, "out of memory for %zu floats", need);
    buffer->size = need;
    return 0;
}

size_t t5_bucket(long relative, bool bidirectional, size_t buckets, size_t max_distance)
{
    size_t base = 0;
    if (bidirectional) {
        buckets /= 2;
        if (relative > 0)
            base = buckets;
    } else if (relative > 0) {
        relative = 0;
    }
    const size_t distance = (size_t)labs(relative), exact = buckets / 2;
    if (distance < exact)
        return base + distance;
    /* Logarithmic from exact to max_distance; in float32, as the checkpoints were trained. */
    const float spread = logf((float)distance / (float)exact) /
                         (float)log((double)max_distance / (double)exact) * (float)(buckets - exact);
    const size_t far = exact + (size_t)spread;
    return base + (far < buckets ? far : buckets - 1);
}

static size_t bucket_at(const struct t5_bias *bias, const struct model_config *config, size_t index)
{
    return t5_bucket((long)index - (long)bias->zero, bias->bidirectional, config->relative_buckets,
        config->relative_max_distance);
}

int t5_bias_make(struct t5_bias *out, struct buffer *buffer, const float *weight,
    const struct model_config *config, bool bidirectional, size_t longest, struct err *err)
{
    struct t5_bias bias = {NULL, bidirectional ? 2 * longest - 1 : longest, longest - 1, bidirectional};
    const int result = t5_reserve(buffer, config->heads * bias.span, err);
    if (result < 0)
        return result;
    bias.table = buffer->data;
    for (size_t i = 0; i < bias.span; i++) {
        const size_t bucket = bucket_at(&bias, config, i);
        for (size_t h = 0; h < config->heads; h++)
            bias.table[h * bias.span + i] = weight[bucket * config->heads + h];
    }
    *out = bias;
    return 0;
}

void t5_bias_backward(float *dweight, const struct t5_bias *dbias, const struct model_config *config)
{
    for (size_t i = 0; i < dbias->span; i++) {
        const size_t bucket = bucket_at(dbias, config, i);
        for (size_t h = 0; h < config->heads; h++)
            dweight[bucket * config->heads + h] += dbias->table[h * dbias->span + i];
    }
}

void t5_embed(float *hidden, const struct model *model, const int32_t *ids, size_t count)
{
    const size_t d = model->config.d_model;
    for (size_t i = 0; i < count; i++)
        memcpy(hidden + i * d, model->shared + (size_t)ids[i] * d, d * sizeof *hidden);
}

void t5_embed_backward(
    float *dshared, const float *dhidden, const struct model *model, const int32_t *ids, size_t count)
{
    const size_t d = model->config.d_model;
    for (size_t i = 0; i < count; i++)
        vec_add(dshared + (size_t)ids[i] * d, dhidden + i * d, d);
}
