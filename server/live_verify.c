/* Counts may differ by what has changed inside the generation since it was written: changes add and delete, the manifest
 * stays. Those that are still in the stream are counted, and only where something is missing. */
#include "server/live_verify.h"

#include "core/id.h"
#include "core/rng.h"
#include "server/live_generation.h"
#include "server/worker.h"
#include "store/blob.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SAMPLE = 64, USERS_LISTED = 65536 };

struct sample {
    const struct live_generation *generation;
    struct worker *watcher;
    enum store_kind kind;
    struct rng rng; /* from the generation's name */
    struct store_id ids[SAMPLE];
    size_t count, listed, bad;
    char first[ID_MAX + 1]; /* bad one */
    const char *reason;
    char bytes[SAMPLE][ID_MAX]; /* of users' ids; contents' lie in the catalogue */
};

/* ---- what is looked at ---- */

/* One of each of as many equal parts of the catalogue. */
static void choose_contents(struct sample *sample)
{
    const struct catalogue *catalogue = sample->generation->catalogue;
    const size_t all = catalogue->count;
    sample->listed = all;
    sample->count = all < SAMPLE ? all : SAMPLE;
    for (size_t i = 0; i < sample->count; i++) {
        const size_t from = all * i / sample->count, to = all * (i + 1) / sample->count;
        sample->ids[i] = catalogue->ids[from + rng_next(&sample->rng) % (to - from)];
    }
}

/* Each that is listed has the same chance to be in the sample at the end (reservoir sampling). */
static int choose_user(void *ctx, const char *id, size_t len)
{
    struct sample *sample = ctx;
    if (len == 0 || store_id_check(STORE_USER, id, len, NULL) < 0)
        return 0; /* the default user, who was read already, or a key that nobody could ask for */
    if (sample->listed == USERS_LISTED)
        return 1;
    const size_t place =
        sample->listed < SAMPLE ? sample->listed : rng_next(&sample->rng) % (sample->listed + 1);
    sample->listed++;
    if (place >= SAMPLE)
        return 0;
    memcpy(sample->bytes[place], id, len);
    sample->ids[place] = (struct store_id){sample->bytes[place], len};
    sample->count += sample->count < SAMPLE;
    return 0;
}

/* ---- looking ---- */

static int check_blob(void *ctx, size_t index, const void *data, size_t len)
{
    struct sample *sample = ctx;
    const struct manifest *manifest = &sample->generation->manifest;
    const struct store_id *id = &sample->ids[index];
    const bool user = sample->kind == STORE_USER;
    const struct blob_spec spec = {
        .kind = user ? BLOB_USER : BLOB_CONTENT,
        .rows = user ? manifest->m : manifest->n,
        .cols = manifest->d,
        .generation = sample->generation->name,
        .id = id->id,
        .id_len = id->len,
    };
    const enum blob_reason reason = data ? blob_decode(NULL, &spec, data, len) : BLOB_OK;
    if (data && reason == BLOB_OK)
        return 0;
    if (data)
        worker_note_blob(sample->watcher, user ? "user" : "content", id, spec.generation, reason);
    if (!sample->bad++) {
        memcpy(sample->first, id->id, id->len);
        sample->first[id->len] = '\0';
        sample->reason = data ? blob_reason_name(reason) : "missing";
    }
    return 0;
}

static int check_sample(struct sample *sample, struct err *err)
{
    const int code = store_get(sample->watcher->link, sample->generation->name, sample->kind, sample->ids,
        sample->count, check_blob, sample, err);
    if (code < 0 || sample->bad <= live_verify_tolerated(sample->count))
        return code;
    return err_set(err, ERR_CORRUPT, "%zu of %zu %s that were looked at are bad, %s is the first: %s",
        sample->bad, sample->count, sample->kind == STORE_USER ? "users" : "contents", sample->first,
        sample->reason);
}

/* While a refresh is inside, the manifest says how few there may be. */
static int check_count(size_t found, size_t least, const char *what, struct err *err)
{
    if (found >= least)
        return 0;
    return err_set(err, ERR_CORRUPT, "it is incomplete: %zu of %zu %s are there", found, least, what);
}

static int verify_users(struct sample *sample, struct err *err)
{
    const struct live_generation *generation = sample->generation;
    const int code =
        store_scan(sample->watcher->link, generation->name, sample->kind, choose_user, sample, err);
    if (code == 0) /* the manifest counts the default user, too */
        return check_count(sample->listed + (generation->default_user != NULL),
            generation->manifest.users_least, "users", err);
    return code < 0 ? code : 0;
}

int live_verify(struct live_generation *generation, struct worker *watcher, struct err *err)
{
    struct sample *sample = calloc(2, sizeof *sample);
    if (!sample)
        return err_set(err, ERR_NOMEM, "no memory to verify a generation");
    for (int i = 0; i < 2; i++) {
        sample[i].generation = generation;
        sample[i].watcher = watcher;
        sample[i].kind = i ? STORE_USER : STORE_CONTENT;
        sample[i].rng = rng_seed(XXH3_64bits(generation->name, strlen(generation->name)), (uint64_t)i);
    }
    choose_contents(&sample[0]);
    int code = check_count(sample[0].listed, generation->manifest.contents_least, "contents", err);
    if (code == 0)
        code = verify_users(&sample[1], err);
    for (int i = 0; code == 0 && i < 2; i++)
        code = check_sample(&sample[i], err);
    free(sample);
    return code;
}
