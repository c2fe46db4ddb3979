/* Do the kernels that were chosen for this processor compute what the plain ones do? The tests hold them to their last bits;
 * here it is asked whether this processor, this virtual machine, this build of a library can be trusted at all. */
#include "batch/doctor.h"

#include "core/array.h"
#include "core/attention.h"
#include "core/cross.h"
#include "core/gemm.h"
#include "core/half.h"
#include "core/linear.h"
#include "core/rng.h"
#include "core/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that fill neither vectors nor tiles. */
enum { M = 5, N = 3, D = 70, CONTENTS = 9, OUTPUTS = 37, ROWS = 7, LENGTH = 19, HEADS = 3 };

bool doctor_agree(const float *fast, const float *plain, size_t count, double tolerance)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)fast[i] - (double)plain[i], 2);
        norm += pow((double)plain[i], 2);
    }
    return sqrt(difference) <= tolerance * sqrt(norm);
}

static void draw(float *out, size_t count, double deviation, uint64_t seed)
{
    struct rng rng = rng_seed(seed, 0);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(deviation * rng_normal(&rng));
}

/* What is told of the kernels of one part. */
struct part {
    struct doctor *doctor;
    const char *check, *what, *todo;
    size_t checked, wrong;
    char chosen[160];
};

static void note(struct part *part, const char *dtype, const char *kernel, bool good)
{
    part->checked++;
    if (good)
        return;
    part->wrong++;
    doctor_tell(part->doctor, FINDING_ERROR, part->check, part->todo,
        "%s in %s: the kernel %s does not compute what the plain one does", part->what, dtype, kernel);
}

static void choose(struct part *part, const char *dtype, const char *kernel)
{
    const size_t len = strlen(part->chosen);
    snprintf(part->chosen + len, sizeof part->chosen - len, "%s%s %s", len ? ", " : "", dtype, kernel);
}

static void finish(const struct part *part)
{
    if (!part->wrong)
        doctor_tell(part->doctor, FINDING_OK, part->check, NULL,
            "%s: %s; %zu fast kernels agree with the plain ones", part->what, part->chosen, part->checked);
}

static void *aligned(size_t bytes)
{
    void *const at = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (at)
        memset(at, 0, bytes);
    return at;
}

/* ---- scoring ---- */

/* Scores of CONTENTS contents, and the gates of the first. False: no such kernel, or no memory. */
static bool score(float scores[CONTENTS], float gates[N * D], enum scorer_dtype dtype, const char *kernel)
{
    static const double wide = 0.4;
    float a[M * D], b[CONTENTS * N * D], proj[D * D];
    struct scorer *scorer = NULL;
    if (scorer_new(&scorer, dtype, kernel, M, N, D, NULL) < 0)
        return false;
    draw(a, M * D, wide, 1);
    draw(b, CONTENTS * N * D, wide, 2);
    draw(proj, D * D, 1 / sqrt(D), 3);
    const size_t bytes = scorer_content_bytes(scorer);
    void *const packed_proj = aligned(scorer_proj_bytes(scorer)), *const user =
                                                                      aligned(scorer_user_bytes(scorer));
    char *const contents = aligned(CONTENTS * bytes);
    const bool room = packed_proj && user && contents;
    if (room) {
        const void *blocks[CONTENTS];
        scorer_pack_proj(scorer, packed_proj, proj);
        scorer_pack_user(scorer, user, a);
        scorer_gate(scorer, gates, packed_proj, b, N);
        for (size_t i = 0; i < CONTENTS; i++) { /* any numbers do for gates */
            blocks[i] = contents + i * bytes;
            scorer_pack_content(scorer, contents + i * bytes, b + i * N * D, b + (CONTENTS - 1 - i) * N * D);
        }
        scorer_run(scorer, scores, (const void *const *)&user, 1, blocks, CONTENTS);
    }
    free(packed_proj);
    free(user);
    free(contents);
    scorer_free(scorer);
    return room;
}

static void check_scoring(struct doctor *doctor)
{
    struct part part = {.doctor = doctor,
        .check = "kernels.scoring",
        .what = "scoring",
        .todo = "Set scoring.kernel to one that is not named here, and tell what processor this is."};
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
        float plain[CONTENTS], plain_gates[N * D];
        struct scorer *scorer = NULL;
        if (!score(plain, plain_gates, dtype, "plain") || scorer_new(&scorer, dtype, NULL, M, N, D, NULL) < 0)
            continue;
        choose(&part, scorer_dtype_name(dtype), scorer_kernel(scorer));
        scorer_free(scorer);
        for (size_t i = 1; scorer_kernel_name(i); i++) {
            float fast[CONTENTS], gates[N * D];
            if (scorer_kernel_runs(i, dtype) && score(fast, gates, dtype, scorer_kernel_name(i)))
                note(&part, scorer_dtype_name(dtype), scorer_kernel_name(i),
                    doctor_agree(fast, plain, CONTENTS, 1e-3) &&
                        doctor_agree(gates, plain_gates, N * D, 1e-2));
        }
    }
    finish(&part);
}

/* ---- encoding: products and self-attention ---- */

static bool multiply(float y[ROWS * OUTPUTS], enum linear_dtype dtype, const char *kernel)
{
    float weights[OUTPUTS * D], x[ROWS * D];
    const struct linear_weight weight = {weights, OUTPUTS, D, D, 1};
    struct linear *linear = NULL;
    draw(weights, OUTPUTS * D, 1, 4);
    draw(x, ROWS * D, 1, 5);
    if (linear_new(&linear, dtype, kernel, &weight, NULL) < 0)
        return false;
    const size_t stride = linear_stride(dtype, D);
    float *const units = array_floats(ROWS * stride, true), *const scales = array_floats(ROWS, true);
    if (units && scales) {
        struct linear_rows rows = {(uint32_t *)units, stride, scales, false};
        const struct linear_out out = {y, OUTPUTS, LINEAR_SET, false};
        linear_convert(&rows, linear, x, D, ROWS);
        linear_apply(&out, linear, &rows, ROWS);
    }
    const bool room = units && scales;
    free(units);
    free(scales);
    linear_free(linear);
    return room;
}

static bool attend(float context[LENGTH * D], bool bf16, const char *kernel)
{
    enum { STRIDE = 3 * D };
    float qkv[LENGTH * STRIDE], bias[2 * LENGTH + ATTENTION_PAD];
    uint16_t halves[LENGTH * STRIDE];
    bool got;
    draw(qkv, LENGTH * STRIDE, 0.3, 6);
    draw(bias, sizeof bias / sizeof *bias, 1, 7);
    for (size_t i = 0; i < LENGTH * STRIDE; i++)
        halves[i] = f32_to_bf16(qkv[i]);
    struct attention attention = {
        LENGTH, D, qkv, qkv + D, qkv + 2 * D, STRIDE, bias + LENGTH - 1, context, D};
    if (bf16) {
        attention.q = halves;
        attention.k = halves + D;
        attention.v = halves + 2 * D;
    }
    void *const scratch = aligned(attention_scratch(LENGTH, D));
    if (scratch)
        attention_run(attention_choose(&got, bf16, kernel), bf16, &attention, scratch);
    free(scratch);
    return scratch != NULL;
}

static void check_encoding(struct doctor *doctor)
{
    static const double tolerance[LINEAR_DTYPES] = {1e-5, 1e-2, 1e-2};
    struct part part = {.doctor = doctor,
        .check = "kernels.encoding",
        .what = "encoding",
        .todo = "Encode in another --dtype or on another machine, and tell what processor this is."};
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        float plain[ROWS * OUTPUTS], attended[LENGTH * D];
        const char *best = "plain";
        const bool bf16 = dtype == LINEAR_BF16;
        if (!multiply(plain, dtype, "plain") || !attend(attended, bf16, "plain"))
            continue;
        for (size_t i = 1; linear_kernel_name(i); i++) {
            float fast[ROWS * OUTPUTS], context[LENGTH * D];
            const char *const name = linear_kernel_name(i);
            if (!linear_kernel_runs(i, dtype) || !multiply(fast, dtype, name))
                continue;
            best = name;
            note(&part, linear_dtype_name(dtype), name,
                doctor_agree(fast, plain, ROWS * OUTPUTS, tolerance[dtype]));
            if (dtype != LINEAR_INT8 && attention_kernel_runs(i, bf16) && attend(context, bf16, name))
                note(&part, linear_dtype_name(dtype), name,
                    doctor_agree(context, attended, LENGTH * D, tolerance[dtype]));
        }
        choose(&part, linear_dtype_name(dtype), best);
    }
    finish(&part);
}

/* ---- the decoder's cross-attention ---- */

static bool cross(float context[HEADS * D], enum cross_dtype dtype, const struct cross_kernel *kernel)
{
    float query[HEADS * D], states[LENGTH * D];
    uint16_t halves[LENGTH * D];
    draw(query, HEADS * D, 0.3, 8);
    draw(states, LENGTH * D, 1, 9);
    for (size_t i = 0; i < LENGTH * D; i++)
        halves[i] = f32_to_bf16(states[i]);
    const struct cross_source source = {dtype == CROSS_BF16 ? (void *)halves : (void *)states, LENGTH, dtype};
    float *const scratch = aligned(cross_scratch(HEADS, D) * sizeof *scratch);
    if (scratch)
        cross_attend(kernel, context, query, &source, HEADS, D, scratch);
    free(scratch);
    return scratch != NULL;
}

static void check_cross(struct doctor *doctor)
{
    struct part part = {.doctor = doctor,
        .check = "kernels.cross",
        .what = "cross-attention",
        .todo = "Encode in another --dtype or on another machine, and tell what processor this is."};
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++) {
        float plain[HEADS * D], fast[HEADS * D];
        if (!cross(plain, dtype, cross_kernel(0)))
            continue;
        choose(&part, cross_dtype_name(dtype), cross_kernel_name(cross_best(dtype)));
        for (size_t i = 1; cross_kernel(i); i++)
            if (cross_kernel_runs(cross_kernel(i), dtype) && cross(fast, dtype, cross_kernel(i)))
                note(&part, cross_dtype_name(dtype), cross_kernel_name(cross_kernel(i)),
                    doctor_agree(fast, plain, HEADS * D, dtype == CROSS_F32 ? 1e-5 : 1e-2));
    }
    finish(&part);
}

/* ---- the libraries that multiply for training and for the odd product ---- */

static void check_products(struct doctor *doctor)
{
    struct err err = ERR_INIT;
    const char *const wish = getenv("EMBSUM_ONEDNN");
    if (gemm_init(&err) < 0)
        doctor_tell_err(doctor, "kernels.blas",
            "Set OPENBLAS_CORETYPE to another kernel, or install an OpenBLAS that knows this processor.",
            &err);
    else
        doctor_tell(doctor, FINDING_OK, "kernels.blas", NULL, "%s multiplies as the plain product does",
            gemm_kernel());
    if (wish && strcmp(wish, "0") == 0)
        doctor_tell(doctor, FINDING_OK, "kernels.onednn", NULL, "not used, as EMBSUM_ONEDNN=0 says");
    else if (gemm_use_onednn(&err) == 0)
        doctor_tell(doctor, FINDING_OK, "kernels.onednn", NULL, "%s multiplies as the plain product does",
            gemm_kernel());
    else if (err.code == -ERR_CORRUPT)
        doctor_tell(doctor, FINDING_WARNING, "kernels.onednn",
            "Set EMBSUM_ONEDNN=0, or install another version of it.", "%s", err.message);
    else
        doctor_tell(doctor, FINDING_OK, "kernels.onednn", NULL,
            "not installed, or not for this processor: OpenBLAS multiplies in training");
}

void doctor_kernels(struct doctor *doctor)
{
    check_products(doctor);
    check_scoring(doctor);
    check_encoding(doctor);
    check_cross(doctor);
}
