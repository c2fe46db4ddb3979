/* From tokens to the matrices that are scored: A of a user (UPE) and B of a content (CPE), EmbSum section 2.
 *
 * An encoder is an engine and one thread's scratch. The engine is shared; each thread has an encoder of its own. A
 * content's matrix depends on its tokens alone, bit for bit, and so do a user's matrix and summary.
 */
#ifndef EMBSUM_CORE_ENCODE_H
#define EMBSUM_CORE_ENCODE_H

#include "core/engine.h"

struct encoder;
int encoder_new(struct encoder **out, const struct engine *engine, struct err *err);
void encoder_free(struct encoder *encoder);

/* The tokens of one item, [SOS] ... </s> (core/text.h). */
struct encode_item {
    const int32_t *ids;
    size_t count;
};

/* b (count x n x d) = CPE of each item. Memory grows with the tokens of all items: 4 d bytes each. */
int encode_contents(
    float *b, struct encoder *encoder, const struct encode_item *items, size_t count, struct err *err);

/* A user: the items of the history that are used (from text_window_start on), oldest first; none is the
 * default user. */
struct encode_user {
    const struct encode_item *items;
    size_t item_count;
    int32_t *summary; /* out: the generated ids without </s>, room for max_summary_tokens */
    size_t summary_count;
};

/* Tokens that a user's sessions have: what a batch of users is measured in. */
size_t encode_user_tokens(const struct encode_user *user);

/* a (count x m x d) = UPE of each user, and each user's generated summary. Memory grows with the tokens of
 * all users of the call, d numbers of engine_state_bytes() each: 2 KiB a token at T5-small's size, or 1 KiB. */
int encode_users(float *a, struct encoder *encoder, struct encode_user *users, size_t count, struct err *err);

/* Where the states of users' sessions are kept from one call to the next, outside. `get` is asked for each session, by
 * its tokens, and fills in states (count x d numbers of engine_state_bytes()) or says that it has none; `put` is given
 * those that were computed. The result is the same with and without, bit for bit. Called by the encoder's thread. */
struct encode_cache {
    bool (*get)(void *ctx, const int32_t *ids, size_t count, void *states);
    void (*put)(void *ctx, const int32_t *ids, size_t count, const void *states);
    void *ctx;
};
void encoder_set_cache(struct encoder *encoder, const struct encode_cache *cache); /* NULL: none; copied */

/* What the codes look at. Where it is asked for, each call keeps the softmax of its poly-attentions (for an ablation that has
 * a mean in its place: equal weights), and encoder_weights() gives that of entry i of the last call, until the next: codes
 * (m or n) x *rows. The rows of a content are its tokens; those of a user the items of the history and behind them the
 * summary's state (of ABLATION_NO_LSUM: the items alone; of an empty history one row, whatever it is). */
void encoder_keep_weights(struct encoder *encoder, bool keep);
const float *encoder_weights(const struct encoder *encoder, size_t index, size_t *rows);

/* Tokens that have gone through the encoder so far; those found in the cache have not. */
uint64_t encoder_tokens(const struct encoder *encoder);

#endif
