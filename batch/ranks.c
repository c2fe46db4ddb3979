/* Open MPI is opened at run time and only by processes that its launcher started. Linked, it would cost every other start
 * of the program some 8 ms for the dozen libraries behind it, and a program that was built where it is installed would not
 * start where it is not. Its header alone is needed to build; EMBSUM_MPI says that it is there.
 */
#include "batch/ranks.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum reduction { SUM_F32, SUM_F64, FIRST_WORST };
struct verdict { /* MPI_2INT */
    int result, rank;
};

#ifdef EMBSUM_MPI

#include <dlfcn.h>
#include <mpi.h>

#define LIBRARY "libmpi.so.40" /* of Open MPI 3 to 5 */

/* What is used of MPI. Its constants are addresses of objects in the library. */
struct mpi {
    __typeof__(MPI_Init_thread) *init;
    __typeof__(MPI_Finalize) *finalize;
    __typeof__(MPI_Abort) *abort;
    __typeof__(MPI_Error_string) *error_string;
    __typeof__(MPI_Comm_set_errhandler) *set_errhandler;
    __typeof__(MPI_Comm_size) *size;
    __typeof__(MPI_Comm_rank) *rank;
    __typeof__(MPI_Comm_split_type) *split_type;
    __typeof__(MPI_Comm_free) *free;
    __typeof__(MPI_Allreduce) *allreduce;
    __typeof__(MPI_Bcast) *bcast;
    MPI_Comm world;
    MPI_Errhandler errors_return;
    MPI_Info no_info;
    MPI_Datatype f32, f64, two_ints, byte;
    MPI_Op sum, min_loc;
};

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"MPI_Init_thread", offsetof(struct mpi, init)},
    {"MPI_Finalize", offsetof(struct mpi, finalize)},
    {"MPI_Abort", offsetof(struct mpi, abort)},
    {"MPI_Error_string", offsetof(struct mpi, error_string)},
    {"MPI_Comm_set_errhandler", offsetof(struct mpi, set_errhandler)},
    {"MPI_Comm_size", offsetof(struct mpi, size)},
    {"MPI_Comm_rank", offsetof(struct mpi, rank)},
    {"MPI_Comm_split_type", offsetof(struct mpi, split_type)},
    {"MPI_Comm_free", offsetof(struct mpi, free)},
    {"MPI_Allreduce", offsetof(struct mpi, allreduce)},
    {"MPI_Bcast", offsetof(struct mpi, bcast)},
    {"ompi_mpi_comm_world", offsetof(struct mpi, world)},
    {"ompi_mpi_errors_return", offsetof(struct mpi, errors_return)},
    {"ompi_mpi_info_null", offsetof(struct mpi, no_info)},
    {"ompi_mpi_float", offsetof(struct mpi, f32)},
    {"ompi_mpi_double", offsetof(struct mpi, f64)},
    {"ompi_mpi_2int", offsetof(struct mpi, two_ints)},
    {"ompi_mpi_byte", offsetof(struct mpi, byte)},
    {"ompi_mpi_op_sum", offsetof(struct mpi, sum)},
    {"ompi_mpi_op_minloc", offsetof(struct mpi, min_loc)},
};

/* The library stays open: Open MPI leaves handlers behind that run at exit. Its plug-ins look its symbols up globally. */
static int load(struct mpi *mpi, struct err *err)
{
    void *const library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        return err_set(
            err, ERR_UNAVAILABLE, "mpirun started this, but Open MPI cannot be loaded: %s", dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *const symbol = dlsym(library, symbols[i].name);
        if (!symbol)
            return err_set(err, ERR_UNAVAILABLE, "%s has no %s", LIBRARY, symbols[i].name);
        memcpy((char *)mpi + symbols[i].offset, &symbol, sizeof symbol);
    }
    return 0;
}

/* 0 for MPI_SUCCESS; else the job is broken. */
static int check(struct ranks *ranks, int code, const char *call, struct err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int len;
    if (code == MPI_SUCCESS)
        return 0;
    ranks->broken = true;
    ranks->mpi->error_string(code, text, &len);
    return err_set(err, ERR_UNAVAILABLE, "%s: %s", call, text);
}

/* A launcher that is not Open MPI's starts processes that do not find each other. */
static int check_size(int size, struct err *err)
{
    const char *const said = getenv("PMI_SIZE");
    const long expected = said ? strtol(said, NULL, 10) : 0;
    if (size > 1 || expected <= 1)
        return 0;
    return err_set(err, ERR_UNAVAILABLE,
        "%ld processes were started, but Open MPI knows of one: start them by Open MPI's mpirun", expected);
}

static int look_around(struct ranks *ranks, struct err *err)
{
    const struct mpi *mpi = ranks->mpi;
    MPI_Comm machine;
    int size = 1, rank = 0, local = 1;
    int result =
        check(ranks, mpi->set_errhandler(mpi->world, mpi->errors_return), "MPI_Comm_set_errhandler", err);
    if (result == 0)
        result = check(ranks, mpi->size(mpi->world, &size), "MPI_Comm_size", err);
    if (result == 0)
        result = check(ranks, mpi->rank(mpi->world, &rank), "MPI_Comm_rank", err);
    if (result == 0)
        result = check_size(size, err);
    if (result == 0)
        result = check(ranks, mpi->split_type(mpi->world, MPI_COMM_TYPE_SHARED, 0, mpi->no_info, &machine),
            "MPI_Comm_split_type", err);
    if (result == 0)
        result = check(ranks, mpi->size(machine, &local), "MPI_Comm_size", err);
    if (result < 0)
        return result;
    mpi->free(&machine);
    ranks->size = (size_t)size;
    ranks->rank = (size_t)rank;
    ranks->local = (size_t)local;
    return 0;
}

/* MPI, if a launcher is there to ask; a failure before MPI_Init leaves no struct mpi behind, so that nothing is to end. */
static int join(struct ranks *ranks, struct err *err)
{
    int provided;
    struct mpi *const mpi = calloc(1, sizeof *mpi);
    if (!mpi)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = load(mpi, err);
    if (result < 0) {
        free(mpi);
        return result;
    }
    ranks->mpi = mpi;
    result = check(ranks, mpi->init(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", err);
    if (result == 0 && provided < MPI_THREAD_FUNNELED) {
        ranks->broken = true;
        result = err_set(err, ERR_UNAVAILABLE, "this Open MPI was built without threads");
    }
    return result == 0 ? look_around(ranks, err) : result;
}

/* In pieces: a count is an int, and a reduction in place takes memory of its size. */
static int reduce(struct ranks *ranks, void *values, size_t count, enum reduction how, struct err *err)
{
    enum { PIECE = 1 << 22 };
    const struct mpi *mpi = ranks->mpi;
    const struct {
        MPI_Datatype type;
        MPI_Op op;
        size_t size;
    } hows[] = {[SUM_F32] = {mpi->f32, mpi->sum, sizeof(float)},
        [SUM_F64] = {mpi->f64, mpi->sum, sizeof(double)},
        [FIRST_WORST] = {mpi->two_ints, mpi->min_loc, sizeof(struct verdict)}};
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i += PIECE)
        result = check(ranks,
            mpi->allreduce(MPI_IN_PLACE, (char *)values + i * hows[how].size,
                (int)(count - i < PIECE ? count - i : PIECE), hows[how].type, hows[how].op, mpi->world),
            "MPI_Allreduce", err);
    return result;
}

static int share(struct ranks *ranks, void *bytes, size_t size, size_t from, struct err *err)
{
    enum { PIECE = 1 << 24 };
    const struct mpi *mpi = ranks->mpi;
    int result = 0;
    for (size_t i = 0; result == 0 && i < size; i += PIECE)
        result = check(ranks,
            mpi->bcast((char *)bytes + i, (int)(size - i < PIECE ? size - i : PIECE), mpi->byte, (int)from,
                mpi->world),
            "MPI_Bcast", err);
    return result;
}

static void leave(struct ranks *ranks)
{
    if (ranks->broken)
        ranks->mpi->abort(ranks->mpi->world, EXIT_FAILURE);
    ranks->mpi->finalize();
    free(ranks->mpi);
}

#else /* one process and no more */

static int join(struct ranks *ranks, struct err *err)
{
    (void)ranks;
    return err_set(err, ERR_UNAVAILABLE, "this build has no Open MPI: start it without mpirun");
}

static int reduce(struct ranks *ranks, void *values, size_t count, enum reduction how, struct err *err)
{
    (void)ranks, (void)values, (void)count, (void)how, (void)err;
    return 0;
}

static int share(struct ranks *ranks, void *bytes, size_t size, size_t from, struct err *err)
{
    (void)ranks, (void)bytes, (void)size, (void)from, (void)err;
    return 0;
}

static void leave(struct ranks *ranks)
{
    (void)ranks;
}

#endif

/* Open MPI's own launcher, one that speaks PMIx (Slurm, Open MPI 5), or the older PMI. Without one, MPI_Init would open
 * sockets and start a daemon for a job of one. */
static bool is_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("PMI_RANK");
}

int ranks_open(struct ranks *ranks, struct err *err)
{
    *ranks = (struct ranks){.size = 1, .local = 1};
    return is_launched() ? join(ranks, err) : 0;
}

void ranks_close(struct ranks *ranks)
{
    if (ranks->mpi)
        leave(ranks);
    *ranks = (struct ranks){.size = 1, .local = 1};
}

int ranks_sum_f32(struct ranks *ranks, float *values, size_t count, struct err *err)
{
    return ranks->size > 1 ? reduce(ranks, values, count, SUM_F32, err) : 0;
}

int ranks_sum_f64(struct ranks *ranks, double *values, size_t count, struct err *err)
{
    return ranks->size > 1 ? reduce(ranks, values, count, SUM_F64, err) : 0;
}

int ranks_share(struct ranks *ranks, void *bytes, size_t size, struct err *err)
{
    return ranks->size > 1 ? share(ranks, bytes, size, 0, err) : 0;
}

int ranks_agree(struct ranks *ranks, int result, struct err *err)
{
    struct verdict worst = {result, (int)ranks->rank};
    struct err own = ERR_INIT, *const message = err ? err : &own;
    if (ranks->size == 1 || ranks->broken) /* a broken job has nobody left to ask */
        return result;
    int failed = reduce(ranks, &worst, 1, FIRST_WORST, message);
    if (failed == 0 && worst.result < 0)
        failed = share(ranks, message, sizeof *message, (size_t)worst.rank, message);
    if (failed < 0)
        return failed;
    if (worst.result < 0 && worst.rank > 0)
        err_place(message, "rank %d: ", worst.rank);
    return worst.result;
}

int ranks_any(struct ranks *ranks, bool own, bool *any, struct err *err)
{
    double count = own;
    const int result = ranks_sum_f64(ranks, &count, 1, err);
    if (result == 0)
        *any = count > 0;
    return result;
}

int ranks_number(struct ranks *ranks, size_t own, size_t *first, size_t *total, struct err *err)
{
    double *counts = calloc(ranks->size, sizeof *counts);
    int result = ranks_agree(ranks, counts ? 0 : err_set(err, ERR_NOMEM, "out of memory"), err);
    if (result == 0) {
        counts[ranks->rank] = (double)own;
        result = ranks_sum_f64(ranks, counts, ranks->size, err);
    }
    if (result == 0) {
        *first = *total = 0;
        for (size_t r = 0; r < ranks->size; r++) {
            *first += r < ranks->rank ? (size_t)counts[r] : 0;
            *total += (size_t)counts[r];
        }
    }
    free(counts);
    return result;
}

int ranks_same(struct ranks *ranks, uint64_t value, const char *what, struct err *err)
{
    uint64_t first = value;
    const int result = ranks_share(ranks, &first, sizeof first, err);
    if (result < 0)
        return result;
    return ranks_agree(ranks, first == value ? 0 : err_set(err, ERR_CORRUPT, "not rank 0's %s", what), err);
}

size_t ranks_cores(const struct ranks *ranks)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t part = (size_t)(online > 0 ? online : 1) / ranks->local;
    cpu_set_t bound;
    const size_t own = sched_getaffinity(0, sizeof bound, &bound) == 0 ? (size_t)CPU_COUNT(&bound) : part;
    const size_t cores = own < part ? own : part;
    return cores ? cores : 1;
}
