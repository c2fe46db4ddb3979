/* One matrix as bytes: the value behind the u, c and w keys of a store. Little-endian.
 *
 *     off  size  field
 *       0     4  "EMBS"
 *       4     1  version, 1
 *       5     1  kind: u, c, w
 *       6     1  dtype: 0 float32, 1 bfloat16, 2 float16
 *       7     1  0
 *       8     4  rows
 *      12     4  columns
 *      16     8  owner: XXH3-64 of kind "\n" generation "\n" id
 *      24     8  inputs: XXH3-64 of all it was computed from
 *      32     8  check: XXH3-64 of the header with this field 0, then the payload
 *      40    24  0
 *      64        payload: rows x columns values, row-major
 *
 * The owner makes sure that a reply that reached the wrong request is never scored, and BLOB_LIMIT that whatever is
 * computed of matrices is finite.
 */
#ifndef EMBSUM_STORE_BLOB_H
#define EMBSUM_STORE_BLOB_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#define BLOB_HEADER 64

/* No value has such a magnitude; those of an encoder are about 1. One matrix of 3e38 would make the products of all that
 * it meets infinite, and it could be a user's, who would spoil them for the users that are asked for beside. Below this
 * limit and with at most 2^16 columns (scorer_new) similarities and gates stay within 2^76 and logits within 2^122, which
 * float32 holds. */
#define BLOB_LIMIT 0x1p30f

enum blob_kind { BLOB_USER = 'u', BLOB_CONTENT = 'c', BLOB_SCORE_PROJ = 'w' };
enum blob_dtype { BLOB_F32 = 0, BLOB_BF16 = 1, BLOB_F16 = 2 };

/* Why a reader refused; blob_reason_name() gives the word used in logs, metrics and messages. The checks come
 * in this order, but for a blob shorter than its header, which is refused as length before all others.
 * Reserved bytes that are not 0 are refused as version: that is what a later version would use. */
enum blob_reason {
    BLOB_OK = 0,
    BLOB_BAD_MAGIC,
    BLOB_BAD_VERSION,
    BLOB_BAD_KIND,
    BLOB_BAD_DTYPE,
    BLOB_BAD_DIMENSIONS,
    BLOB_BAD_LENGTH,
    BLOB_BAD_OWNER,
    BLOB_BAD_CHECK,
    BLOB_NOT_FINITE,
    BLOB_BAD_RANGE, /* BLOB_LIMIT is reached */
    BLOB_REASONS
};

/* What a blob is: stated by the writer, demanded by the reader. */
struct blob_spec {
    enum blob_kind kind;
    enum blob_dtype dtype; /* the reader takes any dtype and ignores this */
    size_t rows, cols;
    const char *generation;
    const char *id;
    size_t id_len;
};

/* Bytes of a blob; 0 if there is no such blob: a dimension that is 0 or past 32 bits, a size past size_t. */
size_t blob_size(enum blob_dtype dtype, size_t rows, size_t cols);

/* Write the blob of a float32 matrix (rows x cols) to out, which has room for blob_size() bytes.
 * ERR_INVALID if the matrix holds what a reader would refuse, or becomes it in the dtype; what out holds then is undefined.
 */
int blob_encode(
    void *out, const struct blob_spec *spec, uint64_t inputs, const float *matrix, struct err *err);

/* Check all of it against the spec and widen the payload to float32 in matrix (rows x cols).
 * matrix is written only for BLOB_OK, and NULL means check alone. data may have any alignment. */
enum blob_reason blob_decode(float *matrix, const struct blob_spec *spec, const void *data, size_t len);

/* The inputs field of a blob of which the first BLOB_HEADER bytes are there and are those of this spec, dtype included;
 * 0 otherwise. The payload is not looked at. */
uint64_t blob_inputs(const struct blob_spec *spec, const void *head, size_t len);

const char *blob_reason_name(enum blob_reason reason); /* "magic", "owner", ... */
const char *blob_dtype_name(enum blob_dtype dtype);    /* "float32", "bfloat16", "float16" */
int blob_dtype_parse(enum blob_dtype *dtype, const char *name, struct err *err);

#endif
