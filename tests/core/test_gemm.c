/* BLAS against the plain twin, on sizes around its blocks, with strides, with and without beta. */
#include "core/gemm.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *random_matrix(struct rng *rng, size_t count)
{
    float *x = malloc((count + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)rng_normal(rng);
    return x;
}

static void check(enum gemm_form form, size_t m, size_t n, size_t k, size_t pad, float beta, struct rng *rng)
{
    const size_t lda = (form == GEMM_TN ? m : k) + pad, ldb = (form == GEMM_NT ? k : n) + pad, ldc = n + pad;
    const size_t rows_a = form == GEMM_TN ? k : m, rows_b = form == GEMM_NT ? n : k;
    float *a = random_matrix(rng, rows_a * lda), *b = random_matrix(rng, rows_b * ldb),
          *c = random_matrix(rng, m * ldc);
    float *plain = malloc(m * ldc * sizeof *plain);
    memcpy(plain, c, m * ldc * sizeof *plain);
    if (beta == 0)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++)
                c[i * ldc + j] = NAN; /* must not be read */
    gemm_part(form, c, ldc, a, lda, b, ldb, m, n, k, beta);
    gemm_plain(form, plain, ldc, a, lda, b, ldb, m, n, k, beta);
    for (size_t i = 0; i < m * ldc; i++)
        if (!(fabsf(c[i] - plain[i]) <= 2e-6f * sqrtf((float)k) * 4 + 1e-6f))
            fail_msg("form %d, %zu x %zu x %zu, element %zu: %g instead of %g", form, m, n, k, i,
                (double)c[i], (double)plain[i]);
    free(a);
    free(b);
    free(c);
    free(plain);
}

static void test_against_plain(void **state)
{
    (void)state;
    struct rng rng = rng_seed(1, 0);
    static const size_t sizes[] = {1, 2, 3, 7, 8, 16, 31, 33, 64, 130};
    for (enum gemm_form form = GEMM_NN; form <= GEMM_TN; form++)
        for (size_t i = 0; i < test_rounds(300); i++)
            check(form, sizes[rng_next(&rng) % 10], sizes[rng_next(&rng) % 10], sizes[rng_next(&rng) % 10],
                rng_next(&rng) % 3, i % 2 ? 0.0f : 1.0f, &rng);
    check(GEMM_NT, 0, 5, 5, 0, 0, &rng);
    check(GEMM_NT, 70, test_rounds(1600), 512, 0, 0, &rng);
}

/* oneDNN where it is installed (the test set installs it) and wanted, held against the same judge. */
static void test_onednn(void **state)
{
    struct err err = ERR_INIT;
    const char *const wish = getenv("EMBSUM_ONEDNN");
    if (wish && strcmp(wish, "0") == 0) {
        puts("skipped: oneDNN, for EMBSUM_ONEDNN=0");
        skip();
    }
    const int result = gemm_use_onednn(&err);
#if defined __x86_64__
    if (__builtin_cpu_supports("avx2") && result < 0)
        fail_msg("%s", err.message);
#endif
    print_message("%s\n", result == 0 ? gemm_kernel() : err.message);
    test_against_plain(state);
}

static void test_f64(void **state)
{
    (void)state;
    enum { M = 9, N = 11, K = 33 };
    struct rng rng = rng_seed(2, 0);
    double a[M * K], b[K * N], c[M * N];
    for (int i = 0; i < M * K; i++)
        a[i] = rng_normal(&rng);
    for (int i = 0; i < K * N; i++)
        b[i] = rng_normal(&rng);
    gemm_f64(GEMM_NN, c, a, b, M, N, K, 0);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int l = 0; l < K; l++)
                sum += a[i * K + l] * b[l * N + j];
            assert_true(fabs(sum - c[i * N + j]) < 1e-12);
        }
}

static int init(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    return gemm_init(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain), cmocka_unit_test(test_f64), cmocka_unit_test(test_onednn)};
    return cmocka_run_group_tests_name("gemm", tests, init, NULL);
}
