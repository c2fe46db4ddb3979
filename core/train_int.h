/* Shared by core/train.c and core/train_users.c alone. */
#ifndef EMBSUM_CORE_TRAIN_INT_H
#define EMBSUM_CORE_TRAIN_INT_H

#include "core/score_train.h"
#include "core/t5_int.h"
#include "core/train_pack.h"

struct trainer {
    const struct model *model;
    struct t5_scratch *t5;
    struct t5_tape *encoder, *decoder;
    struct score_tape *score;
    struct train_pack pack;
    struct buffer states, dstates;      /* of all sequences' tokens */
    struct buffer contents, dcontents;  /* B of each candidate sequence */
    struct buffer source, dsource;      /* the states that a group of users' decoders read */
    struct buffer hidden, dhidden;      /* of its summaries */
    struct buffer z, dz, users, dusers; /* its Z and A */
    struct buffer poly;
    size_t *offsets, *relative; /* of a group: summaries | sources | Z, each `count` + 1 */
    int32_t *fed;               /* what its decoders are fed, then their targets */
    double *scores;             /* one example's, then their gradient */
    uint32_t *which;            /* its candidates */
    unsigned char *own;         /* contents that are no negatives of its user */
    size_t offsets_size, relative_size, fed_size, scores_size, which_size, own_size;
};

/* A micro-batch while it is worked on. */
struct train_work {
    struct trainer *t;
    const struct train_example *examples;
    size_t count;
    const struct train_objective *objective;
    float *grads;
    struct train_loss *loss;
    size_t tape_first, tape_count; /* sequences whose activations are on the encoder's tape now */
};

/* Dropout of one pass of the micro-batch; each stream has coins of its own. */
struct t5_dropout train_dropout(const struct train_work *work, uint64_t stream);

/* From the states of the sequences to L of the examples first .. first + *count - 1, and back to the gradients of the states
 * and of all parameters on the way, except the contents' part, which stays on the score's tape. As many users are taken
 * at once as have their sources on the decoder's tape. */
int train_users(struct train_work *work, size_t first, size_t *count, struct err *err);

#endif
