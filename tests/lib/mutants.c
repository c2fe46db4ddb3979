#include "tests/lib/mutants.h"

#include "tests/lib/blob_judge.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One on its way: what it was made of. */
struct making {
    struct mutant *mutant;
    struct rng *rng;
    const struct blob_spec *spec;
    const float *matrix;
};

static size_t below(struct rng *rng, size_t bound)
{
    return (size_t)(rng_next(rng) % bound);
}

static void encode(struct making *making, const struct blob_spec *spec)
{
    struct err err = ERR_INIT;
    if (blob_encode(making->mutant->bytes, spec, rng_next(making->rng), making->matrix, &err) < 0)
        abort();
    making->mutant->len = blob_size(spec->dtype, spec->rows, spec->cols);
}

/* ---- the whole ---- */

static void flip_bits(struct making *making)
{
    struct mutant *mutant = making->mutant;
    for (size_t times = 1 + below(making->rng, 8); mutant->len && times; times--)
        mutant->bytes[below(making->rng, mutant->len)] ^= (uint8_t)(1u << below(making->rng, 8));
}

static void cut(struct making *making)
{
    struct mutant *mutant = making->mutant;
    static const size_t steps[] = {1, 4, BLOB_HEADER};
    const size_t step = steps[below(making->rng, 3)];
    if (mutant->len)
        mutant->len = below(making->rng, mutant->len) / step * step;
}

static void lengthen(struct making *making)
{
    struct mutant *mutant = making->mutant;
    const size_t room =
        blob_size(BLOB_F32, making->spec->rows, making->spec->cols) + MUTANT_TAIL - mutant->len;
    size_t more = below(making->rng, 2) ? 4 : 1 + below(making->rng, MUTANT_TAIL);
    for (more = more < room ? more : room; more; more--)
        mutant->bytes[mutant->len++] = (uint8_t)rng_next(making->rng);
}

static void empty(struct making *making)
{
    making->mutant->len = 0;
}

static void zeros(struct making *making)
{
    const size_t from = below(making->rng, 2) ? BLOB_HEADER : 0;
    if (making->mutant->len > from)
        memset(making->mutant->bytes + from, 0, making->mutant->len - from);
}

static void noise(struct making *making)
{
    for (size_t i = 0; i < making->mutant->len; i++)
        making->mutant->bytes[i] = (uint8_t)rng_next(making->rng);
}

/* A good blob, but of another user or content, generation, kind or shape. */
static void swap(struct making *making)
{
    struct blob_spec other = *making->spec;
    switch (below(making->rng, 4)) {
    case 0:
        other.id_len -= other.id_len > 0;
        break;
    case 1:
        other.generation = "20261124T030000Z-00000000";
        break;
    case 2:
        other.kind = other.kind == BLOB_USER ? BLOB_CONTENT : BLOB_USER;
        break;
    default:
        other.rows = making->spec->cols;
        other.cols = making->spec->rows;
    }
    encode(making, &other);
}

/* ---- the header ---- */

static void change_field(struct making *making)
{
    static const struct {
        size_t at, width;
    } fields[] = {
        {0, 4}, {4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 4}, {12, 4}, {16, 8}, {24, 8}, {40, 8}, {56, 8}};
    static const uint64_t values[] = {
        0, 1, 2, 3, 'u', 'c', 'w', 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, UINT32_MAX, UINT64_MAX};
    struct mutant *mutant = making->mutant;
    const size_t which = below(making->rng, sizeof fields / sizeof *fields);
    if (mutant->len >= BLOB_HEADER)
        blob_judge_put(mutant->bytes, fields[which].at, fields[which].width,
            values[below(making->rng, sizeof values / sizeof *values)]);
}

/* Rows and columns that say what the length says, or the checks before it would have to notice. */
static void change_shape(struct making *making)
{
    struct mutant *mutant = making->mutant;
    const size_t values = making->spec->rows * making->spec->cols, rows = 1 + below(making->rng, 2 * values);
    if (mutant->len < BLOB_HEADER)
        return;
    blob_judge_put(mutant->bytes, 8, 4, rows);
    blob_judge_put(mutant->bytes, 12, 4, values / rows + below(making->rng, 2));
}

static void change_dtype(struct making *making)
{
    struct mutant *mutant = making->mutant;
    if (mutant->len < BLOB_HEADER)
        return;
    mutant->bytes[6] = (uint8_t)((mutant->bytes[6] + 1 + below(making->rng, 3)) % 4);
    if (below(making->rng, 2)) /* with the length that goes with it, so that the bytes mean something else */
        mutant->len =
            BLOB_HEADER + making->spec->rows * making->spec->cols * (mutant->bytes[6] == BLOB_F32 ? 4 : 2);
}

/* ---- the numbers ---- */

/* One of them, a few, or all. */
static void put_numbers(struct making *making, const float *values, size_t count)
{
    struct mutant *mutant = making->mutant;
    const size_t all = making->spec->rows * making->spec->cols;
    const bool whole = below(making->rng, 3) == 0;
    if (mutant->len < blob_size(BLOB_F32, making->spec->rows, making->spec->cols))
        encode(
            making, &(struct blob_spec){making->spec->kind, BLOB_F32, making->spec->rows, making->spec->cols,
                        making->spec->generation, making->spec->id, making->spec->id_len});
    for (size_t left = whole ? all : 1 + below(making->rng, 4); left; left--) {
        uint32_t bits;
        const float value = values[below(making->rng, count)];
        memcpy(&bits, &value, sizeof bits);
        blob_judge_put(
            mutant->bytes, BLOB_HEADER + 4 * (whole ? left - 1 : below(making->rng, all)), 4, bits);
    }
}

static void put_nan(struct making *making)
{
    static const float values[] = {NAN, -NAN, INFINITY, -INFINITY};
    const size_t from = below(making->rng, 4);
    put_numbers(making, values + from, 4 - from);
}

static void put_tiny(struct making *making)
{
    static const float values[] = {1e-45F, -1e-45F, 1e-40F, -FLT_MIN, 0.0F, -0.0F, 1e-20F};
    put_numbers(making, values, sizeof values / sizeof *values);
}

static void put_huge(struct making *making)
{
    static const float values[] = {FLT_MAX, -FLT_MAX, 3e38F, -3e38F, 1e30F, 1e20F, -1e20F, 1e19F};
    put_numbers(making, values, sizeof values / sizeof *values);
}

static void put_large(struct making *making)
{
    static const float values[] = {
        0x1.fffffep29F, -0x1.fffffep29F, 0x1p30F, -0x1p30F, 1e9F, -1e9F, 1e6F, 65504, 1000, -300};
    const size_t from = below(making->rng, 10);
    put_numbers(making, values + from, 10 - from);
}

/* Other numbers like those that were there: nothing but the checksum could tell. */
static void put_others(struct making *making)
{
    float values[16];
    for (size_t i = 0; i < 16; i++)
        values[i] = making->matrix[below(making->rng, making->spec->rows * making->spec->cols)] *
                    (float)(2 * rng_uniform(making->rng) - 1);
    put_numbers(making, values, 16);
}

/* ---- all of it ---- */

static const struct {
    const char *name;
    void (*act)(struct making *making);
} acts[] = {
    {"bits flipped", flip_bits},
    {"cut", cut},
    {"lengthened", lengthen},
    {"empty", empty},
    {"zeros", zeros},
    {"noise", noise},
    {"another's", swap},
    {"field", change_field},
    {"shape", change_shape},
    {"dtype", change_dtype},
    {"NaN", put_nan},
    {"tiny", put_tiny},
    {"huge", put_huge},
    {"large", put_large},
    {"other numbers", put_others},
};

void mutant_make(
    struct mutant *mutant, struct rng *rng, const struct blob_spec *spec, const float *matrix, bool sealed)
{
    struct making making = {mutant, rng, spec, matrix};
    struct blob_spec drawn = *spec;
    static const enum blob_dtype dtypes[] = {BLOB_F32, BLOB_BF16, BLOB_F16};
    drawn.dtype = dtypes[below(rng, 3)];
    memset(mutant->bytes, 0, blob_size(BLOB_F32, spec->rows, spec->cols) + MUTANT_TAIL);
    encode(&making, &drawn);
    for (size_t times = 1 + (below(rng, 4) == 0); times; times--) {
        const size_t which = below(rng, sizeof acts / sizeof *acts);
        acts[which].act(&making);
        mutant->done = acts[which].name;
    }
    if (mutant->len < BLOB_HEADER)
        return;
    if (sealed)
        blob_judge_seal(mutant->bytes, mutant->len);
    else if (blob_judge_field(mutant->bytes, 32, 8) == blob_judge_check(mutant->bytes, mutant->len))
        mutant->bytes[below(rng, mutant->len)] ^= (uint8_t)(1u << below(rng, 8));
}
