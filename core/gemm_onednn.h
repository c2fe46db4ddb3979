/* oneDNN's float32 product, where the library is installed. It has kernels for processors that OpenBLAS does not know
 * yet: on an AVX-512 machine with OpenBLAS's Haswell kernel it is twice as fast. */
#ifndef EMBSUM_CORE_GEMM_ONEDNN_H
#define EMBSUM_CORE_GEMM_ONEDNN_H

#include <stddef.h>
#include <stdint.h>

/* dnnl_sgemm of oneDNN's C interface: row-major c = alpha op(a) op(b) + beta c, 0 on success. */
typedef int (*gemm_onednn_sgemm)(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha,
    const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* Load the library, told to stay on the calling thread: sets OMP_NUM_THREADS, so it must be called before other threads
 * run. NULL where it is not installed, or where the processor has no AVX2 (its plain path is slower than OpenBLAS's).
 * version gets "2.6.3", say. */
gemm_onednn_sgemm gemm_onednn_load(char *version, size_t version_size);

#endif
