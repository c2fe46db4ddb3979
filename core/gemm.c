#include "core/gemm.h"

#include "core/gemm_onednn.h"

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

/* Chosen once, before there are threads; read-only from then on. */
static gemm_onednn_sgemm onednn;
static char onednn_version[16];

void gemm_part(enum gemm_form form, float *c, size_t ldc, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k, float beta)
{
    if (!m || !n)
        return;
    if (onednn && onednn(form == GEMM_TN ? 'T' : 'N', form == GEMM_NT ? 'T' : 'N', (int64_t)m, (int64_t)n,
                      (int64_t)k, 1.0f, a, (int64_t)lda, b, (int64_t)ldb, beta, c, (int64_t)ldc) == 0)
        return;
    cblas_sgemm(CblasRowMajor, form == GEMM_TN ? CblasTrans : CblasNoTrans,
        form == GEMM_NT ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a,
        (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

void gemm(
    enum gemm_form form, float *c, const float *a, const float *b, size_t m, size_t n, size_t k, float beta)
{
    gemm_part(form, c, n, a, form == GEMM_TN ? m : k, b, form == GEMM_NT ? k : n, m, n, k, beta);
}

void gemm_f64(enum gemm_form form, double *c, const double *a, const double *b, size_t m, size_t n, size_t k,
    double beta)
{
    if (!m || !n)
        return;
    cblas_dgemm(CblasRowMajor, form == GEMM_TN ? CblasTrans : CblasNoTrans,
        form == GEMM_NT ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0, a,
        (blasint)(form == GEMM_TN ? m : k), b, (blasint)(form == GEMM_NT ? k : n), beta, c, (blasint)n);
}

const char *gemm_kernel(void)
{
    static _Thread_local char name[128];
    /* "OpenBLAS 0.3.21 NO_AFFINITY ..." : the name and the version are what a log needs. */
    char library[32] = "", version[32] = "";
    sscanf(openblas_get_config(), "%31s %31s", library, version);
    snprintf(name, sizeof name, "%s%s%s%s %s %s", onednn ? "oneDNN " : "", onednn ? onednn_version : "",
        onednn ? ", " : "", library, version, openblas_get_corename());
    return name;
}

/* A kernel picked for the wrong processor has been seen to return garbage: ask before trusting it. True if the product
 * in use agrees with the plain one; the first pair that does not in got and want. */
static bool agrees(double *got, double *want)
{
    enum { M = 37, N = 29, K = 65 };
    float a[M * K], b[N * K], fast[M * N], plain[M * N];
    unsigned state = 1;
    for (size_t i = 0; i < M * K; i++)
        a[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1.0f;
    for (size_t i = 0; i < N * K; i++)
        b[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1.0f;
    for (enum gemm_form form = GEMM_NN; form <= GEMM_TN; form++) {
        const size_t lda = form == GEMM_TN ? M : K, ldb = form == GEMM_NT ? K : N;
        gemm_part(form, fast, N, a, lda, b, ldb, M, N, K, 0.0f);
        gemm_plain(form, plain, N, a, lda, b, ldb, M, N, K, 0.0f);
        for (size_t i = 0; i < M * N; i++) {
            *got = (double)fast[i];
            *want = (double)plain[i];
            if (!(fabs(*got - *want) <= 1e-4))
                return false;
        }
    }
    return true;
}

int gemm_init(struct err *err)
{
    double got, want;
    openblas_set_num_threads(1);
    if (agrees(&got, &want))
        return 0;
    return err_set(err, ERR_CORRUPT,
        "the matrix product of %s is wrong on this processor (%g instead of %g); "
        "set OPENBLAS_CORETYPE to another kernel, for example Haswell or Nehalem",
        gemm_kernel(), got, want);
}

int gemm_use_onednn(struct err *err)
{
    double got, want;
    onednn = gemm_onednn_load(onednn_version, sizeof onednn_version);
    if (!onednn)
        return err_set(err, ERR_NOT_FOUND, "oneDNN is not installed, or not for this processor");
    if (agrees(&got, &want))
        return 0;
    onednn = NULL;
    return err_set(err, ERR_CORRUPT,
        "the matrix product of oneDNN %s is wrong on this processor (%g instead of %g)", onednn_version, got,
        want);
}
