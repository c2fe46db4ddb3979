/* What the tests of the scoring kernels share. */
#ifndef EMBSUM_TESTS_CORE_SCORERS_H
#define EMBSUM_TESTS_CORE_SCORERS_H

#include "core/scorer.h"
#include "tests/lib/scratch.h"

static inline struct scorer *scorer_make(
    enum scorer_dtype dtype, const char *kernel, size_t m, size_t n, size_t d)
{
    struct err err = ERR_INIT;
    struct scorer *scorer = NULL;
    if (scorer_new(&scorer, dtype, kernel, m, n, d, &err) < 0)
        fail_msg("%s", err.message);
    return scorer;
}

#endif
