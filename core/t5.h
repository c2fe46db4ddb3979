/* T5's encoder (Raffel et al. 2020, arXiv 1910.10683; the details as in Hugging Face's T5: no scale in
 * attention, relative position buckets shared by all layers, layer norm without mean and before each sublayer)
 * on weights as they lie: what judges core/engine.h, and what core/t5_train.h, which has the decoder, trains.
 *
 * There is no padding: the tokens of a batch lie one behind the other, and only attention knows where a
 * sequence ends, so a sequence may have any length and a batch any mixture of lengths.
 *
 * A t5_scratch belongs to one thread and grows to what its largest batch needs.
 */
#ifndef EMBSUM_CORE_T5_H
#define EMBSUM_CORE_T5_H

#include "core/model.h"

struct t5_scratch;
int t5_scratch_new(struct t5_scratch **out, struct err *err);
void t5_scratch_free(struct t5_scratch *scratch);

/* states (T x d) = the encoder's states, after the final layer norm, of `count` sequences: sequence s is
 * ids[offsets[s] .. offsets[s + 1]), offsets[0] = 0, T = offsets[count]. Ids lie below vocab_size. */
int t5_encode(float *states, const struct model *model, const int32_t *ids, const size_t *offsets,
    size_t count, struct t5_scratch *scratch, struct err *err);

/* The bucket of a relative position (key's position - query's). The encoder is bidirectional, the decoder is
 * not. */
size_t t5_bucket(long relative, bool bidirectional, size_t buckets, size_t max_distance);

#endif
