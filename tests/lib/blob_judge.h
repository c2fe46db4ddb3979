/* What blob.h says of a blob, read off field by field: slow, plain, and the judge of the codec. */
#ifndef EMBSUM_TESTS_LIB_BLOB_JUDGE_H
#define EMBSUM_TESTS_LIB_BLOB_JUDGE_H

#include "store/blob.h"

/* The checks of enum blob_reason, one by one. */
enum blob_reason blob_judge(const struct blob_spec *spec, const uint8_t *blob, size_t size);

/* Value `index` of the payload, which has a dtype that there is. */
float blob_judge_value(const uint8_t *blob, size_t index);

/* The two hashes of their definitions, and a field of up to 8 bytes. blob_judge_seal() puts the right checksum into a blob
 * that has a whole header. */
uint64_t blob_judge_owner(const struct blob_spec *spec);
uint64_t blob_judge_check(const uint8_t *blob, size_t size);
void blob_judge_seal(uint8_t *blob, size_t size);
uint64_t blob_judge_field(const uint8_t *blob, size_t at, size_t width);
void blob_judge_put(uint8_t *blob, size_t at, size_t width, uint64_t value);

#endif
