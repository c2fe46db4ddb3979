#include "core/poly.h"

#include "core/gemm.h"
#include "core/vec.h"

#include <math.h>

size_t poly_scratch(const size_t *offsets, size_t count, size_t k, size_t p)
{
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        longest = offsets[i + 1] - offsets[i] > longest ? offsets[i + 1] - offsets[i] : longest;
    return offsets[count] * p + longest * k;
}

void poly_attend(float *out, const float *z, const size_t *offsets, size_t count, const float *codes,
    const float *proj, size_t k, size_t p, size_t d, float *scratch)
{
    const size_t total = offsets[count];
    float *keys = scratch, *weights = keys + total * p;
    gemm(GEMM_NN, keys, z, proj, total, p, d, 0); /* (T,d) (d,p) -> (T,p) */
    for (size_t i = 0; i < total * p; i++)
        keys[i] = tanhf(keys[i]);
    for (size_t i = 0; i < count; i++) {
        const size_t at = offsets[i], rows = offsets[i + 1] - at;
        gemm(GEMM_NT, weights, codes, keys + at * p, k, rows, p, 0); /* (k,p) (L,p)^T -> (k,L) */
        for (size_t c = 0; c < k; c++)
            vec_softmax(weights + c * rows, NULL, rows);
        gemm(GEMM_NN, out + i * k * d, weights, z + at * d, k, d, rows, 0); /* (k,L) (L,d) -> (k,d) */
    }
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
