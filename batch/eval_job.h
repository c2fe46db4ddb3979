/* Score every impression of a behaviors.tsv with a model, and judge the rankings (core/metrics.h).
 *
 * The file is read twice: first to learn which contents occur and to refuse bad rows before the work begins,
 * then impression by impression. Contents are encoded once. Memory is B and G of every content that occurs
 * (2 n d floats each), a chunk of impressions with their users' matrices (batch/eval_chunk.h), and 4 bytes a
 * labelled candidate for the pooled AUC; all of it twice where two dtypes are compared. Results do not depend on the number of threads.
 */
#ifndef EMBSUM_BATCH_EVAL_JOB_H
#define EMBSUM_BATCH_EVAL_JOB_H

#include "batch/eval_agreement.h"
#include "batch/impressions.h"
#include "batch/workspace.h"
#include "core/metrics.h"

struct eval_options {
    struct impressions_options impressions;
    const char *predictions; /* prediction.txt, replaced in one step at the end; or NULL */
    long threads;            /* 0: one a core */
    bool quiet;
};

struct eval_result {
    size_t impressions; /* all that were scored */
    size_t skipped;     /* those of them without a positive or without a negative: in no mean */
    struct metrics mean;
    double auc_pooled; /* this and the means are NaN where there is nothing to take them over */
};

/* Of the workspace the model, the news and their tokens are used. Ends early with ERR_UNAVAILABLE when SIGINT
 * or SIGTERM has come (batch/stop.h). */
int eval_job(struct eval_result *out, const struct workspace *workspace, const struct eval_options *options,
    struct err *err);

/* The same in the workspace's dtype and in another, the reference, in one pass: both results, what eval_job() gives for
 * each alone, and how far they agree. Users are a chunk's distinct histories. Predictions are the workspace's dtype's.
 * eval_agreement_done() frees what `out` holds. */
struct eval_comparison {
    struct eval_result found, reference;
    struct eval_agreement agreement;
};
int eval_job_against(struct eval_comparison *out, const struct workspace *workspace,
    enum linear_dtype reference, const struct eval_options *options, struct err *err);

#endif
