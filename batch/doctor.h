/* What `embsum doctor` looks at. Every check ends in a finding: how it stands, what was found and, where all is not well, what
 * to do about it. Findings are told as they come, so that one can see where it stops.
 *
 * It is run on production: no check writes what stays, waits for a lock, or reads more than a sample. */
#ifndef EMBSUM_BATCH_DOCTOR_H
#define EMBSUM_BATCH_DOCTOR_H

#include "batch/screen.h"
#include "config/config.h"
#include "store/manifest.h"
#include "store/store_inspect.h"

#include <stdbool.h>
#include <stddef.h>

enum finding { FINDING_OK, FINDING_WARNING, FINDING_ERROR, FINDINGS };

struct doctor {
    const struct screen *screen;
    bool as_json; /* a line of JSON for each finding */
    size_t findings[FINDINGS];
    struct config config; /* the file's, or the defaults */
    bool configured;      /* there is a file */
    /* Of the store's live generation, once it has been looked at; "" before. */
    char live[STORE_GENERATION_MAX];
    struct manifest manifest;
};

/* check: a word for machines, "store.eviction"; todo: one sentence, NULL where all is well. */
void doctor_tell(struct doctor *doctor, enum finding finding, const char *check, const char *todo,
    const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The same with the message of a failed call. */
void doctor_tell_err(struct doctor *doctor, const char *check, const char *todo, const struct err *err);

/* "12.3 GiB" */
void doctor_bytes(char out[32], double bytes);

/* Libraries, as they are loaded beside those that this program was built with. */
void doctor_libraries(struct doctor *doctor);
/* Processor, memory, limits; files below root, which is "" but in tests. */
void doctor_machine(struct doctor *doctor, const char *root);
/* Each fast kernel beside its plain twin. */
void doctor_kernels(struct doctor *doctor);
/* Does a fast result agree with the plain one? The relative distance of all numbers; NaN never does. */
bool doctor_agree(const float *fast, const float *plain, size_t count, double tolerance);
/* The daemon's configuration; NULL: none is looked at. False: it is of no use. */
bool doctor_config(struct doctor *doctor, const char *path);
/* The store that is configured, and its live generation. */
void doctor_store(struct doctor *doctor);
void doctor_generation(struct doctor *doctor, struct store_link *link, const struct store_inspection *it);
/* Bytes that one more generation like the live one takes, about. */
double doctor_generation_bytes(const struct doctor *doctor, bool in_memory);
/* A model's folder, by itself and beside the live generation. */
void doctor_model(struct doctor *doctor, const char *dir);

#endif
