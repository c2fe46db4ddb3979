/* Elementwise kernels in float32, written so that the compiler vectorises them; the widest version that the
 * processor has is chosen when the program is loaded. Outputs first. */
#ifndef EMBSUM_CORE_VEC_H
#define EMBSUM_CORE_VEC_H

#include <stddef.h>

/* dst[r] = src[r] / sqrt(mean(src[r]^2) + epsilon) * weight, for each row: T5's layer norm, which takes no
 * mean off. dst may be src. */
void vec_rms_norm(float *dst, const float *src, const float *weight, size_t rows, size_t d, float epsilon);

/* x += y */
void vec_add(float *x, const float *y, size_t count);

/* y += alpha x */
void vec_add_scaled(float *y, float alpha, const float *x, size_t count);

/* x = softmax(x + bias); bias may be NULL. */
void vec_softmax(float *x, const float *bias, size_t count);

/* x = max(x, 0) */
void vec_relu(float *x, size_t count);

/* dst (rows x d) = gelu_tanh(src[:, 0:d]) * src[:, d:2d], src rows x 2d: T5 v1.1's gated feed-forward, whose
 * gelu is the tanh approximation (gelu_new). dst must not overlap src. */
void vec_gated_gelu(float *dst, const float *src, size_t rows, size_t d);

/* Index of the largest value, the first among equals. */
size_t vec_argmax(const float *x, size_t count);

#endif
