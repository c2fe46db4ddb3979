#include "core/vec_int.h"

#include <math.h>

DISPATCHED void vec_rms_norm(
    float *dst, const float *src, const float *weight, size_t rows, size_t d, float epsilon)
{
    for (size_t r = 0; r < rows; r++) {
        const float *x = src + r * d;
        float *y = dst + r * d, lane[LANES] = {0}, sum = 0;
        size_t i = 0;
        for (; i + LANES <= d; i += LANES)
            for (size_t k = 0; k < LANES; k++)
                lane[k] += x[i + k] * x[i + k];
        for (; i < d; i++)
            sum += x[i] * x[i];
        for (size_t k = 0; k < LANES; k++)
            sum += lane[k];
        const float scale = 1.0f / sqrtf(sum / (float)d + epsilon);
        for (i = 0; i < d; i++)
            y[i] = weight[i] * (x[i] * scale);
    }
}

DISPATCHED void vec_add(float *x, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += y[i];
}

DISPATCHED void vec_add_scaled(float *y, float alpha, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] += alpha * x[i];
}

/* 16 floats of any alignment. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

DISPATCHED void vec_combine(
    float *y, const float *weights, const float *rows, size_t stride, size_t count, size_t width)
{
    size_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES) { /* four sums, so that none waits for itself */
        lanes a = {0}, b = {0}, c = {0}, d = {0};
        const float *row = rows + i;
        for (size_t k = 0; k < count; k++, row += stride) {
            a += weights[k] * *(const lanes *)row;
            b += weights[k] * *(const lanes *)(row + LANES);
            c += weights[k] * *(const lanes *)(row + 2 * LANES);
            d += weights[k] * *(const lanes *)(row + 3 * LANES);
        }
        *(lanes *)(y + i) = a;
        *(lanes *)(y + i + LANES) = b;
        *(lanes *)(y + i + 2 * LANES) = c;
        *(lanes *)(y + i + 3 * LANES) = d;
    }
    for (; i + LANES <= width; i += LANES) {
        lanes a = {0}, b = {0};
        size_t k = 0;
        for (; k + 2 <= count; k += 2) {
            a += weights[k] * *(const lanes *)(rows + k * stride + i);
            b += weights[k + 1] * *(const lanes *)(rows + (k + 1) * stride + i);
        }
        if (k < count)
            a += weights[k] * *(const lanes *)(rows + k * stride + i);
        *(lanes *)(y + i) = a + b;
    }
    for (; i < width; i++) {
        y[i] = 0;
        for (size_t k = 0; k < count; k++)
            y[i] += weights[k] * rows[k * stride + i];
    }
}

/* The largest of x + bias, which is left in x. */
static inline float add_and_max(float *x, const float *bias, size_t count)
{
    float lane[LANES], top = -INFINITY;
    for (size_t k = 0; k < LANES; k++)
        lane[k] = -INFINITY;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            x[i + k] += bias ? bias[i + k] : 0;
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
        }
    for (; i < count; i++) {
        x[i] += bias ? bias[i] : 0;
        top = x[i] > top ? x[i] : top;
    }
    for (size_t k = 0; k < LANES; k++)
        top = lane[k] > top ? lane[k] : top;
    return top;
}

DISPATCHED void vec_softmax(float *x, const float *bias, size_t count)
{
    const float top = bias ? add_and_max(x, bias, count) : add_and_max(x, NULL, count);
    float lane[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += x[i + k] = exp_negative(x[i + k] - top);
    for (; i < count; i++)
        sum += x[i] = exp_negative(x[i] - top);
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    const float scale = 1.0f / sum;
    for (i = 0; i < count; i++)
        x[i] *= scale;
}

DISPATCHED void vec_tanh(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* (1 - e^-2|x|) / (1 + e^-2|x|), and where that cancels, the series up to x^9 */
        const float a = fabsf(x[i]), s = a * a, e = exp_negative(-2.0f * a), far = (1.0f - e) / (1.0f + e);
        const float near =
            a + a * s * (-1.0f / 3 + s * (2.0f / 15 + s * (-17.0f / 315 + s * (62.0f / 2835))));
        x[i] = copysignf(a < 0.25f ? near : far, x[i]);
    }
}

DISPATCHED double vec_square_sum(const float *x, size_t count)
{
    double total = 0;
    for (size_t at = 0; at < count;) {
        const size_t end = count - at < 4096 ? count : at + 4096;
        float lane[LANES] = {0}, sum = 0;
        for (; at + LANES <= end; at += LANES)
            for (size_t k = 0; k < LANES; k++)
                lane[k] += x[at + k] * x[at + k];
        for (; at < end; at++)
            sum += x[at] * x[at];
        for (size_t k = 0; k < LANES; k++)
            sum += lane[k];
        total += (double)sum;
    }
    return total;
}

DISPATCHED void vec_relu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] > 0 ? x[i] : 0;
}

DISPATCHED void vec_gated_gelu(float *dst, const float *src, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++) {
        const float *gate = src + r * 2 * d, *linear = gate + d;
        float *out = dst + r * d;
        for (size_t i = 0; i < d; i++) {
            /* gelu_new(x) = x/2 (1 + tanh u) = x / (1 + e^-2u); e of a positive number is 1 / e of its
             * negative */
            const float x = gate[i], u = 1.595769122f * (x + 0.044715f * x * x * x); /* 2 sqrt(2/pi) (...) */
            const float e = exp_negative(u > 0 ? -u : u);
            out[i] = (u > 0 ? x / (1.0f + e) : x * e / (1.0f + e)) * linear[i];
        }
    }
}

DISPATCHED size_t vec_argmax(const float *x, size_t count)
{
    float lane[LANES], top = -INFINITY;
    for (size_t k = 0; k < LANES; k++)
        lane[k] = -INFINITY;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (; i < count; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t k = 0; k < LANES; k++)
        top = lane[k] > top ? lane[k] : top;
    for (i = 0; i < count; i++) /* which one it was is found sooner than carried along */
        if (x[i] == top)
            return i;
    return 0;
}
