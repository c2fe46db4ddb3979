/* Poly-attention (Humeau et al. 2020, as EmbSum uses it for users and contents, section 2): k codes each look
 * at all rows of Z and return a mean of them.
 *
 *     out = softmax_rows(C tanh(Z F)^T) Z        Z rows x d, C k x p, F d x p, out k x d
 */
#ifndef EMBSUM_CORE_POLY_H
#define EMBSUM_CORE_POLY_H

#include <stddef.h>

/* out (count x k x d) for `count` matrices that lie one behind the other in z: matrix i is the rows
 * offsets[i] .. offsets[i + 1) - 1, at least one. scratch holds poly_scratch() floats. */
void poly_attend(float *out, const float *z, const size_t *offsets, size_t count, const float *codes,
    const float *proj, size_t k, size_t p, size_t d, float *scratch);
size_t poly_scratch(const size_t *offsets, size_t count, size_t k, size_t p);

/* dz +=, dcodes +=, dproj += for dout (count x k x d); the weights are computed again. */
void poly_attend_backward(float *dz, float *dcodes, float *dproj, const float *dout, const float *z,
    const size_t *offsets, size_t count, const float *codes, const float *proj, size_t k, size_t p, size_t d,
    float *scratch);
size_t poly_backward_scratch(const size_t *offsets, size_t count, size_t k, size_t p);

/* out (count x d) = the mean of each matrix's rows: what the ablations put in its place. */
void poly_mean(float *out, const float *z, const size_t *offsets, size_t count, size_t d);

/* dz += for dout (count x d). */
void poly_mean_backward(float *dz, const float *dout, const size_t *offsets, size_t count, size_t d);

#endif
