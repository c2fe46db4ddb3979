/* A training run on disk, so that it goes on bit for bit where it was: parameters, Adam's moments and counters in one
 * file, OUT/train.safetensors, that is replaced in one step. The model itself (OUT/model.safetensors, usable by every
 * command) is written beside it. */
#ifndef EMBSUM_BATCH_CHECKPOINT_H
#define EMBSUM_BATCH_CHECKPOINT_H

#include "batch/validation.h"
#include "core/model.h"
#include "core/optimizer.h"

struct checkpoint {
    size_t step;        /* optimizer steps taken */
    size_t epoch, next; /* the epoch, and the first example of its order that was not used yet */
    size_t workers;     /* threads of all ranks: with as many it goes on bit for bit */
    struct validation_state validation;
    char run[17]; /* identifies data and settings: a run is resumed only as itself */
};

int checkpoint_save(const char *dir, const struct checkpoint *checkpoint, const struct model *model,
    const struct optimizer *optimizer, struct err *err);

/* ERR_NOT_FOUND if there is none; ERR_INVALID if it is of another run or model. model and optimizer are written only when
 * all is well. */
int checkpoint_load(const char *dir, struct checkpoint *checkpoint, struct model *model,
    struct optimizer *optimizer, struct err *err);

#endif
