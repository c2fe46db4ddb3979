#include "core/poly.h"

#include "core/gemm.h"
#include "core/vec.h"

size_t poly_scratch(const size_t *offsets, size_t count, size_t k, size_t p)
{
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        longest = offsets[i + 1] - offsets[i] > longest ? offsets[i + 1] - offsets[i] : longest;
    return offsets[count] * p + longest * k;
}

/* keys (T x p) = tanh(Z F) */
static void make_keys(float *keys, const float *z, const float *proj, size_t total, size_t p, size_t d)
{
    gemm(GEMM_NN, keys, z, proj, total, p, d, 0); /* (T,d) (d,p) -> (T,p) */
    vec_tanh(keys, total * p);
}

/* weights (k x rows) = softmax_rows(C keys^T) */
static void weigh(float *weights, const float *codes, const float *keys, size_t rows, size_t k, size_t p)
{
    gemm(GEMM_NT, weights, codes, keys, k, rows, p, 0); /* (k,p) (L,p)^T -> (k,L) */
    for (size_t c = 0; c < k; c++)
        vec_softmax(weights + c * rows, NULL, rows);
}

void poly_attend(float *out, const float *z, const size_t *offsets, size_t count, const float *codes,
    const float *proj, size_t k, size_t p, size_t d, float *scratch)
{
    const size_t total = offsets[count];
    float *keys = scratch, *weights = keys + total * p;
    make_keys(keys, z, proj, total, p, d);
    for (size_t i = 0; i < count; i++) {
        const size_t at = offsets[i], rows = offsets[i + 1] - at;
        weigh(weights, codes, keys + at * p, rows, k, p);
        gemm(GEMM_NN, out + i * k * d, weights, z + at * d, k, d, rows, 0); /* (k,L) (L,d) -> (k,d) */
    }
}

size_t poly_backward_scratch(const size_t *offsets, size_t count, size_t k, size_t p)
{
    return 2 * poly_scratch(offsets, count, k, p);
}

void poly_attend_backward(float *dz, float *dcodes, float *dproj, const float *dout, const float *z,
    const size_t *offsets, size_t count, const float *codes, const float *proj, size_t k, size_t p, size_t d,
    float *scratch)
{
    const size_t total = offsets[count], half = poly_scratch(offsets, count, k, p);
    float *keys = scratch, *weights = keys + total * p, *dkeys = scratch + half,
          *dweights = dkeys + total * p;
    make_keys(keys, z, proj, total, p, d);
    for (size_t i = 0; i < count; i++) {
        const size_t at = offsets[i], rows = offsets[i + 1] - at;
        const float *dresult = dout + i * k * d;
        weigh(weights, codes, keys + at * p, rows, k, p);
        gemm(GEMM_TN, dz + at * d, weights, dresult, rows, d, k, 1); /* (k,L)^T (k,d) -> (L,d) */
        gemm(GEMM_NT, dweights, dresult, z + at * d, k, rows, d, 0); /* (k,d) (L,d)^T -> (k,L) */
        for (size_t c = 0; c < k; c++)
            vec_softmax_backward(dweights + c * rows, weights + c * rows, rows);
        gemm(GEMM_NN, dcodes, dweights, keys + at * p, k, p, rows, 1); /* (k,L) (L,p) -> (k,p) */
        gemm(GEMM_TN, dkeys + at * p, dweights, codes, rows, p, k, 0); /* (k,L)^T (k,p) -> (L,p) */
    }
    vec_tanh_backward(dkeys, keys, total * p);
    gemm(GEMM_TN, dproj, z, dkeys, d, p, total, 1); /* (T,d)^T (T,p) -> (d,p) */
    gemm(GEMM_NT, dz, dkeys, proj, total, d, p, 1); /* (T,p) (d,p)^T -> (T,d) */
}

void poly_mean(float *out, const float *z, const size_t *offsets, size_t count, size_t d)
{
    for (size_t i = 0; i < count; i++) {
        const size_t rows = offsets[i + 1] - offsets[i];
        for (size_t j = 0; j < d; j++) {
            double sum = 0;
            for (size_t r = offsets[i]; r < offsets[i + 1]; r++)
                sum += (double)z[r * d + j];
            out[i * d + j] = (float)(sum / (double)rows);
        }
    }
}

void poly_mean_backward(float *dz, const float *dout, const size_t *offsets, size_t count, size_t d)
{
    for (size_t i = 0; i < count; i++)
        for (size_t r = offsets[i]; r < offsets[i + 1]; r++)
            vec_add_scaled(dz + r * d, 1.0f / (float)(offsets[i + 1] - offsets[i]), dout + i * d, d);
}
