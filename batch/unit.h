/* A unit of work: contents or users to be encoded by somebody else, and all that he has to know beside the model. Little-endian:
 *
 *     off  size  field
 *       0     4  "EMBU"
 *       4     1  version, 1
 *       5     1  kind of matrix: u, c
 *       6     1  dtype of the stored matrices, see store/blob.h
 *       7     1  flags: 1 readers of the generation are told, 2 tokens have 32 bits, else 16
 *       8     8  job, a number that no other has
 *      16     8  settings: hash of all that the model is
 *      24     4  number of the unit in its job
 *      28     4  rows of each matrix
 *      32     4  columns
 *      36     4  entities
 *      40     8  check: XXH3-64 of all that follows, its seed that of the header with this field 0
 *      48     1  length of the generation's name; the name
 *
 * then each entity: inputs (8; store/blob.h), length of its id (2), items (4), the id, and each item: tokens (4), the
 * tokens. A content is one item; a user is the items of the history that are used, none for the default user.
 */
#ifndef EMBSUM_BATCH_UNIT_H
#define EMBSUM_BATCH_UNIT_H

#include "core/encode.h"
#include "store/blob.h"
#include "store/store.h"

struct unit_head {
    enum blob_kind kind;
    enum blob_dtype dtype;
    bool told, wide;
    uint64_t job, settings;
    uint32_t number;
    size_t rows, cols;
    char generation[STORE_GENERATION_MAX];
};

struct unit_entity {
    struct store_id id;
    uint64_t inputs;
    const struct encode_item *items;
    size_t item_count;
};

/* ---- writing ---- */

/* Zero-initialised is valid; its bytes are the caller's to free, and may be used for one unit after the other. */
struct unit_bytes {
    unsigned char *at;
    size_t used, size;
};

/* Begin a unit, put what it is to encode, and seal it: it is bytes[0..used) then. Tokens are those of a vocabulary that
 * fits 16 bits, or the head is wide. */
int unit_begin(struct unit_bytes *bytes, const struct unit_head *head, struct err *err);
int unit_put(struct unit_bytes *bytes, const struct unit_entity *entity, struct err *err);
void unit_seal(struct unit_bytes *bytes);

/* ---- reading ---- */

struct unit {
    struct unit_head head;
    struct unit_entity *entities;
    size_t count, token_count;
    struct encode_item *items; /* of all entities, as the tokens and the ids are */
    int32_t *tokens;
    char *ids;
};

/* ERR_CORRUPT for bytes that are no unit. Nothing of data is kept. */
int unit_read(struct unit *unit, const void *data, size_t len, struct err *err);
void unit_done(struct unit *unit);

/* Does the model compute such matrices, of such tokens, items having at most so many (text_item_max())? ERR_INVALID says
 * what it does not. */
int unit_fits(
    const struct unit *unit, const struct model_config *config, size_t item_tokens, struct err *err);

/* ---- what came of it ---- */

struct unit_refusal {
    struct store_id id;
    const char *why; /* a sentence */
};

/* One line of JSON in the store, for who looks into it. */
struct unit_result {
    uint64_t job;
    uint32_t number;
    size_t tokens;
    double seconds;
    struct unit_refusal *refused; /* matrices that were not fit to be stored */
    size_t refused_count;
};

/* The malloc'ed text; NULL: no memory. */
char *unit_result_write(const struct unit_result *result);

/* ERR_CORRUPT for text that is none. */
int unit_result_read(struct unit_result *result, const void *text, size_t len, struct err *err);
void unit_result_done(struct unit_result *result); /* of one that was read */

#endif
