#include "tests/lib/generations.h"

#include <stdio.h>

float matrix_value(enum blob_kind kind, size_t number, size_t i)
{
    return (kind == BLOB_USER ? 0.5f : -0.5f) + (float)number * 0.5f + (float)i * 0.25f;
}

void put_matrix(
    struct generation_writer *writer, enum blob_kind kind, const char *id, size_t number, size_t rows)
{
    float matrix[M * D + N * D + D * D];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < rows * D; i++)
        matrix[i] = matrix_value(kind, number, i);
    ok(generation_put_matrix(writer, kind, id, strlen(id), 1000 + number, matrix, rows, D, &err));
}

void put_generation(struct generation_writer *writer)
{
    char id[16];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < USERS; i++) {
        snprintf(id, sizeof id, i ? "U%zu" : "", i); /* the first is the default user */
        put_matrix(writer, BLOB_USER, id, i, M);
        ok(generation_put_summary(writer, id, strlen(id), "likes tests", 11, &err));
    }
    for (size_t i = 0; i < CONTENTS; i++) {
        snprintf(id, sizeof id, "N%zu", i);
        put_matrix(writer, BLOB_CONTENT, id, i, N);
    }
    put_matrix(writer, BLOB_SCORE_PROJ, "", 0, D);
}

struct manifest dimensions(void)
{
    return (struct manifest){.m = M, .n = N, .d = D};
}

/* Write and finish one; publish it if asked. */
void make_generation(
    struct store *store, enum blob_dtype dtype, bool publish, char name[STORE_GENERATION_MAX])
{
    struct generation_writer *writer = NULL;
    struct manifest manifest = dimensions();
    struct err err = ERR_INIT;
    ok(generation_begin(&writer, store, dtype, &err));
    put_generation(writer);
    ok(generation_finish(writer, &manifest, &err));
    ok(publish ? generation_publish(writer, &err) : generation_keep(writer, &err));
    snprintf(name, STORE_GENERATION_MAX, "%s", generation_name(writer));
    generation_end(writer);
}
