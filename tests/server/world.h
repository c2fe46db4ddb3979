/* A store with a generation whose every matrix follows from its name, so that a test knows what is right
 * without keeping it. */
#ifndef EMBSUM_TESTS_SERVER_WORLD_H
#define EMBSUM_TESTS_SERVER_WORLD_H

#include "core/score.h"
#include "store/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct world {
    size_t m, n, d;
    size_t users, contents; /* U0, U1, ...; N0, N1, ... */
    size_t categories;      /* content i is in category "topic <i modulo categories>"; 0: in none */
    uint64_t seed;          /* another one gives another generation */
};

/* rows x cols numbers in [-1, 1), of which the standard deviation of a product of two rows is about one. */
static inline void world_matrix(
    float *out, const struct world *world, char kind, const char *id, size_t rows, size_t cols)
{
    uint64_t state = XXH3_64bits_withSeed(id, strlen(id), world->seed * 256 + (unsigned char)kind);
    float scale = 1.7f;
    for (size_t c = 4; c < cols; c *= 4)
        scale *= 0.7f;
    for (size_t i = 0; i < rows * cols; i++) {
        state += 0x9E3779B97F4A7C15u;
        uint64_t x = (state ^ state >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        out[i] = ((float)(x >> 40) * 0x1p-23f - 1) * scale;
    }
}

/* The score from the definition, in float64. */
static inline double world_score(const struct world *world, const char *user, const char *content)
{
    const size_t m = world->m, n = world->n, d = world->d;
    float *a = malloc(m * d * sizeof *a), *b = malloc(2 * n * d * sizeof *b), *w = malloc(d * d * sizeof *w);
    double *scratch = malloc(score_gate_scratch(n, d) * sizeof *scratch);
    if (!a || !b || !w || !scratch)
        abort();
    world_matrix(a, world, 'u', user, m, d);
    world_matrix(b, world, 'c', content, n, d);
    world_matrix(w, world, 'w', "", d, d);
    score_gate(b + n * d, b, w, n, d, scratch);
    const double score = score_plain(NULL, NULL, a, b, b + n * d, m, n, d);
    free(a);
    free(b);
    free(w);
    free(scratch);
    return score;
}

/* Of content number i; false: it has none. */
static inline bool world_title(char *out, size_t size, size_t i)
{
    snprintf(out, size, "The \"title\" of n\xC2\xB0 %zu", i);
    return i % 3 != 2;
}

static inline int world_put_categories(
    const struct world *world, struct generation_writer *writer, struct err *err)
{
    char(*const names)[32] = calloc(world->contents + 1, sizeof *names), name[32];
    struct store_id *const ids = calloc(world->contents + 1, sizeof *ids);
    int code = names && ids ? 0 : err_set(err, ERR_NOMEM, "no memory");
    for (size_t c = 0; code == 0 && c < world->categories; c++) {
        const int len = snprintf(name, sizeof name, "topic %zu", c);
        size_t count = 0;
        for (size_t i = c; i < world->contents; i += world->categories, count++) {
            const int id_len = snprintf(names[count], sizeof names[count], "N%zu", i);
            ids[count] = (struct store_id){names[count], (size_t)id_len};
        }
        code = generation_put_category(writer, name, (size_t)len, ids, count, err);
    }
    free(names);
    free(ids);
    return code;
}

/* Write the world's generation into the store and make it live, or leave it ready. name receives its name. */
static inline int world_write(const struct world *world, struct store *store, enum blob_dtype dtype,
    bool live, char name[STORE_GENERATION_MAX], struct err *err)
{
    const size_t m = world->m, n = world->n, d = world->d;
    struct generation_writer *writer = NULL;
    float *matrix = malloc((m + n + d) * d * sizeof *matrix);
    if (!matrix)
        return err_set(err, ERR_NOMEM, "no memory");
    int code = generation_begin(&writer, store, dtype, err);
    if (code == 0)
        memcpy(name, generation_name(writer), strlen(generation_name(writer)) + 1);
    world_matrix(matrix, world, 'w', "", d, d);
    if (code == 0)
        code = generation_put_matrix(writer, BLOB_SCORE_PROJ, "", 0, 1, matrix, d, d, err);
    world_matrix(matrix, world, 'u', "", m, d);
    if (code == 0)
        code = generation_put_matrix(writer, BLOB_USER, "", 0, 1, matrix, m, d, err);
    char id[32], summary[64], title[64];
    for (size_t i = 0; code == 0 && i < world->users; i++) {
        const int len = snprintf(id, sizeof id, "U%zu", i);
        const int summary_len = snprintf(summary, sizeof summary, "Reads \"news\" number %zu.", i);
        world_matrix(matrix, world, 'u', id, m, d);
        code = generation_put_matrix(writer, BLOB_USER, id, (size_t)len, 1, matrix, m, d, err);
        if (code == 0 && i % 2 == 0) /* the others have none */
            code = generation_put_summary(writer, id, (size_t)len, summary, (size_t)summary_len, err);
    }
    for (size_t i = 0; code == 0 && i < world->contents; i++) {
        const int len = snprintf(id, sizeof id, "N%zu", i);
        world_matrix(matrix, world, 'c', id, n, d);
        code = generation_put_matrix(writer, BLOB_CONTENT, id, (size_t)len, 1, matrix, n, d, err);
        if (code == 0 && world_title(title, sizeof title, i))
            code = generation_put_title(writer, id, (size_t)len, title, strlen(title), err);
    }
    if (code == 0)
        code = world_put_categories(world, writer, err);
    struct manifest manifest = {.m = m, .n = n, .d = d};
    if (code == 0)
        code = generation_finish(writer, &manifest, err);
    if (code == 0)
        code = live ? generation_publish(writer, err) : generation_keep(writer, err);
    generation_end(writer);
    free(matrix);
    return code;
}

static inline int world_publish(const struct world *world, struct store *store, enum blob_dtype dtype,
    char name[STORE_GENERATION_MAX], struct err *err)
{
    return world_write(world, store, dtype, true, name, err);
}

#endif
