/* The program of a kernel, written once over vectors of any width. A core/cross_<kernel>.c includes it behind its target
 * pragma, having said what fits into its registers:
 *
 *     TILE_HEADS    heads of a group, 4 or 8
 *     TILE_TOKENS   tokens whose scores with a group are summed at a time, 1 to 4
 *
 * Every block of tokens is read twice, from memory for its scores and from the L2 cache for the sums. Scores: TILE_HEADS
 * x TILE_TOKENS dot products along d. Lanes are added up in fours, which leaves the scores of 4 heads beside each other,
 * so that scores lie token by token, the group's heads in each, and softmax is elementwise in all but its last step. The
 * sums: two vectors of columns and all heads of the group at a time, over the tokens of the block.
 *
 * A chunk is the 2 x VEC_LANES numbers of a row that are worked on together. Queries and sums are kept as
 * [group][chunk][half][head], each a vector: the order in which both products walk through them. */
#ifndef EMBSUM_CORE_CROSS_TILE_H
#define EMBSUM_CORE_CROSS_TILE_H

#include "core/cross_int.h"
#include "core/simd_vec.h"

#include <float.h>
#include <string.h>

/* How states are read. In both of bfloat16's the halves of a chunk are its even and its odd columns, as widening leaves
 * them. PAIRS multiplies two neighbours at once: columns for the scores (one half), tokens for the sums. */
enum cross_form { FORM_F32, FORM_WIDENED, FORM_PAIRS };

enum { CHUNK = 2 * VEC_LANES };

/* The kernel's entry for one way of reading and multiplying. */
#define CROSS_RUN(name, form, mac)                                                                           \
    static void name(float *context, const float *query, const struct cross_source *source, size_t heads,    \
        size_t d, float *scratch)                                                                            \
    {                                                                                                        \
        attend(context, query, source, heads, d, scratch, form, mac);                                        \
    }

typedef vec cross_mac(vec sum, vec a, vec b); /* sum + a b, in each lane */
typedef uint32_t vecu_unaligned __attribute__((vector_size(TILE_BYTES), may_alias, aligned(2)));
typedef float vec4 __attribute__((vector_size(16), may_alias));

TILE_INLINE size_t chunk_bytes(enum cross_form form)
{
    return form == FORM_F32 ? 2 * TILE_BYTES : TILE_BYTES;
}

TILE_INLINE vecu load(const char *at)
{
    return (vecu) * (const vecu_unaligned *)at;
}

TILE_INLINE vec mac_f32(vec sum, vec a, vec b)
{
    return vec_muladd(a, b, sum);
}

/* The upper 16 bits of a float32, rounded to nearest even; the lower ones are 0. */
TILE_INLINE vecu rounded(vec x)
{
    const vecu bits = (vecu)x;
    return (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
}

/* ---- queries in, sums out ---- */

/* a[0], b[0], a[1], b[1], ...: their first half or their second. */
TILE_INLINE vec zipped(vec a, vec b, int half)
{
    veci lanes;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) lanes[i] = (half * VEC_LANES + i) / 2 + i % 2 * VEC_LANES;
    return __builtin_shuffle(a, b, lanes);
}

/* Every second number of a and b, from the first or from the second on. */
TILE_INLINE vec unzipped(vec a, vec b, int first)
{
    veci lanes;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) lanes[i] = 2 * i + first;
    return __builtin_shuffle(a, b, lanes);
}

/* A whole chunk by its size, without a call. */
TILE_INLINE void copy_chunk(float *dst, const float *src, size_t some)
{
    if (some == CHUNK)
        memcpy(dst, src, CHUNK * sizeof *dst);
    else
        memcpy(dst, src, some * sizeof *dst);
}

/* The queries of a group, whose heads beyond the last are zero. */
TILE_INLINE void pack_queries(
    vec *packed, const float *query, size_t live, size_t d, int heads, enum cross_form form)
{
    const int halves = form == FORM_PAIRS ? 1 : 2;
    for (size_t at = 0; at < d; at += CHUNK, packed += heads * halves) {
        const size_t some = d - at < CHUNK ? d - at : CHUNK;
        for (int h = 0; h < heads; h++) {
            vec x[2] = {{0}};
            if ((size_t)h < live)
                copy_chunk((float *)x, query + (size_t)h * d + at, some);
            if (form == FORM_F32) {
                packed[h] = x[0];
                packed[heads + h] = x[1];
                continue;
            }
            const vec even = unzipped(x[0], x[1], 0), odd = unzipped(x[0], x[1], 1);
            if (form == FORM_PAIRS) {
                packed[h] = (vec)(rounded(even) >> 16 | rounded(odd));
            } else {
                packed[h] = even;
                packed[heads + h] = odd;
            }
        }
    }
}

TILE_INLINE void unpack_sums(float *context, const vec *sums, const float *share, size_t live, size_t d,
    int heads, enum cross_form form)
{
    for (size_t at = 0; at < d; at += CHUNK, sums += 2 * heads) {
        const size_t some = d - at < CHUNK ? d - at : CHUNK;
        for (size_t h = 0; h < live; h++) {
            const vec a = sums[h] * share[h], b = sums[(size_t)heads + h] * share[h];
            const vec x[2] = {form == FORM_F32 ? a : zipped(a, b, 0), form == FORM_F32 ? b : zipped(a, b, 1)};
            copy_chunk(context + h * d + at, (const float *)x, some);
        }
    }
}

/* ---- scores ---- */

/* The sums of all lanes of four vectors. */
TILE_INLINE vec4 lane_sums(vec a, vec b, vec c, vec d)
{
    veci low, high, first, second;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++)
    {
        const int lane = i / 4 * 4, other = i % 2 * VEC_LANES;
        low[i] = lane + i % 4 / 2 + other;
        high[i] = lane + 2 + i % 4 / 2 + other;
        first[i] = lane + i % 2 + i % 4 / 2 * VEC_LANES;
        second[i] = lane + 2 + i % 2 + i % 4 / 2 * VEC_LANES;
    }
    const vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high); /* a b a b */
    const vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
    const vec all = __builtin_shuffle(ab, cd, first) + __builtin_shuffle(ab, cd, second); /* a b c d */
#if TILE_BYTES == 16
    return all;
#elif TILE_BYTES == 32
    return __builtin_shufflevector(all, all, 0, 1, 2, 3) + __builtin_shufflevector(all, all, 4, 5, 6, 7);
#else
    const float __attribute__((vector_size(32))) half =
        __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) +
        __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#endif
}

/* Read into a register: as an operand in memory, which the compiler prefers, it would be read for every product, and
 * reads would be what bounds the loop. */
TILE_INLINE vec once(const vec *at)
{
    return *(const volatile vec *)at;
}

/* One half of a chunk of a row, as the queries have it. */
TILE_INLINE vec half_of(const char *chunk, int half, enum cross_form form)
{
    if (form == FORM_F32)
        return (vec)load(chunk + half * TILE_BYTES);
    if (form == FORM_PAIRS)
        return (vec)load(chunk);
    if (half)
        return (vec)(load(chunk) & 0xFFFF0000);
    return (vec)(load(chunk) << 16);
}

/* scores [token][head] of a block. */
TILE_INLINE void block_scores(float *scores, const vec *query, const char *rows, size_t stride, size_t tokens,
    size_t chunks, int heads, enum cross_form form, cross_mac *mac)
{
    const int halves = form == FORM_PAIRS ? 1 : 2;
    for (size_t t = 0; t < tokens; t += TILE_TOKENS) {
        vec sums[TILE_HEADS][TILE_TOKENS] = {{{0}}};
        const vec *q = query;
        const char *chunk = rows + t * stride;
        for (size_t step = 0; step < chunks; step++, chunk += chunk_bytes(form)) {
            for (int half = 0; half < halves; half++, q += heads) {
                vec s[TILE_TOKENS];
                TILE_UNROLL
                for (int k = 0; k < TILE_TOKENS; k++)
                    s[k] = half_of(chunk + (size_t)k * stride, half, form);
                TILE_UNROLL
                for (int h = 0; h < heads; h++) {
                    const vec a = once(&q[h]);
                    TILE_UNROLL
                    for (int k = 0; k < TILE_TOKENS; k++)
                        sums[h][k] = mac(sums[h][k], a, s[k]);
                }
            }
        }
        TILE_UNROLL
        for (int k = 0; k < TILE_TOKENS; k++) {
            float *at = scores + (t + (size_t)k) * (size_t)heads;
            TILE_UNROLL
            for (int h = 0; h < heads; h += 4)
                *(vec4 *)(at + h) = lane_sums(sums[h][k], sums[h + 1][k], sums[h + 2][k], sums[h + 3][k]);
        }
    }
}

/* ---- softmax ---- */

/* Lane i gets that of lane i ^ apart. */
TILE_INLINE vec swapped(vec x, int apart)
{
    veci lanes;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) lanes[i] = i ^ apart;
    return __builtin_shuffle(x, lanes);
}

/* Every `heads` lanes hold the same heads of other tokens: brought together, the largest or the sum, in all of those. */
TILE_INLINE vec together(vec x, int heads, bool largest)
{
    TILE_UNROLL
    for (int apart = VEC_LANES / 2; apart >= heads; apart /= 2) {
        const vec other = swapped(x, apart);
        if (largest)
            x = vec_max(x, other);
        else
            x += other;
    }
    return x;
}

/* Of a group: the largest score so far (the same for all tokens' lanes of a head), the sum of the weights relative to
 * that, and what the sums of earlier blocks are worth now. */
struct group_state {
    vec top, total, fade;
};

/* scores become weights e^(score - top). For PAIRS they are rounded to bfloat16, and two tokens' put together in one unit,
 * which lies where the first of them was. */
TILE_INLINE void block_weights(
    struct group_state *state, float *scores, size_t tokens, int heads, enum cross_form form)
{
    vec *const at = (vec *)scores;
    const size_t vecs = tokens * (size_t)heads / VEC_LANES;
    vec top = state->top;
    for (size_t i = 0; i < vecs; i++)
        top = vec_max(top, at[i]);
    top = together(top, heads, true);
    state->fade = vec_exp_negative(state->top - top);
    state->top = top;
    vec total = state->total * state->fade;
    for (size_t i = 0; i < vecs; i++) {
        vec weight = vec_exp_negative(at[i] - top);
        if (form == FORM_PAIRS) {
            const vecu bits = rounded(weight);
            total += (vec)bits;
            weight = (vec)(bits >> 16 | (vecu)swapped((vec)bits, heads));
        } else {
            total += weight;
        }
        at[i] = weight;
    }
    state->total = total;
}

/* ---- sums ---- */

/* sums = fade sums + weights^T rows, for one group. Meanwhile the block behind is fetched into the L2 cache, line by line
 * as it lies in memory: column by column, as this one is read, memory is slower by a tenth. */
TILE_INLINE void block_sums(vec *sums, const float *fade, const float *weights, const char *rows,
    size_t stride, size_t tokens, size_t chunks, int heads, enum cross_form form, cross_mac *mac)
{
    enum { LINE = 64, L2 = 2 };
    const size_t some = form == FORM_PAIRS ? 2 : 1, bytes = some * chunk_bytes(form);
    const char *next = rows + tokens * stride;
    for (size_t step = 0; step < chunks; step++, sums += 2 * heads) {
        vec sum[TILE_HEADS][2];
        TILE_UNROLL for (int h = 0; h < heads; h++)
        {
            sum[h][0] = sums[h] * fade[h];
            sum[h][1] = sums[heads + h] * fade[h];
        }
        const char *chunk = rows + step * chunk_bytes(form);
        const uint32_t *weight = (const uint32_t *)weights;
        for (size_t t = 0; t < tokens; t += some, chunk += some * stride, weight += some * (size_t)heads) {
            vec s[2];
            if (form == FORM_PAIRS) {
                const vecu a = load(chunk), b = load(chunk + stride);
                s[0] = (vec)((a & 0xFFFF) | b << 16);
                s[1] = (vec)(a >> 16 | (b & 0xFFFF0000));
            } else {
                s[0] = half_of(chunk, 0, form);
                s[1] = half_of(chunk, 1, form);
            }
            for (size_t line = 0; line < bytes; line += LINE)
                __builtin_prefetch(next + line, 0, L2);
            next += bytes;
            TILE_UNROLL for (int h = 0; h < heads; h++)
            {
                const vec w = (vec)vec_all_units(weight[h]);
                sum[h][0] = mac(sum[h][0], w, s[0]);
                sum[h][1] = mac(sum[h][1], w, s[1]);
            }
        }
        TILE_UNROLL for (int h = 0; h < heads; h++)
        {
            sums[h] = sum[h][0];
            sums[heads + h] = sum[h][1];
        }
    }
}

/* ---- all of it ---- */

struct block {
    const char *rows;
    size_t stride, live, tokens, chunks; /* tokens: live ones and those that fill up */
};

TILE_INLINE void group_block(const struct cross_room *room, size_t group, const struct block *block,
    int heads, enum cross_form form, cross_mac *mac)
{
    const size_t first = group * TILE_HEADS * block->chunks, halves = form == FORM_PAIRS ? 1 : 2;
    const vec *query = (const vec *)room->query + halves * first;
    struct group_state *state = (struct group_state *)room->state + group;
    block_scores(
        room->scores, query, block->rows, block->stride, block->tokens, block->chunks, heads, form, mac);
    for (size_t i = block->live * (size_t)heads; i < block->tokens * (size_t)heads; i++)
        room->scores[i] = -FLT_MAX;
    block_weights(state, room->scores, block->tokens, heads, form);
    block_sums((vec *)room->sums + 2 * first, (const float *)&state->fade, room->scores, block->rows,
        block->stride, block->tokens, block->chunks, heads, form, mac);
}

/* The block of tokens from `at` on: where it lies or, if a chunk or a step would reach beyond it, filled up with zeros. */
TILE_INLINE struct block block_at(const struct cross_room *room, const struct cross_source *source, size_t at,
    size_t d, enum cross_form form)
{
    const size_t row = d * (form == FORM_F32 ? 4 : 2), left = source->len - at;
    struct block block = {.rows = (const char *)source->states + at * row,
        .stride = row,
        .live = left < CROSS_BLOCK ? left : CROSS_BLOCK,
        .chunks = (d + CHUNK - 1) / CHUNK};
    block.tokens = (block.live + CROSS_STEP - 1) / CROSS_STEP * CROSS_STEP;
    if (block.tokens == block.live && d % CHUNK == 0)
        return block;
    const size_t whole = block.chunks * chunk_bytes(form);
    char *copy = (char *)room->rows;
    for (size_t t = 0; t < block.tokens; t++, copy += whole) {
        const size_t bytes = t < block.live ? row : 0;
        memcpy(copy, block.rows + t * row, bytes);
        memset(copy + bytes, 0, whole - bytes);
    }
    block.rows = (const char *)room->rows;
    block.stride = whole;
    return block;
}

/* Heads of the group from `h` on: a last one of at most four is taken as four. */
TILE_INLINE int group_heads(size_t heads, size_t h)
{
    return heads - h <= 4 ? 4 : TILE_HEADS;
}

TILE_INLINE void attend(float *context, const float *query, const struct cross_source *source, size_t heads,
    size_t d, float *scratch, enum cross_form form, cross_mac *mac)
{
    const struct cross_room room = cross_divide(scratch, heads, d);
    const size_t chunks = (d + CHUNK - 1) / CHUNK, halves = form == FORM_PAIRS ? 1 : 2;
    for (size_t h = 0, group = 0; h < heads; h += TILE_HEADS, group++) {
        const size_t live = heads - h < TILE_HEADS ? heads - h : TILE_HEADS;
        const int width = group_heads(heads, h);
        pack_queries((vec *)room.query + halves * h * chunks, query + h * d, live, d, width, form);
        memset((vec *)room.sums + 2 * h * chunks, 0, 2 * (size_t)width * chunks * sizeof(vec));
        ((struct group_state *)room.state)[group] = (struct group_state){vec_all(-FLT_MAX), {0}, {0}};
    }
    for (size_t at = 0; at < source->len; at += CROSS_BLOCK) {
        const struct block block = block_at(&room, source, at, d, form);
        for (size_t h = 0; h < heads; h += TILE_HEADS)
            if (group_heads(heads, h) == TILE_HEADS)
                group_block(&room, h / TILE_HEADS, &block, TILE_HEADS, form, mac);
            else
                group_block(&room, h / TILE_HEADS, &block, 4, form, mac);
    }
    for (size_t h = 0, group = 0; h < heads; h += TILE_HEADS, group++) {
        const size_t live = heads - h < TILE_HEADS ? heads - h : TILE_HEADS;
        const int width = group_heads(heads, h);
        const vec share =
            1.0f / together(((const struct group_state *)room.state)[group].total, width, false);
        unpack_sums(context + h * d, (const vec *)room.sums + 2 * h * chunks, (const float *)&share, live, d,
            width, form);
    }
}

#endif
