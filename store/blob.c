/* The codec of blob.h. Fields are assembled with memcpy and the byte order written out, so data may lie at
 * any address (inside a reply or a memory map) on any host. The payload is hashed and scanned for values that are none or
 * too large before the first value is handed out. */
#include "store/blob.h"

#include "core/half.h"
#include "core/id.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

/* Makes the state of a hash in pieces a complete type, which then lies on the stack: decoding must not
 * allocate. XXH_INLINE_ALL would not ask for this, but does not compile without optimisation. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_DTYPE = 6,
    AT_RESERVED = 7,
    AT_ROWS = 8,
    AT_COLS = 12,
    AT_OWNER = 16,
    AT_INPUTS = 24,
    AT_CHECK = 32,
    AT_RESERVED_TAIL = 40
};

static const char magic[4] = {'E', 'M', 'B', 'S'};
static const unsigned char zeros[BLOB_HEADER - AT_RESERVED_TAIL];

/* ---- little-endian fields ---- */

static uint16_t load16(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static uint32_t load32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static void save16(unsigned char *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}

static void save32(unsigned char *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static void save64(unsigned char *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

/* ---- names and sizes ---- */

const char *blob_reason_name(enum blob_reason reason)
{
    static const char *const names[BLOB_REASONS] = {"ok", "magic", "version", "kind", "dtype", "dimensions",
        "length", "owner", "check", "not_finite", "range"};
    return (size_t)reason < BLOB_REASONS ? names[reason] : "unknown";
}

/* By enum blob_dtype. The bits of Inf and of BLOB_LIMIT, which float16 does not reach. */
static const struct {
    const char *name;
    size_t size;
    int32_t infinity, limit;
} dtypes[] = {
    {"float32", 4, 0x7F800000, 0x4E800000}, {"bfloat16", 2, 0x7F80, 0x4E80}, {"float16", 2, 0x7C00, 0x7C00}};

#define DTYPES (sizeof dtypes / sizeof *dtypes)

const char *blob_dtype_name(enum blob_dtype dtype)
{
    return (size_t)dtype < DTYPES ? dtypes[dtype].name : "unknown";
}

int blob_dtype_parse(enum blob_dtype *dtype, const char *name, struct err *err)
{
    for (size_t i = 0; i < DTYPES; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (enum blob_dtype)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, "unknown dtype \"%.32s\"; use float32, bfloat16 or float16", name);
}

size_t blob_size(enum blob_dtype dtype, size_t rows, size_t cols)
{
    size_t values, bytes;
    if ((size_t)dtype >= DTYPES || rows == 0 || cols == 0 || rows > UINT32_MAX || cols > UINT32_MAX ||
        __builtin_mul_overflow(rows, cols, &values) ||
        __builtin_mul_overflow(values, dtypes[dtype].size, &bytes) ||
        __builtin_add_overflow(bytes, BLOB_HEADER, &bytes))
        return 0;
    return bytes;
}

/* ---- hashes ---- */

static uint64_t hash_owner(const struct blob_spec *spec)
{
    const unsigned char kind[2] = {(unsigned char)spec->kind, '\n'};
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, kind, sizeof kind);
    XXH3_64bits_update(&state, spec->generation, strlen(spec->generation));
    XXH3_64bits_update(&state, "\n", 1);
    if (spec->id_len)
        XXH3_64bits_update(&state, spec->id, spec->id_len);
    return XXH3_64bits_digest(&state);
}

static uint64_t hash_check(const unsigned char *blob, size_t size)
{
    unsigned char header[BLOB_HEADER];
    memcpy(header, blob, sizeof header);
    memset(header + AT_CHECK, 0, sizeof(uint64_t));
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, header, sizeof header);
    XXH3_64bits_update(&state, blob + BLOB_HEADER, size - BLOB_HEADER);
    return XXH3_64bits_digest(&state);
}

/* ---- values that are none or too large: without the sign, the bits of magnitudes compare as they do ---- */

/* Blocks of a fixed size, so that the compiler unrolls them into vector registers without a loop for the rest
 * in each. */
#define SCAN_BLOCK 64

static bool below32(const unsigned char *p, size_t count, int32_t limit)
{
    uint32_t bad = 0;
    for (; count >= SCAN_BLOCK; count -= SCAN_BLOCK, p += SCAN_BLOCK * sizeof(uint32_t))
        for (size_t i = 0; i < SCAN_BLOCK; i++)
            bad |= (int32_t)(load32(p + 4 * i) & INT32_MAX) >= limit;
    for (size_t i = 0; i < count; i++)
        bad |= (int32_t)(load32(p + 4 * i) & INT32_MAX) >= limit;
    return !bad;
}

static bool below16(const unsigned char *p, size_t count, int16_t limit)
{
    uint16_t bad = 0;
    for (; count >= SCAN_BLOCK; count -= SCAN_BLOCK, p += SCAN_BLOCK * sizeof(uint16_t))
        for (size_t i = 0; i < SCAN_BLOCK; i++)
            bad = (uint16_t)(bad | ((int16_t)(load16(p + 2 * i) & INT16_MAX) >= limit));
    for (size_t i = 0; i < count; i++)
        bad = (uint16_t)(bad | ((int16_t)(load16(p + 2 * i) & INT16_MAX) >= limit));
    return !bad;
}

static bool payload_below(enum blob_dtype dtype, const unsigned char *p, size_t count, int32_t limit)
{
    return dtype == BLOB_F32 ? below32(p, count, limit) : below16(p, count, (int16_t)limit);
}

static enum blob_reason check_payload(enum blob_dtype dtype, const unsigned char *p, size_t count)
{
    if (payload_below(dtype, p, count, dtypes[dtype].limit))
        return BLOB_OK;
    return payload_below(dtype, p, count, dtypes[dtype].infinity) ? BLOB_BAD_RANGE : BLOB_NOT_FINITE;
}

/* ---- the payload ---- */

static void payload_write(unsigned char *out, enum blob_dtype dtype, const float *matrix, size_t count)
{
    switch (dtype) {
    case BLOB_F32:
        for (size_t i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, &matrix[i], sizeof bits);
            save32(out + 4 * i, bits);
        }
        break;
    case BLOB_BF16:
        for (size_t i = 0; i < count; i++)
            save16(out + 2 * i, f32_to_bf16(matrix[i]));
        break;
    case BLOB_F16:
        for (size_t i = 0; i < count; i++)
            save16(out + 2 * i, f32_to_f16(matrix[i]));
        break;
    }
}

/* The compiler vectorises a block only if it need not ask whether what is written is what is read. */
static void widen(float *restrict matrix, const unsigned char *restrict data, size_t count)
{
    for (; count >= SCAN_BLOCK; count -= SCAN_BLOCK, data += 2 * SCAN_BLOCK, matrix += SCAN_BLOCK)
        for (size_t i = 0; i < SCAN_BLOCK; i++)
            matrix[i] = bf16_to_f32(load16(data + 2 * i));
    for (size_t i = 0; i < count; i++)
        matrix[i] = bf16_to_f32(load16(data + 2 * i));
}

static void payload_read(float *matrix, enum blob_dtype dtype, const unsigned char *data, size_t count)
{
    switch (dtype) {
    case BLOB_F32:
        memcpy(matrix, data, count * sizeof *matrix);
        if (BYTE_ORDER != LITTLE_ENDIAN)
            for (size_t i = 0; i < count; i++) {
                const uint32_t bits = load32(data + 4 * i);
                memcpy(&matrix[i], &bits, sizeof bits);
            }
        break;
    case BLOB_BF16:
        widen(matrix, data, count);
        break;
    case BLOB_F16:
        for (size_t i = 0; i < count; i++)
            matrix[i] = f16_to_f32(load16(data + 2 * i));
        break;
    }
}

/* ---- the codec ---- */

int blob_encode(
    void *out, const struct blob_spec *spec, uint64_t inputs, const float *matrix, struct err *err)
{
    const size_t size = blob_size(spec->dtype, spec->rows, spec->cols);
    if (!size)
        return err_set(err, ERR_INVALID, "a matrix of %zu x %zu values of %s does not fit a blob", spec->rows,
            spec->cols, blob_dtype_name(spec->dtype));
    const size_t count = spec->rows * spec->cols;
    unsigned char *const blob = out, *const payload = blob + BLOB_HEADER;
    payload_write(payload, spec->dtype, matrix, count);
    if (check_payload(spec->dtype, payload, count) != BLOB_OK)
        return err_set(err, ERR_INVALID,
            "the matrix of \"%.*s\" holds NaN, Inf or a value of 2^30 or more, or too large for %s",
            (int)(spec->id_len < ID_MAX ? spec->id_len : ID_MAX), spec->id ? spec->id : "",
            blob_dtype_name(spec->dtype));
    memset(blob, 0, BLOB_HEADER);
    memcpy(blob + AT_MAGIC, magic, sizeof magic);
    blob[AT_VERSION] = 1;
    blob[AT_KIND] = (unsigned char)spec->kind;
    blob[AT_DTYPE] = (unsigned char)spec->dtype;
    save32(blob + AT_ROWS, (uint32_t)spec->rows);
    save32(blob + AT_COLS, (uint32_t)spec->cols);
    save64(blob + AT_OWNER, hash_owner(spec));
    save64(blob + AT_INPUTS, inputs);
    save64(blob + AT_CHECK, hash_check(blob, size));
    return 0;
}

/* All of the header but its checksum. */
static enum blob_reason check_header(size_t *size, const struct blob_spec *spec, const unsigned char *blob)
{
    if (memcmp(blob + AT_MAGIC, magic, sizeof magic) != 0)
        return BLOB_BAD_MAGIC;
    /* Version 1 keeps its reserved bytes zero: whatever uses them is another version. */
    if (blob[AT_VERSION] != 1 || blob[AT_RESERVED] != 0 ||
        memcmp(blob + AT_RESERVED_TAIL, zeros, sizeof zeros) != 0)
        return BLOB_BAD_VERSION;
    if (blob[AT_KIND] != (unsigned char)spec->kind)
        return BLOB_BAD_KIND;
    if (blob[AT_DTYPE] >= DTYPES)
        return BLOB_BAD_DTYPE;
    *size = blob_size((enum blob_dtype)blob[AT_DTYPE], spec->rows, spec->cols);
    if (!*size || load32(blob + AT_ROWS) != spec->rows || load32(blob + AT_COLS) != spec->cols)
        return BLOB_BAD_DIMENSIONS;
    return BLOB_OK;
}

enum blob_reason blob_decode(float *matrix, const struct blob_spec *spec, const void *data, size_t len)
{
    const unsigned char *const blob = data;
    size_t size;
    if (len < BLOB_HEADER)
        return BLOB_BAD_LENGTH;
    enum blob_reason reason = check_header(&size, spec, blob);
    if (reason != BLOB_OK)
        return reason;
    if (len != size)
        return BLOB_BAD_LENGTH;
    if (load64(blob + AT_OWNER) != hash_owner(spec))
        return BLOB_BAD_OWNER;
    if (load64(blob + AT_CHECK) != hash_check(blob, size))
        return BLOB_BAD_CHECK;
    const enum blob_dtype dtype = (enum blob_dtype)blob[AT_DTYPE];
    const size_t count = spec->rows * spec->cols;
    reason = check_payload(dtype, blob + BLOB_HEADER, count);
    if (reason == BLOB_OK && matrix)
        payload_read(matrix, dtype, blob + BLOB_HEADER, count);
    return reason;
}

uint64_t blob_inputs(const struct blob_spec *spec, const void *head, size_t len)
{
    const unsigned char *const blob = head;
    size_t size;
    if (!blob || len < BLOB_HEADER || check_header(&size, spec, blob) != BLOB_OK ||
        blob[AT_DTYPE] != (unsigned char)spec->dtype || load64(blob + AT_OWNER) != hash_owner(spec))
        return 0;
    return load64(blob + AT_INPUTS);
}
