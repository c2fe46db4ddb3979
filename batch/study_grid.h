/* What a study varies: each axis alone, around one base. A value that the base has is the base itself, so that the runs of
 * the base serve all axes. */
#ifndef EMBSUM_BATCH_STUDY_GRID_H
#define EMBSUM_BATCH_STUDY_GRID_H

#include "core/model_config.h"

enum study_axis { STUDY_ABLATION, STUDY_M, STUDY_N, STUDY_SESSION_SIZE, STUDY_AXES };
enum { STUDY_VALUES = 16, STUDY_SEEDS = 32 };

struct study_variant {
    char name[40]; /* base, no_cpe, m8, n2, session_size8 */
    struct model_config config;
};

/* A value of an axis: a number, or an enum ablation. */
struct study_value {
    size_t value, variant;
};

struct study_grid {
    struct study_variant variants[1 + STUDY_AXES * STUDY_VALUES]; /* the first is the base */
    size_t variant_count;
    struct study_value values[STUDY_AXES]
                             [STUDY_VALUES]; /* the base's is among them: the first ablation, else in order */
    size_t value_count[STUDY_AXES];          /* 0: the axis is not varied */
    unsigned long seeds[STUDY_SEEDS];
    size_t seed_count;
};

/* lists: for each axis values with commas between, "4,8,16" or "no_cpe,no_upe", or NULL; seeds the same. Every variant's
 * config is checked. ERR_INVALID, with the list's option in the message. */
int study_grid_make(struct study_grid *grid, const struct model_config *base,
    const char *const lists[STUDY_AXES], const char *seeds, struct err *err);

/* "ablation", "m", "n", "session_size": in names and JSON. */
const char *study_axis_name(enum study_axis axis);

/* The name of a run of a variant: its folder. */
void study_run_name(char out[64], const struct study_grid *grid, size_t variant, size_t seed);

#endif
