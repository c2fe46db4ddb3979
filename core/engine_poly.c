/* Poly-attention (core/poly.h has the equation) on packed codes and projections. */
#include "core/engine_int.h"
#include "core/vec.h"

#include <string.h>

/* logits (rows x k) = tanh(Z F) C^T */
static int make_logits(struct engine_scratch *s, const struct engine_poly *poly, const float *z, size_t count,
    size_t d, size_t p, size_t k, struct err *err)
{
    const size_t d_stride = linear_stride(LINEAR_F32, d), p_stride = linear_stride(LINEAR_F32, p);
    int result = engine_reserve(&s->poly, ENGINE_ROWS * d_stride, err);
    if (result == 0)
        result = engine_reserve(&s->code, ENGINE_ROWS * p_stride, err);
    if (result == 0)
        result = engine_reserve(&s->logits, 2 * count * k, err);
    if (result < 0)
        return result;
    struct linear_rows states = {(uint32_t *)s->poly.data, d_stride, NULL, false},
                       codes = {(uint32_t *)s->code.data, p_stride, NULL, false};
    for (size_t at = 0; at < count; at += ENGINE_ROWS) {
        const size_t some = count - at < ENGINE_ROWS ? count - at : ENGINE_ROWS;
        linear_convert(&states, poly->proj, z + at * d, d, some);
        linear_apply(
            &(struct linear_out){codes.units, p_stride, LINEAR_SET, false}, poly->proj, &states, some);
        vec_tanh(s->code.data, some * p_stride); /* tanh(0) of the padding is 0 */
        linear_apply(
            &(struct linear_out){s->logits.data + at * k, k, LINEAR_SET, false}, poly->codes, &codes, some);
    }
    return 0;
}

int engine_attend(float *out, float *weights, const struct engine *engine, enum engine_head head,
    const float *z, const size_t *offsets, size_t count, struct engine_scratch *s, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    const size_t d = c->d_model, k = head == ENGINE_USER ? model_m(c) : model_n(c), rows = offsets[count];
    const int result = make_logits(s, &engine->heads[head], z, rows, d, c->code_dim, k, err);
    if (result < 0)
        return result;
    float *own = s->logits.data + rows * k; /* weights of one code beside a matrix's rows */
    memset(out, 0, count * k * d * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        const size_t first = offsets[i], some = offsets[i + 1] - first;
        for (size_t code = 0; code < k; code++) {
            float *const w = weights ? weights + first * k + code * some : own;
            for (size_t r = 0; r < some; r++)
                w[r] = s->logits.data[(first + r) * k + code];
            vec_softmax(w, NULL, some);
            for (size_t r = 0; r < some; r++)
                vec_add_scaled(out + (i * k + code) * d, w[r], z + (first + r) * d, d);
        }
    }
    return 0;
}
