/* EmbSum's score as fast as the processor allows: matrices kept in the layout that the kernels read, in float32,
 * bfloat16 or int8 with a scale a row; one kernel for each kind of processor, chosen when a scorer is made.
 * core/score.h has the mathematics and the plain version, which judges this one.
 *
 *     scorer_new(&scorer, SCORER_BF16, NULL, m, n, d, &err);
 *     scorer_pack_user(scorer, user, a);                                user: scorer_user_bytes()
 *     scorer_pack_content(scorer, content, b, gate);                    content: scorer_content_bytes()
 *     scorer_run(scorer, scores, &user, 1, contents, count);
 *
 * A scorer does not change once it is made: any number of threads may use it. No function but scorer_new allocates.
 * Packed matrices are aligned to 64 bytes and are good for scorers of the same dtype, kernel and shapes only. */
#ifndef EMBSUM_CORE_SCORER_H
#define EMBSUM_CORE_SCORER_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

/* SCORER_F32_INT8 keeps float32 and int8 beside each other: all answers are those of SCORER_F32, and scorer_best() finds
 * the best of them faster. */
enum scorer_dtype { SCORER_F32, SCORER_BF16, SCORER_INT8, SCORER_F32_INT8, SCORER_DTYPES };
const char *scorer_dtype_name(enum scorer_dtype dtype); /* "float32", "bfloat16", "int8", "float32+int8" */

struct scorer;

/* kernel: NULL takes the fastest that this processor has for the dtype, else a name of scorer_kernel_name().
 * ERR_INVALID for a name that is none, and for one that this processor cannot run (the message says which it can). */
int scorer_new(struct scorer **out, enum scorer_dtype dtype, const char *kernel, size_t m, size_t n, size_t d,
    struct err *err);
void scorer_free(struct scorer *scorer); /* NULL is allowed */

/* All kernels, the plain one first, for tests and for --help: NULL behind the last. */
const char *scorer_kernel_name(size_t i);
bool scorer_kernel_runs(size_t i, enum scorer_dtype dtype); /* on this processor */
const char *scorer_kernel(const struct scorer *scorer);     /* the one in use */

size_t scorer_user_bytes(const struct scorer *scorer);
size_t scorer_content_bytes(const struct scorer *scorer);
void scorer_pack_user(const struct scorer *scorer, void *user, const float *a);
void scorer_pack_content(const struct scorer *scorer, void *content, const float *b, const float *gate);
/* The numbers that are really scored, as float32. Either of b and gate may be NULL. */
void scorer_unpack_user(const struct scorer *scorer, float *a, const void *user);
void scorer_unpack_content(const struct scorer *scorer, float *b, float *gate, const void *content);

/* scores[u x count + c] of users[u] and contents[c]. Contents are scattered; each is read from memory once for all
 * users. A score lies between the smallest and the largest similarity of its pair. */
void scorer_run(const struct scorer *scorer, float *scores, const void *const *users, size_t user_count,
    const void *const *contents, size_t count);

/* What may be among the k best of `count` contents. kept[c] is 1 if contents[c] may be, and then scores[c] is what
 * scorer_run() gives, bit for bit; else kept[c] is 0, scores[c] means nothing, and what scorer_run() gives is proven to
 * be smaller than the k-th best score of these contents, or than floor (-INFINITY for none). Contents as good as the
 * k-th best are kept, and so is a score of NaN. Returns how many are kept: that many were scored in float32.
 *
 * scratch: scorer_best_bytes(scorer, count, k), aligned to 64. It is SCORER_F32_INT8 that makes this fast; a scorer of
 * another dtype, or on a kernel that cannot bound its error (the plain one), scores and keeps everything. */
size_t scorer_best_bytes(const struct scorer *scorer, size_t count, size_t k);
size_t scorer_best(const struct scorer *scorer, float *scores, unsigned char *kept, const void *user,
    const void *const *contents, size_t count, size_t k, float floor, void *scratch);

/* gate (rows x d) = gelu(b (rows x d) W_s) in float32 or, for bfloat16 and int8, from operands rounded to bfloat16
 * where the processor multiplies those. proj: W_s (d x d) packed once into scorer_proj_bytes(), aligned to 64. */
size_t scorer_proj_bytes(const struct scorer *scorer);
void scorer_pack_proj(const struct scorer *scorer, void *proj, const float *score_proj);
void scorer_gate(const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows);

#endif
