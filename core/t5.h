/* T5's encoder and decoder (Raffel et al. 2020, arXiv 1910.10683; the details as in Hugging Face's T5: no
 * scale in attention, relative position buckets shared by all layers, layer norm without mean and before each
 * sublayer).
 *
 * There is no padding: the tokens of a batch lie one behind the other, and only attention knows where a
 * sequence ends, so a sequence may have any length and a batch any mixture of lengths.
 *
 * A t5_scratch belongs to one thread and grows to what its largest batch needs.
 */
#ifndef EMBSUM_CORE_T5_H
#define EMBSUM_CORE_T5_H

#include "core/cross.h"
#include "core/model.h"

struct t5_scratch;
int t5_scratch_new(struct t5_scratch **out, struct err *err);
void t5_scratch_free(struct t5_scratch *scratch);

/* states (T x d) = the encoder's states, after the final layer norm, of `count` sequences: sequence s is
 * ids[offsets[s] .. offsets[s + 1]), offsets[0] = 0, T = offsets[count]. Ids lie below vocab_size. */
int t5_encode(float *states, const struct model *model, const int32_t *ids, const size_t *offsets,
    size_t count, struct t5_scratch *scratch, struct err *err);

/* What the decoder reads for one user, and what it writes. */
struct t5_summary {
    struct cross_source source; /* the encoder's states of all sessions, oldest first */
    int32_t *tokens;            /* room for max_summary_tokens: the generated ids without </s> */
    size_t token_count;
    float *z; /* d: the state that predicts </s> (DESIGN, "Summary state") */
};

/* Greedy generation for any number of users: some are in flight at a time, and one that has finished makes room for the
 * next, so that memory does not grow with their number. */
int t5_generate(struct t5_summary *users, size_t count, const struct model *model, struct t5_scratch *scratch,
    struct err *err);

/* The bucket of a relative position (key's position - query's). The encoder is bidirectional, the decoder is
 * not. */
size_t t5_bucket(long relative, bool bidirectional, size_t buckets, size_t max_distance);

#endif
