/* One refresh: what is stored is brought to what the inputs say, by as little work as it takes.
 *
 * Where the live generation was made by the same model and settings, values are replaced inside it, and daemons follow;
 * else a new generation is filled beside it and made live when it is complete and has passed the gate (batch/gate.h). A
 * run that ends early, for whatever reason, leaves what it has done, and the next one goes on from there.
 */
#ifndef EMBSUM_BATCH_REFRESH_H
#define EMBSUM_BATCH_REFRESH_H

#include "batch/gate.h"
#include "batch/histories_fold.h"
#include "batch/workspace.h"
#include "store/blob.h"
#include "store/store.h"

struct refresh_options {
    enum blob_dtype dtype; /* of the stored matrices */
    struct gate_limits limits;
    const char *cache;        /* a folder for the states of sessions; NULL: none */
    size_t cache_bytes;       /* that it may take */
    long threads;             /* 0: one a core */
    long keep;                /* retired generations that stay */
    double until;             /* progress_now() at which no further batch is begun; 0: none */
    struct tsv_limit max_bad; /* of the matrices, too */
    bool workers;             /* encode in other processes (batch/encode_farm.h) */
    int silent_ms;            /* after which a worker's unit goes to another */
    enum fold_source
        source; /* of the histories. FOLD_CLICKS: inside the live generation only those users are looked at who
                                 have clicked, and `touched`; the workspace is as an earlier run has left it */
    const struct id_map *touched; /* whose history is newly read from a file; NULL: nobody's */
    const char *forget;           /* a user who goes; NULL: nobody */
    bool full;                    /* a new generation in any case */
    bool no_promote;              /* leave it ready instead of making it live */
    bool quiet;
};

/* What a run has found and done, right also when it fails. */
struct refresh_done {
    char generation[STORE_GENERATION_MAX];
    const char *state;      /* "live", "ready", "building"; "" before there was one */
    bool inside;            /* the generation was there */
    bool complete;          /* everything is as the inputs say */
    size_t users, contents; /* that there are, or will be; the default user is a user */
    size_t encoded_users, encoded_contents, deleted_users, deleted_contents, refused, tokens;
    size_t clicks, malformed_clicks; /* taken into histories; entries of the stream that are no clicks */
    double seconds;
};

/* The workspace's histories become what they and the clicks in the store say together. */
int refresh_run(struct refresh_done *done, struct workspace *workspace, struct store *store,
    const struct refresh_options *options, struct err *err);

#endif
