/* EmbSum's training objective for one impression, with its gradient (EmbSum, section 2 "Training").
 *
 *     L = L_NCE + lambda L_sum
 *     L_NCE = -log(exp(s+) / (exp(s+) + sum_j exp(s-_j)))       scores of the impression's candidates
 *     L_sum = -sum_j log p(y_j | E, y_<j)                        the summary's tokens under teacher forcing
 *
 * A trainer is a model and one thread's scratch. Several threads each work on examples of their own and add to
 * gradients of their own.
 */
#ifndef EMBSUM_CORE_TRAIN_H
#define EMBSUM_CORE_TRAIN_H

#include "core/encode.h"
#include "core/t5_train.h"

struct train_example {
    const struct encode_item *history; /* from text_window_start on, oldest first */
    size_t history_count;
    const struct encode_item *candidates; /* the positive first, then its negatives */
    size_t candidate_count;
    const int32_t *summary; /* the target's tokens, </s> last; NULL where there is none */
    size_t summary_count;
};

struct train_loss {
    double nce, sum; /* summed over examples, each multiplied with its scale; sum without lambda */
    size_t examples, summary_tokens, tokens;
};

struct trainer;
int trainer_new(struct trainer **out, const struct model *model, struct err *err);
void trainer_free(struct trainer *trainer);

/* grads (laid out like model->params) += scale x the gradient of the example's L, and *loss += its values. A user without
 * a summary is fed the start alone, and its z is trained by L_NCE only. Dropout's rate 0 means none. */
int train_example(struct trainer *trainer, float *grads, struct train_loss *loss,
    const struct train_example *example, double lambda, double scale, struct t5_dropout dropout,
    struct err *err);

#endif
