/* The figures of an evaluation by their names: for JSON, tables and studies. */
#ifndef EMBSUM_BATCH_EVAL_FIGURES_H
#define EMBSUM_BATCH_EVAL_FIGURES_H

#include "batch/eval_job.h"

#include <jansson.h>

/* auc, mrr, ndcg@5, ndcg@10, auc_pooled, mrr_first, in this order. */
enum { EVAL_FIGURES = 6 };
const char *eval_figure_name(size_t index);
double eval_figure(const struct eval_result *result, size_t index); /* NaN where there is none */

/* An object with "impressions", "skipped" and the figures; a figure that is NaN is null. The caller's to decref; NULL when
 * memory is short. */
json_t *eval_figures_json(const struct eval_result *result, struct err *err);

/* Back from such an object; ERR_INVALID, and nothing written, if it is none. */
int eval_figures_parse(struct eval_result *out, const json_t *object);

/* How such an object is to be written: in its order, with digits enough. */
#define EVAL_FIGURES_FORMAT (JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12))

#endif
