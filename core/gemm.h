/* Matrix products in float32, row-major: the one door to OpenBLAS, and to oneDNN where it is wanted and installed.
 *
 * Every caller threads by itself, so a product runs on the calling thread alone. Any number of threads may
 * multiply at once, as long as they are a fixed, small pool (OpenBLAS's buffer table is finite).
 */
#ifndef EMBSUM_CORE_GEMM_H
#define EMBSUM_CORE_GEMM_H

#include "core/err.h"

#include <stddef.h>

/* Which operand is read transposed. */
enum gemm_form {
    GEMM_NN, /* c (m x n) = a (m x k) b (k x n) */
    GEMM_NT, /* c (m x n) = a (m x k) b^T, b (n x k): a linear layer's x W^T */
    GEMM_TN  /* c (m x n) = a^T b, a (k x m), b (k x n): a gradient's x^T dy */
};

/* Set BLAS to one thread and hold one product of odd sizes against gemm_plain. Call once, before any thread
 * multiplies. ERR_CORRUPT if the kernel that BLAS chose for this processor computes wrong results. */
int gemm_init(struct err *err);

/* From now on take oneDNN for float32 products. Call once, before any thread multiplies. ERR_NOT_FOUND where it is not
 * installed or has nothing for this processor, ERR_CORRUPT if it computes wrong results: OpenBLAS goes on then. */
int gemm_use_onednn(struct err *err);

/* The libraries and OpenBLAS's kernel, for the log: "OpenBLAS 0.3.21 Haswell", "oneDNN 2.6.3, OpenBLAS ...". */
const char *gemm_kernel(void);

/* c = a b + beta c, contiguous rows. With beta 0 what c held before is not read. Sizes are below 2^31. */
void gemm(
    enum gemm_form form, float *c, const float *a, const float *b, size_t m, size_t n, size_t k, float beta);

/* The same on parts of larger matrices: lda, ldb, ldc are the floats from one stored row to the next. */
void gemm_part(enum gemm_form form, float *c, size_t ldc, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k, float beta);

/* The same in float64, contiguous, for the few places where float32 sums are too coarse. */
void gemm_f64(enum gemm_form form, double *c, const double *a, const double *b, size_t m, size_t n, size_t k,
    double beta);

/* The plain twin of gemm_part, summed in float64: the judge. */
void gemm_plain(enum gemm_form form, float *c, size_t ldc, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k, float beta);

#endif
