/* What a file holds, as one number of 256 bits. */
#ifndef EMBSUM_BATCH_DIGEST_H
#define EMBSUM_BATCH_DIGEST_H

#include "core/err.h"

#include <stdint.h>

enum { DIGEST_SIZE = 32 };

/* SHA-256 of a file's bytes. */
int digest_file(uint8_t digest[DIGEST_SIZE], const char *path, struct err *err);

/* The same in 64 hexadecimal digits. */
void digest_hex(char hex[2 * DIGEST_SIZE + 1], const uint8_t digest[DIGEST_SIZE]);

#endif
