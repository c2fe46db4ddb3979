/* The processes of one job: this one alone, or those that Open MPI's mpirun started, on one machine or on many. They run
 * the same steps, and at every place where they meet each calls the same function; a sum or an agreement returns on all
 * of them or on none. Rank 0 is the one that speaks and writes files.
 *
 *     struct ranks ranks;
 *     int result = ranks_open(&ranks, &err);          alone unless mpirun started it: nothing of MPI is touched
 *     if (result == 0)
 *         result = ranks_agree(&ranks, own_part(), &err);    all have done it, or all return the same error
 *     if (result == 0)
 *         result = ranks_sum_f32(&ranks, gradient, count, &err);
 *     if (result < 0 && ranks.rank == 0)
 *         fprintf(stderr, "%s\n", err.message);       before the end: mpirun kills whoever is left when one has failed
 *     ranks_close(&ranks);
 *
 * Only the thread that opened it calls these functions. A process that ends without ranks_close takes the others with
 * it, by mpirun's doing. Errors of MPI itself are ERR_UNAVAILABLE, and the ranks can no longer agree after one.
 */
#ifndef EMBSUM_BATCH_RANKS_H
#define EMBSUM_BATCH_RANKS_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ranks {
    size_t size, rank;
    size_t local;    /* of them on this machine */
    bool broken;     /* MPI has failed: the others may wait for ever, so that the end is theirs too */
    struct mpi *mpi; /* NULL: alone */
};

/* Join the job. ERR_UNAVAILABLE if a launcher has started several processes and they cannot be joined (no Open MPI, or a
 * build without it): each for itself they would write over each other's files. */
int ranks_open(struct ranks *ranks, struct err *err);

/* Leave the job, after all have; end it for all, with EXIT_FAILURE, if it is broken. A no-op on {0}. */
void ranks_close(struct ranks *ranks);

/* What every rank has done so far: 0 if each passes 0, else the result and the message of the first that failed, the same
 * on all of them ("rank 2: news.tsv:17: ..."). */
int ranks_agree(struct ranks *ranks, int result, struct err *err);

/* values[0 .. count) = their sums over the ranks, bit by bit the same on all of them. The order of the sum, and with it
 * the last bits, is that of the number of ranks. Not for a result that only some have: agree first. */
int ranks_sum_f32(struct ranks *ranks, float *values, size_t count, struct err *err);
int ranks_sum_f64(struct ranks *ranks, double *values, size_t count, struct err *err);

/* *any = does any rank pass true? */
int ranks_any(struct ranks *ranks, bool own, bool *any, struct err *err);

/* Number the workers of all ranks, of which this one has `own`: from *first on here, *total in all. */
int ranks_number(struct ranks *ranks, size_t own, size_t *first, size_t *total, struct err *err);

/* Rank 0's bytes on all of them. */
int ranks_share(struct ranks *ranks, void *bytes, size_t size, struct err *err);

/* Do all pass the same value? Else the same ERR_CORRUPT on all of them: "rank 2: not rank 0's WHAT". */
int ranks_same(struct ranks *ranks, uint64_t value, const char *what, struct err *err);

/* The cores that this process may keep busy: those that it is bound to, and no more than its part of the machine. */
size_t ranks_cores(const struct ranks *ranks);

#endif
