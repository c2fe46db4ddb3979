/* The last steps of every command that fills a generation: finish, switch, remove what is old, and say so. */
#ifndef EMBSUM_BATCH_PUBLISH_H
#define EMBSUM_BATCH_PUBLISH_H

#include "store/generation.h"

struct publish_options {
    bool promote; /* make it live; else it stays ready */
    long keep;    /* retired generations that stay */
    bool quiet;
};

/* Finish the generation with this manifest (m, n, d and model_sha256 filled in), publish it, end the writer (also when
 * something fails) and prune. Prints one JSON line about the generation on stdout. */
int publish(struct generation_writer *writer, struct store *store, struct manifest *manifest,
    const struct publish_options *options, struct err *err);

#endif
