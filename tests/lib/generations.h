/* A small generation for tests: USERS matrices of M x D (the first is the default user), CONTENTS of N x D. */
#ifndef EMBSUM_TESTS_LIB_GENERATIONS_H
#define EMBSUM_TESTS_LIB_GENERATIONS_H

#include "store/generation.h"
#include "tests/lib/stores.h"

enum { M = 3, N = 2, D = 5, USERS = 7, CONTENTS = 11 };

/* Value i of the matrix of that number; a multiple of a quarter, exact in every dtype. */
float matrix_value(enum blob_kind kind, size_t number, size_t i);

void put_matrix(
    struct generation_writer *writer, enum blob_kind kind, const char *id, size_t number, size_t rows);

/* Users "", U1, U2, ... with summaries, contents N0, N1, ..., W_s. */
void put_generation(struct generation_writer *writer);

/* The manifest as a caller fills it in. */
struct manifest dimensions(void);

/* Write and finish one; publish it if asked. name receives its name. */
void make_generation(
    struct store *store, enum blob_dtype dtype, bool publish, char name[STORE_GENERATION_MAX]);

#endif
