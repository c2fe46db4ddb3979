/* Blobs: the first four bytes say what is demanded, the rest is the blob as it came. A plain reading of the format gives
 * the same verdict and the same numbers. Hardly any input has the right checksum, so each is read once more with the
 * owner and the checksum put right. */
#include "tests/lib/blob_judge.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    must(blob_inputs(blob, size) == blob_judge_field(blob, 24, 8));
    uint8_t *const again = malloc(size);
    must(again);
    must(blob_encode(again, &other, blob_judge_field(blob, 24, 8), matrix, &err) == 0);
    must(memcmp(again, blob, size) == 0);
    free(again);
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
    blob_inputs(blob, size);
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
