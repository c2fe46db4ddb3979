/* What a queue of work is about, as JSON in the store: who helps looks here first whether it can. */
#ifndef EMBSUM_BATCH_FARM_JOB_H
#define EMBSUM_BATCH_FARM_JOB_H

#include "core/linear.h"
#include "store/store.h"

struct farm_job {
    uint64_t number;         /* that no other job has */
    uint64_t settings;       /* of the model, its dtype among them (struct workspace's model_hash) */
    char model_sha256[65];   /* of model.safetensors */
    enum linear_dtype dtype; /* that texts are encoded in */
    int silent_ms;           /* after which a unit goes to another worker */
    char generation[STORE_GENERATION_MAX];
};

/* The malloc'ed text; NULL: no memory. */
char *farm_job_write(const struct farm_job *job);

/* ERR_INVALID for text that is no job, or one of a later version. */
int farm_job_read(struct farm_job *job, const char *text, struct err *err);

#endif
