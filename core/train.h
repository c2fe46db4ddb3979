/* EmbSum's training objective with its gradient (EmbSum, section 2 "Training").
 *
 *     L = L_NCE + lambda L_sum
 *     L_NCE = -log(exp(s+) / (exp(s+) + sum_j exp(s-_j)))       scores of the impression's candidates
 *     L_sum = -sum_j log p(y_j | E, y_<j)                        the summary's tokens under teacher forcing
 *
 * A trainer is a model and one thread's scratch. Several threads each work on micro-batches of their own and add to
 * gradients of their own.
 */
#ifndef EMBSUM_CORE_TRAIN_H
#define EMBSUM_CORE_TRAIN_H

#include "core/encode.h"
#include "core/t5_train.h"

/* One impression. Items that share their ids (the same pointer) are the same text: what several examples of a
 * micro-batch have in common is encoded once. */
struct train_example {
    size_t user;                       /* examples of one user lend each other no negatives */
    const struct encode_item *history; /* from text_window_start on, oldest first */
    size_t history_count;
    const struct encode_item *candidates; /* the positive first, then its negatives */
    size_t candidate_count;
    const int32_t *summary; /* the target's tokens, </s> last; NULL where there is none */
    size_t summary_count;
};

struct train_objective {
    double lambda;
    double scale;              /* of each example's L: 1 / the batch's size for a mean */
    struct t5_dropout dropout; /* rate 0: none */
    size_t
        shared_negatives; /* at most so many candidates of a micro-batch's other users, beside the example's own */
};

struct train_loss {
    double nce, sum; /* over examples, each multiplied with its scale; sum without lambda */
    size_t tokens;   /* of histories and candidates, as the examples have them */
    size_t encoded;  /* of these, those that went through the encoder */
};

struct trainer;
int trainer_new(struct trainer **out, const struct model *model, struct err *err);
void trainer_free(struct trainer *trainer);

/* One micro-batch: grads (laid out like model->params) += the gradient of the sum over examples of scale x L, and *loss +=
 * its values. A user without a summary is fed the start alone, and its z is trained by L_NCE only. Memory is that of the
 * states of the distinct texts, and the activations of at most TRAIN_TAPE_TOKENS tokens (or of the longest sequence). */
enum { TRAIN_TAPE_TOKENS = 2048 };
int train_examples(struct trainer *trainer, float *grads, struct train_loss *loss,
    const struct train_example *examples, size_t count, const struct train_objective *objective,
    struct err *err);

#endif
