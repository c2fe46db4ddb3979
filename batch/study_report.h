/* What a study found: means and spreads over the seeds, differences to the base, and whether those are beyond the spread. */
#ifndef EMBSUM_BATCH_STUDY_REPORT_H
#define EMBSUM_BATCH_STUDY_REPORT_H

#include "batch/study_run.h"

#include <stdio.h>

/* One figure of one variant over the seeds whose runs are done. */
struct study_figure {
    size_t runs;
    double mean, low, high; /* NaN without a run */
    /* To the base, over the seeds that both have: */
    size_t pairs;
    double difference, difference_low, difference_high;
};

/* figure: an index of batch/eval_figures.h. */
struct study_figure study_figure(const struct study *study, size_t variant, size_t figure);

/* Is a difference to the base more than what another seed does? Beyond the spread it is where the two ranges over the seeds
 * do not touch: the best run of one is worse than the worst run of the other. */
enum study_verdict { STUDY_LOWER, STUDY_HIGHER, STUDY_WITHIN, STUDY_UNKNOWN /* less than two seeds */ };
enum study_verdict study_verdict(const struct study_figure *figure, const struct study_figure *base);

/* The ablation table and the size curves as text. */
void study_print(const struct study *study, FILE *stream);

/* Write DIR/study.json and DIR/study.svg from the runs that are done. */
int study_write(const struct study *study, struct err *err);

/* The two of them (batch/study_json.c, batch/study_draw.c). */
int study_json(const struct study *study, const char *path, struct err *err);
int study_draw(const struct study *study, const char *path, struct err *err);

#endif
