/* Elementwise kernels in float32, written so that the compiler vectorises them; the widest version that the
 * processor has is chosen when the program is loaded. Outputs first. */
#ifndef EMBSUM_CORE_VEC_H
#define EMBSUM_CORE_VEC_H

#include <stddef.h>
#include <stdint.h>

/* dst[r] = src[r] / sqrt(mean(src[r]^2) + epsilon) * weight, for each row: T5's layer norm, which takes no
 * mean off. dst may be src. */
void vec_rms_norm(float *dst, const float *src, const float *weight, size_t rows, size_t d, float epsilon);

/* x += y */
void vec_add(float *x, const float *y, size_t count);

/* y += alpha x */
void vec_add_scaled(float *y, float alpha, const float *x, size_t count);

/* y (width) = the sum of weights[k] times row k of `count` rows that lie `stride` floats apart: a product with a single row,
 * which BLAS would spend on packing. y must not overlap the others. */
void vec_combine(
    float *y, const float *weights, const float *rows, size_t stride, size_t count, size_t width);

/* x = softmax(x + bias); bias may be NULL. */
void vec_softmax(float *x, const float *bias, size_t count);

/* x = tanh(x), to 2 ulp or so */
void vec_tanh(float *x, size_t count);

/* x = max(x, 0) */
void vec_relu(float *x, size_t count);

/* dst (rows x d) = gelu_tanh(src[:, 0:d]) * src[:, d:2d], src rows x 2d: T5 v1.1's gated feed-forward, whose
 * gelu is the tanh approximation (gelu_new). dst must not overlap src. */
void vec_gated_gelu(float *dst, const float *src, size_t rows, size_t d);

/* Dropout: x[i] = x[i] / (1 - rate) or, with probability rate, 0. Whether element `first` + i is kept is a function of
 * the key and its index alone, so the backward pass applies the same call to the gradient. rate 0 leaves x as it is. */
struct vec_dropout {
    float rate;
    uint64_t key;
};
void vec_dropout(float *x, size_t count, size_t first, const struct vec_dropout *dropout);

/* The sum of squares, each block of 4,096 in float32 lanes, the blocks in float64: for a gradient's norm. */
double vec_square_sum(const float *x, size_t count);

/* ---- backward twins: d is the gradient of what follows ---- */

/* dx += and dweight += for y = rms_norm(x) and dy. dx, x, dy are rows x d. */
void vec_rms_norm_backward(float *dx, float *dweight, const float *dy, const float *x, const float *weight,
    size_t rows, size_t d, float epsilon);

/* dy becomes dx, for y = softmax(x). */
void vec_softmax_backward(float *dy, const float *y, size_t count);

/* dy becomes dx, for y = tanh(x). */
void vec_tanh_backward(float *dy, const float *y, size_t count);

/* dy becomes dx, for y = relu(x). */
void vec_relu_backward(float *dy, const float *y, size_t count);

/* dx (rows x 2d) for y = gated_gelu(x) and dy (rows x d). */
void vec_gated_gelu_backward(float *dx, const float *dy, const float *x, size_t rows, size_t d);

/* One step of Adam: g = shrink grads; first and second are its moments' running means; params = keep params - rate x
 * first unbias1 / (sqrt(second) unbias2 + epsilon). */
struct vec_adam {
    float rate, keep, beta1, beta2, epsilon, shrink, unbias1, unbias2;
};
void vec_adam(float *params, float *first, float *second, const float *grads, size_t count,
    const struct vec_adam *adam);

/* Index of the largest value, the first among equals. */
size_t vec_argmax(const float *x, size_t count);

#endif
