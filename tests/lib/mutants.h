/* Blobs as nobody should have left them in a store: bits flipped, cut, lengthened, emptied, fields of the header changed,
 * swapped with another's, numbers that are none, that are tiny, that are huge. */
#ifndef EMBSUM_TESTS_LIB_MUTANTS_H
#define EMBSUM_TESTS_LIB_MUTANTS_H

#include "core/rng.h"
#include "store/blob.h"

#include <stdbool.h>

enum { MUTANT_TAIL = 4096 }; /* bytes that one may be longer than the blob of its spec in float32 */

struct mutant {
    const char *done; /* the last thing that was done to it, in words */
    size_t len;
    uint8_t *bytes; /* the caller's, with room for blob_size() in float32 and MUTANT_TAIL more */
};

/* Make one of the blob of a float32 matrix (rows x cols), in any dtype. sealed: its checksum is put right at the end,
 * if it has a whole header; else it is wrong. */
void mutant_make(
    struct mutant *mutant, struct rng *rng, const struct blob_spec *spec, const float *matrix, bool sealed);

#endif
