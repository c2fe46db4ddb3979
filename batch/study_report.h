/* What a finished study says: the table of the ablations and the curves of the sizes, as text, JSON and SVG. */
#ifndef EMBSUM_BATCH_STUDY_REPORT_H
#define EMBSUM_BATCH_STUDY_REPORT_H

#include "batch/study_run.h"

/* All results of the study must be done. Text to the stream; DIR/study.json and DIR/study.svg, each replaced in one step.
 *
 * A variant is called better or worse than the base only if its seeds and the base's do not overlap; what lies within the
 * spread of the seeds is said to. */
void study_report_text(FILE *stream, const struct study *study);
int study_report_write(const struct study *study, struct err *err);

#endif
