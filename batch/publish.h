/* The last steps of every command that fills a generation: finish, switch, remove what is old, and say so. */
#ifndef EMBSUM_BATCH_PUBLISH_H
#define EMBSUM_BATCH_PUBLISH_H

#include "batch/options.h"
#include "store/generation.h"

struct publish_options {
    const char *dtype_name; /* of the stored matrices */
    long keep;              /* retired generations that stay */
    bool no_promote;        /* leave it ready instead of making it live */
    bool quiet;
};

#define PUBLISH_OPTIONS_INIT                                                                                 \
    {                                                                                                        \
        "float32", 2, false, false                                                                           \
    }

/* Rows for a command's table of options. */
#define PUBLISH_OPTIONS(args)                                                                                \
    {"store-dtype", "NAME", "of the stored matrices: float32 (unless given), bfloat16 or float16", false,    \
        OPTION_TEXT, &(args).dtype_name, 0, 0},                                                              \
        {"keep", "N", "retired generations to keep for a rollback; 2 unless given", false, OPTION_NUMBER,    \
            &(args).keep, 0, 1000},                                                                          \
        {"no-promote", NULL, "leave the new generation ready, not live", false, OPTION_FLAG,                 \
            &(args).no_promote, 0, 0},                                                                       \
    {                                                                                                        \
        "quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &(args).quiet, 0, 0               \
    }

/* Finish the generation with this manifest (m, n, d and model_sha256 filled in), publish it, end the writer (also when
 * something fails) and prune. Prints one JSON line about the generation on stdout. */
int publish(struct generation_writer *writer, struct store *store, struct manifest *manifest,
    const struct publish_options *options, struct err *err);

#endif
