/* From tokens to the matrices that are scored: A of a user (UPE) and B of a content (CPE), EmbSum section 2.
 *
 * An encoder is a model and one thread's scratch. The model is shared; each thread has an encoder of its own.
 */
#ifndef EMBSUM_CORE_ENCODE_H
#define EMBSUM_CORE_ENCODE_H

#include "core/model.h"

struct encoder;
int encoder_new(struct encoder **out, const struct model *model, struct err *err);
void encoder_free(struct encoder *encoder);

/* The tokens of one item, [SOS] ... </s> (core/text.h). */
struct encode_item {
    const int32_t *ids;
    size_t count;
};

/* b (count x n x d) = CPE of each item. */
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
 * all users of the call, d floats each: 2 KiB a token at T5-small's size. */
int encode_users(float *a, struct encoder *encoder, struct encode_user *users, size_t count, struct err *err);

#endif
