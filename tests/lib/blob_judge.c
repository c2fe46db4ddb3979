#include "tests/lib/blob_judge.h"

#include "core/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { AT_OWNER = 16, AT_CHECK = 32 };

uint64_t blob_judge_field(const uint8_t *blob, size_t at, size_t width)
{
    uint64_t value = 0;
    for (size_t i = width; i > 0; i--)
        value = value << 8 | blob[at + i - 1];
    return value;
}

void blob_judge_put(uint8_t *blob, size_t at, size_t width, uint64_t value)
{
    for (size_t i = 0; i < width; i++)
        blob[at + i] = (uint8_t)(value >> 8 * i);
}

uint64_t blob_judge_owner(const struct blob_spec *spec)
{
    const size_t head = 2 + strlen(spec->generation) + 1;
    char *const text = malloc(head + spec->id_len);
    if (!text)
        abort();
    memcpy(text, (char[]){(char)spec->kind, '\n'}, 2);
    memcpy(text + 2, spec->generation, head - 3);
    text[head - 1] = '\n';
    memcpy(text + head, spec->id, spec->id_len);
    const uint64_t owner = XXH3_64bits(text, head + spec->id_len);
    free(text);
    return owner;
}

uint64_t blob_judge_check(const uint8_t *blob, size_t size)
{
    uint8_t *const copy = malloc(size);
    if (!copy)
        abort();
    memcpy(copy, blob, size);
    memset(copy + AT_CHECK, 0, 8);
    const uint64_t check = XXH3_64bits(copy, size);
    free(copy);
    return check;
}

void blob_judge_seal(uint8_t *blob, size_t size)
{
    blob_judge_put(blob, AT_CHECK, 8, blob_judge_check(blob, size));
}

float blob_judge_value(const uint8_t *blob, size_t index)
{
    float value;
    if (blob[6] != BLOB_F32) {
        const uint16_t half = (uint16_t)blob_judge_field(blob, BLOB_HEADER + 2 * index, 2);
        return blob[6] == BLOB_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
    }
    const uint32_t bits = (uint32_t)blob_judge_field(blob, BLOB_HEADER + 4 * index, 4);
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum blob_reason blob_judge(const struct blob_spec *spec, const uint8_t *blob, size_t size)
{
    if (size < BLOB_HEADER)
        return BLOB_BAD_LENGTH;
    if (memcmp(blob, "EMBS", 4) != 0)
        return BLOB_BAD_MAGIC;
    if (blob[4] != 1 || blob[7] || blob_judge_field(blob, 40, 8) || blob_judge_field(blob, 48, 8) ||
        blob_judge_field(blob, 56, 8))
        return BLOB_BAD_VERSION;
    if (blob[5] != spec->kind)
        return BLOB_BAD_KIND;
    if (blob[6] > 2)
        return BLOB_BAD_DTYPE;
    if (blob_judge_field(blob, 8, 4) != spec->rows || blob_judge_field(blob, 12, 4) != spec->cols)
        return BLOB_BAD_DIMENSIONS;
    if (size != BLOB_HEADER + spec->rows * spec->cols * (blob[6] == BLOB_F32 ? 4 : 2))
        return BLOB_BAD_LENGTH;
    if (blob_judge_field(blob, AT_OWNER, 8) != blob_judge_owner(spec))
        return BLOB_BAD_OWNER;
    if (blob_judge_field(blob, AT_CHECK, 8) != blob_judge_check(blob, size))
        return BLOB_BAD_CHECK;
    for (size_t i = 0; i < spec->rows * spec->cols; i++)
        if (!isfinite(blob_judge_value(blob, i)))
            return BLOB_NOT_FINITE;
    for (size_t i = 0; i < spec->rows * spec->cols; i++)
        if (fabsf(blob_judge_value(blob, i)) >= BLOB_LIMIT)
            return BLOB_BAD_RANGE;
    return BLOB_OK;
}
