/* The tokens of items that were asked for lately, in a bounded piece of memory that threads share: what one user has read
 * others read, too, and a text is tokenised again and again without.
 *
 * Each item has one slot, that of its index modulo their number; who comes later takes it.
 */
#ifndef EMBSUM_BATCH_TOKEN_CACHE_H
#define EMBSUM_BATCH_TOKEN_CACHE_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_cache;

/* For items 0 .. items - 1 of at most `most` tokens each, in about `bytes` of memory at most, of which what is never used
 * is never touched. Slots for fewer than one item are none: nothing is found then. */
int token_cache_new(struct token_cache **out, size_t items, size_t most, size_t bytes, struct err *err);
void token_cache_free(struct token_cache *cache);

/* ids (room for `most`) and *count = the item's tokens, if they are there. Any number of threads may get and put. */
bool token_cache_get(struct token_cache *cache, size_t item, int32_t *ids, size_t *count);
void token_cache_put(struct token_cache *cache, size_t item, const int32_t *ids, size_t count);

#endif
