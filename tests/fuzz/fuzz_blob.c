/* Blobs: the first four bytes say what is demanded, the rest is the blob as it came. A plain reading of the format gives
 * the same verdict and the same numbers. Hardly any input has the right checksum, so each is read once more with the
 * owner and the checksum put right. */
#include "tests/lib/blob_judge.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is written in any dtype is read as a number next to it, or refused because some value is too large for that. */
static void check_written(const struct blob_spec *spec, const float *matrix)
{
    static const struct {
        double relative, absolute; /* half of the distance between two numbers, at most */
        float large;
    } dtypes[] = {{0, 0, INFINITY}, {0x1p-8, 0x1p-134, 0x1.fcp29F}, {0x1p-11, 0x1p-25, 65504}};
    const size_t count = spec->rows * spec->cols, size = blob_size(spec->dtype, spec->rows, spec->cols);
    enum blob_dtype dtype;
    float largest = 0;
    struct err err = ERR_INIT;
    must(blob_dtype_parse(&dtype, blob_dtype_name(spec->dtype), &err) == 0 && dtype == spec->dtype);
    must(blob_dtype_parse(&dtype, "float64", NULL) == -ERR_INVALID && dtype == spec->dtype);
    uint8_t *const blob = malloc(size);
    float *const again = malloc(count * sizeof *again);
    must(blob && again);
    const int code = blob_encode(blob, spec, 17, matrix, &err);
    must(code < 0 || blob_decode(again, spec, blob, size) == BLOB_OK);
    for (size_t i = 0; i < count; i++) {
        const double value = matrix[i], bound = fabs(value) * dtypes[dtype].relative;
        must(code < 0 || fabs(again[i] - value) <= fmax(bound, dtypes[dtype].absolute));
        largest = fmaxf(largest, fabsf(matrix[i]));
    }
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID && largest > dtypes[dtype].large);
    }
    free(again);
    free(blob);
}

/* What was accepted is written as it was, and nobody else takes it for his. */
static void check_accepted(
    const struct blob_spec *spec, const float *matrix, const uint8_t *blob, size_t size)
{
    for (size_t i = 0; i < spec->rows * spec->cols; i++) {
        const float value = blob_judge_value(blob, i);
        must(isfinite(matrix[i]) && memcmp(&matrix[i], &value, sizeof value) == 0);
    }
    struct blob_spec other = *spec;
    struct err err = ERR_INIT;
    other.dtype = (enum blob_dtype)blob[6];
    must(blob_size(other.dtype, spec->rows, spec->cols) == size);
    must(blob_inputs(&other, blob, BLOB_HEADER) == blob_judge_field(blob, 24, 8));
    uint8_t *const again = malloc(size);
    must(again);
    must(blob_encode(again, &other, blob_judge_field(blob, 24, 8), matrix, &err) == 0);
    must(memcmp(again, blob, size) == 0);
    free(again);
    for (int dtype = BLOB_F32; dtype <= BLOB_F16; dtype++) {
        other.dtype = (enum blob_dtype)dtype;
        check_written(&other, matrix);
    }
    other.id = "U2";
    other.id_len = 2;
    must(blob_decode(NULL, &other, blob, size) == BLOB_BAD_OWNER);
    other = *spec;
    other.generation = "h";
    must(blob_decode(NULL, &other, blob, size) == BLOB_BAD_OWNER);
}

static void check(const struct blob_spec *spec, const uint8_t *blob, size_t size)
{
    const size_t count = spec->rows * spec->cols;
    float *const matrix = calloc(count, sizeof *matrix); /* of its size, for the sanitizers */
    must(matrix);
    const enum blob_reason reason = blob_decode(matrix, spec, blob, size);
    must(reason == blob_judge(spec, blob, size));
    must(reason == blob_decode(NULL, spec, blob, size));
    must(strcmp(blob_reason_name(reason), "unknown") != 0);
    must(blob_inputs(spec, blob, size) == 0 || reason != BLOB_BAD_OWNER);
    if (reason == BLOB_OK)
        check_accepted(spec, matrix, blob, size);
    for (size_t i = 0; reason != BLOB_OK && i < count; i++)
        must(matrix[i] == 0 && !signbit(matrix[i]));
    free(matrix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    const uint8_t kind = fuzz_byte(&input) % 3;
    const struct blob_spec spec = {
        .kind = kind == 0   ? BLOB_USER
                : kind == 1 ? BLOB_CONTENT
                            : BLOB_SCORE_PROJ,
        .rows = 1u + fuzz_byte(&input) % 16,
        .cols = 1u + fuzz_byte(&input) % 32,
        .generation = "20261124T030000Z-9f3c2a1b",
        .id = kind == 2 ? "" : "U1",
        .id_len = kind == 2 ? 0 : 2,
    };
    fuzz_byte(&input); /* so that the blob begins at a multiple of four in the files */
    const size_t left = (size_t)(input.end - input.at);
    check(&spec, input.at, left);
    if (left < BLOB_HEADER)
        return 0;
    uint8_t *const blob = malloc(left);
    must(blob);
    memcpy(blob, input.at, left);
    blob_judge_put(blob, 16, 8, blob_judge_owner(&spec));
    blob_judge_seal(blob, left);
    check(&spec, blob, left);
    free(blob);
    return 0;
}
