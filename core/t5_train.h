/* T5 with what training needs: a forward pass that keeps its activations on a tape, and the backward pass over it.
 *
 * Gradients have the layout of model->params and are added to, so that a batch can be summed over micro-batches.
 * A tape belongs to one pass over one batch of sequences; its memory is kept for the next.
 */
#ifndef EMBSUM_CORE_T5_TRAIN_H
#define EMBSUM_CORE_T5_TRAIN_H

#include "core/t5.h"

struct t5_tape;
int t5_tape_new(struct t5_tape **out, struct err *err);
void t5_tape_free(struct t5_tape *tape);

/* Dropout of a pass. The same seed drops the same elements. */
struct t5_dropout {
    float rate; /* 0: none */
    uint64_t seed;
};

/* As t5_encode, with dropout, and kept on the tape. ids and offsets must live until the backward pass. */
int t5_encode_forward(float *states, struct t5_tape *tape, const struct model *model, const int32_t *ids,
    const size_t *offsets, size_t count, struct t5_dropout dropout, struct t5_scratch *scratch,
    struct err *err);

/* grads += from dstates (T x d), which is overwritten. */
int t5_encode_backward(float *grads, float *dstates, const struct t5_tape *tape, const struct model *model,
    struct t5_scratch *scratch, struct err *err);

/* Teacher forcing: sequence s is fed ids[offsets[s] .. offsets[s + 1]) (the decoder's start, then the summary without its
 * last token) and reads the rows source_offsets[s] .. source_offsets[s + 1) of source. hidden (T x d) = the states after the
 * final layer norm. source must live until the backward pass. */
struct t5_teacher {
    const int32_t *ids;
    const size_t *offsets;
    const float *source;
    const size_t *source_offsets;
    size_t count;
};
int t5_decode_forward(float *hidden, struct t5_tape *tape, const struct model *model,
    const struct t5_teacher *teacher, struct t5_dropout dropout, struct t5_scratch *scratch, struct err *err);

/* grads += and dsource += from dhidden (T x d), which is overwritten. */
int t5_decode_backward(float *grads, float *dsource, float *dhidden, const struct t5_tape *tape,
    const struct model *model, const struct t5_teacher *teacher, struct t5_scratch *scratch, struct err *err);

/* *loss += scale x the sum over rows of -log softmax(hidden E^T)[target]; grads += and dhidden (rows x d) += its
 * gradients. A row whose target is negative takes no part. The logits of a few rows are all that is ever in memory. */
int t5_cross_entropy(double *loss, float *grads, float *dhidden, const float *hidden, const int32_t *targets,
    size_t rows, double scale, const struct model *model, struct t5_scratch *scratch, struct err *err);

#endif
