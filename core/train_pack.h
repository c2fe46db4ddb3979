/* The distinct token sequences of a few training examples, packed one behind the other.
 *
 * The impressions of one user share most of their sessions, and a content is a candidate of many impressions; what is
 * the same text is encoded once, and its gradient is the sum over its uses. */
#ifndef EMBSUM_CORE_TRAIN_PACK_H
#define EMBSUM_CORE_TRAIN_PACK_H

#include "core/train.h"

struct train_pack_sequence {
    const struct encode_item *items;
    size_t count;
};

/* Sequence s is ids[offsets[s] .. offsets[s + 1]). The candidates' come first, so that their states are one block; the
 * history's that are no candidates follow. Example e's sequences are uses[first[e] .. first[e + 1]): its sessions, oldest
 * first, then its candidates. Zero-initialise; the memory is kept from one packing to the next. */
struct train_pack {
    int32_t *ids;
    size_t *offsets, *first;
    uint32_t *uses;
    struct train_pack_sequence *sequences;
    size_t count, content_count; /* sequences, and how many of them are candidates' */
    size_t use_tokens;           /* tokens of all uses: what would be encoded if nothing were shared */

    uint32_t *table; /* of 1 + a sequence's index by hash, open addressing */
    size_t ids_size, offsets_size, first_size, uses_size, sequences_size, table_size;
    struct encode_item empty; /* [SOS] </s>, the one session of an empty history */
    int32_t empty_ids[2];
};

int train_pack(struct train_pack *pack, const struct model_config *config,
    const struct train_example *examples, size_t count, struct err *err);
/* Index of the content, or -1 if the item is no candidate of any example. */
ptrdiff_t train_pack_content(const struct train_pack *pack, const struct encode_item *item);
void train_pack_done(struct train_pack *pack);

#endif
