/* What only training needs: dropout, the backward twins of core/vec.c, and Adam's step. */
#include "core/vec_int.h"

#include <math.h>

/* A 32-bit mix of the element's index: cheap enough for every attention weight, good enough for a coin. */
static inline uint32_t coin(uint32_t index, uint32_t key)
{
    uint32_t x = index * 0x9E3779B9u ^ key;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return x ^ x >> 16;
}

DISPATCHED void vec_dropout(float *x, size_t count, size_t first, const struct vec_dropout *dropout)
{
    if (dropout->rate <= 0)
        return;
    const uint32_t threshold = (uint32_t)((double)dropout->rate * 0x1p32), start = (uint32_t)first;
    const uint32_t key = (uint32_t)(dropout->key ^ dropout->key >> 32);
    const float scale = 1.0f / (1.0f - dropout->rate);
    for (size_t i = 0; i < count; i++)
        x[i] = coin(start + (uint32_t)i, key) < threshold ? 0.0f : x[i] * scale;
}

DISPATCHED void vec_rms_norm_backward(float *dx, float *dweight, const float *dy, const float *x,
    const float *weight, size_t rows, size_t d, float epsilon)
{
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * d, *dyr = dy + r * d;
        float *dxr = dx + r * d, squares[LANES] = {0}, along[LANES] = {0}, square = 0, dot = 0;
        size_t i = 0;
        for (; i + LANES <= d; i += LANES)
            for (size_t k = 0; k < LANES; k++) {
                squares[k] += xr[i + k] * xr[i + k];
                along[k] += weight[i + k] * dyr[i + k] * xr[i + k];
            }
        for (; i < d; i++) {
            square += xr[i] * xr[i];
            dot += weight[i] * dyr[i] * xr[i];
        }
        for (size_t k = 0; k < LANES; k++) {
            square += squares[k];
            dot += along[k];
        }
        const float scale = 1.0f / sqrtf(square / (float)d + epsilon);
        const float pull = scale * scale * scale * dot / (float)d;
        for (i = 0; i < d; i++) {
            dxr[i] += weight[i] * dyr[i] * scale - xr[i] * pull;
            dweight[i] += dyr[i] * xr[i] * scale;
        }
    }
}

DISPATCHED void vec_softmax_backward(float *dy, const float *y, size_t count)
{
    float lane[LANES] = {0}, dot = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += dy[i + k] * y[i + k];
    for (; i < count; i++)
        dot += dy[i] * y[i];
    for (size_t k = 0; k < LANES; k++)
        dot += lane[k];
    for (i = 0; i < count; i++)
        dy[i] = y[i] * (dy[i] - dot);
}

DISPATCHED void vec_tanh_backward(float *dy, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dy[i] *= 1.0f - y[i] * y[i];
}

DISPATCHED void vec_relu_backward(float *dy, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dy[i] = y[i] > 0 ? dy[i] : 0;
}

DISPATCHED void vec_gated_gelu_backward(float *dx, const float *dy, const float *x, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++) {
        const float *gate = x + r * 2 * d, *linear = gate + d, *dyr = dy + r * d;
        float *dgate = dx + r * 2 * d, *dlinear = dgate + d;
        for (size_t i = 0; i < d; i++) {
            /* gelu(g) = g s, s = 1 / (1 + e^-u); ds/dg = s (1 - s) du/dg */
            const float g = gate[i], u = 1.595769122f * (g + 0.044715f * g * g * g);
            const float e = exp_negative(u > 0 ? -u : u);
            const float s = u > 0 ? 1.0f / (1.0f + e) : e / (1.0f + e);
            const float du = 1.595769122f * (1.0f + 0.134145f * g * g);
            dlinear[i] = dyr[i] * g * s;
            dgate[i] = dyr[i] * linear[i] * (s + g * s * (1.0f - s) * du);
        }
    }
}

DISPATCHED void vec_adam(
    float *params, float *first, float *second, const float *grads, size_t count, const struct vec_adam *adam)
{
    const struct vec_adam c = *adam;
    const float gain = c.rate * c.unbias1;
    for (size_t i = 0; i < count; i++) {
        const float g = grads[i] * c.shrink;
        const float one = c.beta1 * first[i] + (1 - c.beta1) * g,
                    two = c.beta2 * second[i] + (1 - c.beta2) * g * g;
        first[i] = one;
        second[i] = two;
        params[i] = params[i] * c.keep - gain * one / (sqrtf(two) * c.unbias2 + c.epsilon);
    }
}
