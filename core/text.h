/* From texts to tokens and sessions (DESIGN, "Item text" and "Sessions"; SPAR, section 4.1). */
#ifndef EMBSUM_CORE_TEXT_H
#define EMBSUM_CORE_TEXT_H

#include "core/model_config.h"
#include "core/tokenizer.h"

/* The columns of one item; an absent one is empty. */
struct text_item {
    struct {
        const char *bytes;
        size_t len;
    } column[TEXT_COLUMNS];
};

/* The most tokens that one item can have: SOS, the fields' limits, </s>. */
size_t text_item_max(const struct model_config *config);

/* ids = [SOS] field field ... </s>; room for text_item_max() ids. Each field that is not empty is tokenised
 * as prefix + value + suffix by itself and cut to its limit. scratch is used between calls by one thread;
 * zeroed at first, freed with text_scratch_done. */
struct text_scratch {
    char *bytes;
    size_t size;
};
int text_item_tokens(const struct model_config *config, const struct tokenizer *tokenizer,
    const struct text_item *item, int32_t *ids, size_t *count, struct text_scratch *scratch, struct err *err);
void text_scratch_done(struct text_scratch *scratch);

/* Of a history of `items` items (oldest first, those without a text already dropped) the first that is used:
 * the first session boundary, counted from the oldest item, that leaves at most max_items. */
size_t text_window_start(const struct model_config *config, size_t items);

#endif
