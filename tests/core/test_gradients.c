/* The small kernels' backward passes against central differences: core/vec, core/poly, core/score_train
 * (tests/lib/differences.h says why the bound holds). Sizes are such that loops run over whole groups of lanes and a rest. */
#include "core/gemm.h"
#include "core/poly.h"
#include "core/score_train.h"
#include "core/vec.h"
#include "tests/lib/differences.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void widen(double *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (double)x[i];
}

static void narrow(float *y, const double *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (float)x[i];
}

/* ---- vec: one tensor x of ROWS x D, or ROWS x 2 D, and what belongs to the kernel ---- */

enum { ROWS = 3, D = 37, ALL = ROWS * D };
static const float epsilon = 1e-2f; /* large enough to matter */

struct vec_case {
    float x[2 * ALL], dx[2 * ALL], weight[D], dweight[D], y[2 * ALL], work[2 * ALL];
    struct vec_dropout dropout;
    float fault; /* factor of the gradient */
};

static void rms_norm_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    vec_rms_norm(c->y, c->x, c->weight, ROWS, D, epsilon);
    widen(y, c->y, ALL);
}

static void rms_norm_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    narrow(c->work, dy, ALL);
    vec_rms_norm_backward(c->dx, c->dweight, c->work, c->x, c->weight, ROWS, D, epsilon);
}

/* softmax(x + bias), row by row, with a bias that all rows share */
static void softmax_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    memcpy(c->y, c->x, ALL * sizeof *c->y);
    for (size_t r = 0; r < ROWS; r++)
        vec_softmax(c->y + r * D, c->weight, D);
    widen(y, c->y, ALL);
}

static void softmax_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    narrow(c->work, dy, ALL);
    for (size_t r = 0; r < ROWS; r++) {
        vec_softmax_backward(c->work + r * D, c->y + r * D, D);
        vec_add_scaled(c->dx + r * D, c->fault, c->work + r * D, D);
        vec_add(c->dweight, c->work + r * D, D);
    }
}

static void relu_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    memcpy(c->y, c->x, ALL * sizeof *c->y);
    vec_relu(c->y, ALL);
    widen(y, c->y, ALL);
}

static void relu_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    narrow(c->work, dy, ALL);
    vec_relu_backward(c->work, c->y, ALL);
    vec_add(c->dx, c->work, ALL);
}

static uint64_t relu_pieces(void *ctx)
{
    const struct vec_case *c = ctx;
    return differences_zeros(c->y, ALL);
}

static void tanh_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    memcpy(c->y, c->x, ALL * sizeof *c->y);
    vec_tanh(c->y, ALL);
    widen(y, c->y, ALL);
}

static void tanh_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    narrow(c->work, dy, ALL);
    vec_tanh_backward(c->work, c->y, ALL);
    vec_add(c->dx, c->work, ALL);
}

static void gated_gelu_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    vec_gated_gelu(c->y, c->x, ROWS, D);
    widen(y, c->y, ALL);
}

static void gated_gelu_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    float dx[2 * ALL];
    narrow(c->work, dy, ALL);
    vec_gated_gelu_backward(dx, c->work, c->x, ROWS, D);
    vec_add(c->dx, dx, 2 * ALL);
}

/* In two calls, as blocks of one tensor are dropped. */
static void drop(struct vec_case *c, float *x)
{
    vec_dropout(x, 50, 1000, &c->dropout);
    vec_dropout(x + 50, ALL - 50, 1050, &c->dropout);
}

static void dropout_forward(void *ctx, double *y)
{
    struct vec_case *c = ctx;
    memcpy(c->y, c->x, ALL * sizeof *c->y);
    drop(c, c->y);
    widen(y, c->y, ALL);
}

static void dropout_backward(void *ctx, const double *dy)
{
    struct vec_case *c = ctx;
    narrow(c->work, dy, ALL);
    drop(c, c->work);
    vec_add(c->dx, c->work, ALL);
}

static void test_vec(void **state)
{
    (void)state;
    static struct vec_case c;
    struct rng rng = rng_seed(1, 0);
    differences_draw(c.x, 2 * ALL, 1, &rng);
    differences_draw(c.weight, D, 1, &rng);
    c.dropout = (struct vec_dropout){0.3f, 9};
    c.fault = 1;
    const struct differences_tensor both[] = {{"x", c.x, c.dx, ALL}, {"weight", c.weight, c.dweight, D}},
                                    wide[] = {{"x", c.x, c.dx, 2 * ALL}};
    const struct differences kernels[] = {
        {"rms_norm", &c, ALL, 2, both, rms_norm_forward, rms_norm_backward, NULL},
        {"softmax", &c, ALL, 2, both, softmax_forward, softmax_backward, NULL},
        {"relu", &c, ALL, 1, both, relu_forward, relu_backward, relu_pieces},
        {"tanh", &c, ALL, 1, both, tanh_forward, tanh_backward, NULL},
        {"gated_gelu", &c, ALL, 1, wide, gated_gelu_forward, gated_gelu_backward, NULL},
        {"dropout", &c, ALL, 1, both, dropout_forward, dropout_backward, NULL},
    };
    for (size_t i = 0; i < COUNT(kernels); i++)
        differences_check(&kernels[i]);

    /* The test of the test: a kernel that is wrong by 1 % in one of its two gradients. */
    c.fault = 1.01f;
    assert_true(differences_error(&kernels[1]) > DIFFERENCES_BOUND);
}

/* ---- poly-attention ---- */

enum { MATRICES = 3, Z_ROWS = 23, CODES = 5, P = 7, WIDTH = 19 };
static const size_t poly_offsets[MATRICES + 1] = {0, 1, 18, Z_ROWS}; /* one row alone has no choice */

struct poly_case {
    float z[Z_ROWS * WIDTH], codes[CODES * P], proj[WIDTH * P], out[MATRICES * CODES * WIDTH];
    float dz[Z_ROWS * WIDTH], dcodes[CODES * P], dproj[WIDTH * P], dout[MATRICES * CODES * WIDTH];
    float *scratch;
};

static void poly_forward(void *ctx, double *y)
{
    struct poly_case *c = ctx;
    poly_attend(c->out, c->z, poly_offsets, MATRICES, c->codes, c->proj, CODES, P, WIDTH, c->scratch);
    widen(y, c->out, COUNT(c->out));
}

static void poly_backward(void *ctx, const double *dy)
{
    struct poly_case *c = ctx;
    narrow(c->dout, dy, COUNT(c->dout));
    poly_attend_backward(c->dz, c->dcodes, c->dproj, c->dout, c->z, poly_offsets, MATRICES, c->codes, c->proj,
        CODES, P, WIDTH, c->scratch);
}

static void mean_forward(void *ctx, double *y)
{
    struct poly_case *c = ctx;
    poly_mean(c->out, c->z, poly_offsets, MATRICES, WIDTH);
    widen(y, c->out, MATRICES * WIDTH);
}

static void mean_backward(void *ctx, const double *dy)
{
    struct poly_case *c = ctx;
    narrow(c->dout, dy, MATRICES * WIDTH);
    poly_mean_backward(c->dz, c->dout, poly_offsets, MATRICES, WIDTH);
}

static void test_poly(void **state)
{
    (void)state;
    static struct poly_case c;
    struct rng rng = rng_seed(2, 0);
    c.scratch = calloc(poly_backward_scratch(poly_offsets, MATRICES, CODES, P), sizeof *c.scratch);
    assert_non_null(c.scratch);
    differences_draw(c.z, COUNT(c.z), 1, &rng);
    differences_draw(c.codes, COUNT(c.codes), 1, &rng);
    differences_draw(c.proj, COUNT(c.proj), 0.3, &rng);
    const struct differences_tensor tensors[] = {{"z", c.z, c.dz, COUNT(c.z)},
        {"codes", c.codes, c.dcodes, COUNT(c.codes)}, {"proj", c.proj, c.dproj, COUNT(c.proj)}};
    differences_check(&(struct differences){
        "poly_attend", &c, COUNT(c.out), 3, tensors, poly_forward, poly_backward, NULL});
    differences_check(&(struct differences){
        "poly_mean", &c, MATRICES * WIDTH, 1, tensors, mean_forward, mean_backward, NULL});
    free(c.scratch);
}

/* ---- the score and L_NCE ---- */

enum { M = 4, N = 3, CONTENTS = 6, USERS = 2, CANDIDATES = 4 };

/* Two users whose candidates overlap; one content is nobody's, and one stands twice among a user's. */
static const uint32_t which[USERS][CANDIDATES] = {{3, 0, 1, 4}, {1, 4, 0, 1}};

struct score_case {
    float a[USERS * M * WIDTH], b[CONTENTS * N * WIDTH], proj[WIDTH * WIDTH], scores[CANDIDATES];
    float da[USERS * M * WIDTH], db[CONTENTS * N * WIDTH], dproj[WIDTH * WIDTH], dscores[CANDIDATES];
    struct score_tape *tape;
};

/* Forward and, with dy, backward, user by user. */
static void run_scores(struct score_case *c, double *y, const double *dy)
{
    assert_int_equal(score_contents(c->tape, c->b, c->proj, N, WIDTH, CONTENTS, NULL), 0);
    for (size_t u = 0; u < USERS; u++) {
        const size_t at = u * CANDIDATES;
        assert_int_equal(
            score_forward(y + at, c->tape, c->a + u * M * WIDTH, M, which[u], CANDIDATES, NULL), 0);
        if (dy)
            score_backward(c->da + u * M * WIDTH, dy + at, c->tape);
    }
    if (dy)
        score_contents_backward(c->db, c->dproj, c->tape);
}

static void scores_forward(void *ctx, double *y)
{
    run_scores(ctx, y, NULL);
}

static void scores_backward(void *ctx, const double *dy)
{
    double y[USERS * CANDIDATES];
    run_scores(ctx, y, dy);
}

/* L_NCE is a function of scores; here they are the tensor. */
static void nce_forward(void *ctx, double *y)
{
    struct score_case *c = ctx;
    double scores[CANDIDATES], ignored[CANDIDATES];
    widen(scores, c->scores, CANDIDATES);
    *y = score_nce(ignored, scores, CANDIDATES);
}

static void nce_backward(void *ctx, const double *dy)
{
    struct score_case *c = ctx;
    double scores[CANDIDATES], dscores[CANDIDATES];
    widen(scores, c->scores, CANDIDATES);
    score_nce(dscores, scores, CANDIDATES);
    for (size_t i = 0; i < CANDIDATES; i++)
        c->dscores[i] += (float)(*dy * dscores[i]);
}

static void test_score(void **state)
{
    (void)state;
    static struct score_case c;
    struct rng rng = rng_seed(3, 0);
    assert_int_equal(score_tape_new(&c.tape, NULL), 0);
    differences_draw(c.a, COUNT(c.a), 0.5, &rng);
    differences_draw(c.b, COUNT(c.b), 1, &rng);
    differences_draw(c.proj, COUNT(c.proj), 0.3, &rng);
    differences_draw(c.scores, COUNT(c.scores), 1, &rng);
    const struct differences_tensor tensors[] = {{"A", c.a, c.da, COUNT(c.a)}, {"B", c.b, c.db, COUNT(c.b)},
        {"W_s", c.proj, c.dproj, COUNT(c.proj)}},
                                    scores[] = {{"scores", c.scores, c.dscores, CANDIDATES}};
    differences_check(&(struct differences){
        "score", &c, USERS * CANDIDATES, 3, tensors, scores_forward, scores_backward, NULL});
    differences_check(&(struct differences){"score_nce", &c, 1, 1, scores, nce_forward, nce_backward, NULL});
    score_tape_free(c.tape);
}

static int setup(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vec), cmocka_unit_test(test_poly), cmocka_unit_test(test_score)};
    return cmocka_run_group_tests_name("gradients", tests, setup, NULL);
}
