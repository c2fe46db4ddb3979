#include "core/gemm.h"

void gemm_plain(enum gemm_form form, float *c, size_t ldc, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k, float beta)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) {
                const float x = form == GEMM_TN ? a[l * lda + i] : a[i * lda + l];
                const float y = form == GEMM_NT ? b[j * ldb + l] : b[l * ldb + j];
                sum += (double)x * (double)y;
            }
            float *out = &c[i * ldc + j];
            *out = (float)(beta == 0 ? sum : sum + (double)beta * (double)*out);
        }
    }
}
