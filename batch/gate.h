/* What is looked at before matrices go live: a refresh that reads a truncated file, a damaged model, the wrong catalogue,
 * writes matrices that are well-formed and worthless. Every refusal says what was found and which limit it broke. */
#ifndef EMBSUM_BATCH_GATE_H
#define EMBSUM_BATCH_GATE_H

#include "store/manifest.h"

struct gate_limits {
    long
        max_shrink; /* percent of the users, or of the contents, that may go in one run; GATE_FEW may go anyway */
    long min_coverage; /* percent of the ids in the histories that have a text */
    long max_drift;    /* how many times larger or smaller norms and the spread of scores may become */
};

enum { GATE_FEW = 100 };

#define GATE_LIMITS_INIT                                                                                     \
    {                                                                                                        \
        20, 50, 10                                                                                           \
    }

/* Before anything is written: `gone` of `before` entries are in no input any more. what: "users", "contents". */
int gate_shrink(
    const struct gate_limits *limits, const char *what, size_t before, size_t gone, struct err *err);
/* `dropped` of `asked` ids in the histories have no text. */
int gate_coverage(const struct gate_limits *limits, size_t asked, size_t dropped, struct err *err);

/* What matrices look like, measured on a sample. */
struct gate_profile {
    size_t users, contents;         /* looked at */
    double user_norm, content_norm; /* the median of the matrices' root mean square */
    double size;                    /* root mean square of the scores of all pairs */
    double spread;                  /* and of their distances from each user's mean */
};

/* Reads some users and contents of a generation, the same for every call. ERR_CORRUPT names one that is damaged. */
int gate_measure(
    struct gate_profile *profile, struct store_link *link, const char *generation, struct err *err);

/* Is what will be live fit to follow what is? before: NULL where nothing is live. */
int gate_compare(const struct gate_limits *limits, const struct gate_profile *before,
    const struct gate_profile *after, struct err *err);

#endif
