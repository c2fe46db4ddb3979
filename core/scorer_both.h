/* Float32 and int8 of the same matrices in one block, SCORER_F32_INT8. For core/scorer*.c alone.
 *
 *     user      int8 layout of A | of what that leaves of A | rows of both | struct scorer_known of both passes | sums of
 *               rows | float32 layout
 *     content   int8 layout | shifts, means and norms of its rows (core/scorer_bound.h) | int8 layout of what the first
 *               leaves | float32 layout
 *
 * Every part is aligned to 64 bytes. Who looks for the best reads the first int8 layout of all contents, the second of
 * some and the float32 layout of a few. */
#ifndef EMBSUM_CORE_SCORER_BOTH_H
#define EMBSUM_CORE_SCORER_BOTH_H

#include "core/scorer_bound.h"

int scorer_both_new(struct scorer **out, const char *kernel, size_t m, size_t n, size_t d, struct err *err);
void scorer_both_done(struct scorer *scorer);

void scorer_both_pack_user(const struct scorer *scorer, void *user, const float *a);
void scorer_both_pack_content(const struct scorer *scorer, void *content, const float *b, const float *gate);
void scorer_both_run(const struct scorer *scorer, float *scores, const void *const *users, size_t user_count,
    const void *const *contents, size_t count);

/* The parts of a packed user or content. */
struct scorer_bound_user scorer_both_bound_user(const struct scorer *scorer, const void *user);
struct scorer_bound_content scorer_both_bound_content(const struct scorer *scorer, const void *content);
const void *scorer_both_user(const struct scorer *scorer, const void *user);
const void *scorer_both_content(const struct scorer *scorer, const void *content);
size_t scorer_both_first_bytes(const struct scorer *scorer); /* before a content's float32 layout */

#endif
