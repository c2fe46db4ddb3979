/* The live generation: a sample of what the daemon would read. The choice is left to chance, so that a doctor who is called
 * again looks elsewhere. */
#include "batch/doctor.h"

#include "core/id.h"
#include "core/rng.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLE = 64, LOOK_MS = 400, DAY = 24 * 60 * 60 };

/* Beside the blobs: keys, summaries and titles, what a server keeps for each of them. */
enum { USER_EXTRA = 600, CONTENT_EXTRA = 400 };

double doctor_generation_bytes(const struct doctor *doctor, bool in_memory)
{
    const struct manifest *const manifest = &doctor->manifest;
    const size_t user = blob_size(manifest->dtype, manifest->m, manifest->d),
                 content = blob_size(manifest->dtype, manifest->n, manifest->d),
                 proj = blob_size(manifest->dtype, manifest->d, manifest->d);
    const double bytes = ((double)user + USER_EXTRA) * (double)manifest->users +
                         ((double)content + CONTENT_EXTRA) * (double)manifest->contents + (double)proj;
    return in_memory ? bytes * 1.125
                     : bytes * 1.25; /* what an allocator rounds up to; pages that are not full */
}

/* ---- a sample ---- */

struct sample {
    struct doctor *doctor;
    enum store_kind kind;
    struct rng rng;
    char bytes[SAMPLE][ID_MAX];
    struct store_id ids[SAMPLE];
    size_t listed, count, gone, bad;
    bool whole;
    char first[ID_MAX + 1]; /* bad one */
    const char *reason;
};

/* Each that is listed has the same chance to be in the sample at the end (reservoir sampling). */
static int choose(void *ctx, const char *id, size_t len)
{
    struct sample *const sample = ctx;
    if (store_id_check(sample->kind, id, len, NULL) < 0)
        return 0;
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

static int check_blob(void *ctx, size_t index, const void *data, size_t len)
{
    struct sample *const sample = ctx;
    const struct manifest *const manifest = &sample->doctor->manifest;
    const struct store_id *const id = &sample->ids[index];
    const struct blob_spec spec = {.kind = (enum blob_kind)sample->kind,
        .rows = sample->kind == STORE_USER      ? manifest->m
                : sample->kind == STORE_CONTENT ? manifest->n
                                                : manifest->d,
        .cols = manifest->d,
        .generation = sample->doctor->live,
        .id = id->id,
        .id_len = id->len};
    if (!data) {
        sample->gone++; /* a refresh may have deleted it since it was listed */
        return 0;
    }
    const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
    if (reason != BLOB_OK && !sample->bad++) {
        memcpy(sample->first, id->id, id->len);
        sample->first[id->len] = '\0';
        sample->reason = blob_reason_name(reason);
    }
    return 0;
}

static void tell_sample(const struct sample *sample, size_t least)
{
    const bool users = sample->kind == STORE_USER;
    const char *const check = users ? "generation.users" : "generation.contents", *const what =
                                                                                      users ? "users"
                                                                                            : "contents";
    if (sample->bad)
        doctor_tell(sample->doctor, FINDING_ERROR, check,
            "embsum generations verify tells which are damaged; embsum refresh --full makes all of them "
            "anew.",
            "%zu of %zu %s that were read are damaged, the first is %s: %s", sample->bad, sample->count, what,
            sample->first, sample->reason);
    else if (sample->whole && sample->listed < least)
        doctor_tell(sample->doctor, FINDING_ERROR, check,
            "Find out who deleted or evicted them (store.eviction), then embsum refresh --full.",
            "%zu of %zu %s are there", sample->listed, least, what);
    else if (sample->whole)
        doctor_tell(sample->doctor, FINDING_OK, check, NULL,
            "all %zu %s are there, the %zu that were read are good", sample->listed, what,
            sample->count - sample->gone);
    else
        doctor_tell(sample->doctor, FINDING_OK, check, NULL,
            "the %zu that were read of %zu %s are good; too many to count in the time",
            sample->count - sample->gone, least, what);
}

static int check_kind(
    struct doctor *doctor, struct store_link *link, enum store_kind kind, size_t least, struct err *err)
{
    struct sample *const sample = calloc(1, sizeof *sample);
    struct timespec now;
    if (!sample)
        return err_set(err, ERR_NOMEM, "out of memory");
    clock_gettime(CLOCK_REALTIME, &now);
    sample->doctor = doctor;
    sample->kind = kind;
    sample->rng = rng_seed((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, (uint64_t)kind);
    int rc = store_sample(link, doctor->live, kind, LOOK_MS, choose, sample, &sample->whole, err);
    if (rc == 0)
        rc = store_get(link, doctor->live, kind, sample->ids, sample->count, check_blob, sample, err);
    if (rc == 0)
        tell_sample(sample, least);
    free(sample);
    return rc;
}

/* W_s, without which nothing is ranked, and the default user, who stands for all unknown ones. */
static int check_single(struct doctor *doctor, struct store_link *link, enum store_kind kind, struct err *err)
{
    struct sample *const sample = calloc(1, sizeof *sample);
    const bool user = kind == STORE_USER;
    const char *const check = user ? "generation.default" : "generation.w", *const what =
                                                                                user ? "the default user"
                                                                                     : "W_s";
    if (!sample)
        return err_set(err, ERR_NOMEM, "out of memory");
    sample->doctor = doctor;
    sample->kind = kind;
    sample->ids[0] = (struct store_id){"", 0};
    const int rc = store_get(link, doctor->live, kind, sample->ids, 1, check_blob, sample, err);
    if (rc < 0) {
        /* told by the caller */
    } else if (sample->bad || (sample->gone && !user)) {
        doctor_tell(doctor, FINDING_ERROR, check,
            "embsum generations rollback, then embsum refresh --full: embsumd refuses this generation.",
            "%s is %s%s", what, sample->bad ? "damaged: " : "missing", sample->bad ? sample->reason : "");
    } else if (sample->gone) {
        doctor_tell(doctor, FINDING_WARNING, check,
            "Import an empty id in user.ids, or answer unknown users yourself: /rank gives them 404.",
            "there is no default user");
    } else {
        doctor_tell(doctor, FINDING_OK, check, NULL, "%s is good", what);
    }
    free(sample);
    return rc;
}

/* ---- how it stands ---- */

static void check_age(struct doctor *doctor)
{
    const struct manifest *const manifest = &doctor->manifest;
    const time_t when = manifest->refreshed ? manifest->refreshed : manifest->created;
    const int64_t age = (int64_t)time(NULL) - (int64_t)when;
    const char *const what = manifest->refreshed ? "last up to date" : "made";
    if (age < -60)
        doctor_tell(doctor, FINDING_WARNING, "generation.age",
            "Synchronise the clocks of the machines that refresh and serve (chrony, systemd-timesyncd).",
            "it was %s %" PRId64 " s from now: clocks differ", what, -age);
    else if (age > DAY && *manifest->model_sha256) /* what was imported may be meant to stay */
        doctor_tell(doctor, FINDING_WARNING, "generation.age",
            "Look whether embsum refresh still runs (cron's mail, journalctl, its --metrics file).",
            "it was %s %.1f days ago", what, (double)age / DAY);
    else
        doctor_tell(doctor, FINDING_OK, "generation.age", NULL, "it was %s %" PRId64 " s ago", what,
            age < 0 ? 0 : age);
}

static int take_journal(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    *(bool *)ctx = data && len;
    return 0;
}

/* What writers that were killed have left; while one is at work it is his. */
static int check_leftovers(
    struct doctor *doctor, struct store_link *link, const struct store_inspection *it, struct err *err)
{
    struct store_generation *rows = NULL;
    size_t count = 0, building = 0, live = 0;
    char first[STORE_GENERATION_MAX] = "";
    bool journal = false;
    const struct store_id none = {"", 0};
    int rc = store_generations(link, &rows, &count, err);
    if (rc == 0 && *doctor->live)
        rc = store_get(link, doctor->live, STORE_JOURNAL, &none, 1, take_journal, &journal, err);
    for (size_t i = 0; i < count; i++) {
        live += strcmp(rows[i].name, doctor->live) == 0 && rows[i].state == STORE_LIVE;
        if (rows[i].state == STORE_BUILDING && !building++)
            memcpy(first, rows[i].name, sizeof first);
    }
    free(rows);
    if (rc < 0)
        return rc;
    if (*doctor->live && !live)
        doctor_tell(doctor, FINDING_ERROR, "generation.state",
            "embsum generations promote, of this one or of another.",
            "the table of generations does not call %s live", doctor->live);
    if (building && !it->lock)
        doctor_tell(doctor, FINDING_WARNING, "generation.leftovers",
            "The next embsum refresh goes on with it or drops it; embsum generations drop frees its memory "
            "now.",
            "%zu generations are half built and nobody is at it, the first is %s", building, first);
    if (journal && !it->lock)
        doctor_tell(doctor, FINDING_WARNING, "generation.journal",
            "Run embsum refresh: it goes on, and tells the daemons what has changed.",
            "a refresh inside the live generation was killed: daemons may not know of its last changes");
    if (!(building || journal) || it->lock)
        doctor_tell(doctor, FINDING_OK, "generation.leftovers", NULL, "%zu generations, %zu being built",
            count, building);
    return 0;
}

static int find_live(struct doctor *doctor, struct store_link *link, struct err *err)
{
    char name[STORE_GENERATION_MAX];
    int rc = store_live(link, name, err);
    if (rc == -ERR_NOT_FOUND) {
        doctor_tell(doctor, FINDING_WARNING, "generation.live",
            "Run embsum refresh, or embsum generations promote.",
            "no generation is live: embsumd is not ready");
        return 0;
    }
    if (rc == 0)
        rc = manifest_get(&doctor->manifest, link, name, err);
    if (rc == 0) {
        const struct manifest *const manifest = &doctor->manifest;
        memcpy(doctor->live, name, sizeof doctor->live);
        doctor_tell(doctor, FINDING_OK, "generation.live", NULL,
            "%s: %zu users, %zu contents, m %zu, n %zu, d %zu, %s", name, manifest->users, manifest->contents,
            manifest->m, manifest->n, manifest->d, blob_dtype_name(manifest->dtype));
    } else if (rc == -ERR_NOT_FOUND || rc == -ERR_CORRUPT) {
        doctor_tell_err(doctor, "generation.live",
            "embsum generations rollback, then embsum refresh --full: embsumd refuses this generation.", err);
        return 0;
    }
    return rc;
}

void doctor_generation(struct doctor *doctor, struct store_link *link, const struct store_inspection *it)
{
    struct err err = ERR_INIT;
    int rc = find_live(doctor, link, &err);
    const struct manifest *const manifest = &doctor->manifest;
    if (rc == 0)
        rc = check_leftovers(doctor, link, it, &err);
    if (rc == 0 && *doctor->live) {
        check_age(doctor);
        rc = check_single(doctor, link, STORE_SCORE_PROJ, &err);
        if (rc == 0)
            rc = check_single(doctor, link, STORE_USER, &err);
        if (rc == 0)
            rc = check_kind(doctor, link, STORE_USER, manifest->users_least, &err);
        if (rc == 0)
            rc = check_kind(doctor, link, STORE_CONTENT, manifest->contents_least, &err);
    }
    if (rc < 0)
        doctor_tell_err(doctor, "generation.read",
            rc == -ERR_UNAVAILABLE ? "Look at the server's load and log, then call this again."
                                   : "Look at the store with redis-cli or mdb_dump; embsum refresh --full "
                                     "makes a new generation.",
            &err);
}
