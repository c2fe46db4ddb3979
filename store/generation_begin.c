/* How a writer begins and ends: with a generation of its own, or with one that is there. */
#include "store/generation_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- a new generation ---- */

static int make_name(struct generation_writer *writer, struct err *err)
{
    uint32_t random;
    struct tm utc;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_errno(err, "name a generation");
    writer->created = time(NULL);
    gmtime_r(&writer->created, &utc);
    const size_t len = strftime(writer->name, sizeof writer->name, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(writer->name + len, sizeof writer->name - len, "-%08x", random);
    return 0;
}

/* In state building, as ours. */
static int claim(struct generation_writer *writer, struct err *err)
{
    struct store_generation row = {.state = STORE_BUILDING, .token = lease_token(writer->lease)};
    memcpy(row.name, writer->name, sizeof row.name);
    return store_commit(writer->link, row.token, &row, 1, NULL, err);
}

/* We hold the lock, so a generation in state building has no writer any more. `kept` may be NULL. */
static int drop_abandoned(struct generation_writer *writer, const struct store_generation *rows, size_t count,
    const char *kept, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (rows[i].state == STORE_BUILDING && !(kept && strcmp(rows[i].name, kept) == 0))
            rc = store_drop(writer->link, lease_token(writer->lease), rows[i].name, err);
    return rc;
}

static void free_writer(struct generation_writer *writer)
{
    lease_give(writer->lease);
    store_disconnect(writer->link);
    free(writer->bytes);
    free(writer);
}

/* A writer that holds the lock, and what the store has under it. */
static int open_writer(struct generation_writer **out, struct store_generation **rows, size_t *count,
    struct store *store, enum blob_dtype dtype, struct err *err)
{
    struct generation_writer *const writer = calloc(1, sizeof *writer);
    if (!writer)
        return err_set(err, ERR_NOMEM, "out of memory");
    writer->dtype = dtype;
    int rc = store_connect(&writer->link, store, err);
    if (rc == 0)
        rc = lease_take(&writer->lease, store, LEASE_TTL_MS, err);
    if (rc == 0)
        rc = store_generations(writer->link, rows, count, err);
    if (rc == 0) {
        rc = store_live(writer->link, writer->previous, err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0; /* the first generation of all */
    }
    if (rc < 0)
        free_writer(writer);
    else
        *out = writer;
    return rc;
}

int generation_begin(
    struct generation_writer **out, struct store *store, enum blob_dtype dtype, struct err *err)
{
    struct generation_writer *writer;
    struct store_generation *rows = NULL;
    size_t count = 0;
    int rc = open_writer(&writer, &rows, &count, store, dtype, err);
    if (rc == 0) {
        rc = drop_abandoned(writer, rows, count, NULL, err);
        if (rc == 0)
            rc = make_name(writer, err);
        if (rc == 0)
            rc = claim(writer, err);
        if (rc < 0)
            free_writer(writer);
        else
            *out = writer;
    }
    free(rows);
    return rc;
}

/* ---- one that is there ---- */

/* Was the generation made as planned? 1, 0, or a negative code. What has no readable manifest was not; it is left in
 * writer->manifest if it was. */
static int matches(
    struct generation_writer *writer, const char *name, const struct manifest *plan, struct err *err)
{
    struct manifest found;
    const int rc = manifest_get(&found, writer->link, name, err);
    if (rc == -ERR_NOT_FOUND || rc == -ERR_CORRUPT)
        return 0;
    if (rc < 0)
        return rc;
    if (!found.settings || found.settings != plan->settings || found.dtype != plan->dtype ||
        found.m != plan->m || found.n != plan->n || found.d != plan->d)
        return 0;
    writer->manifest = found;
    return 1;
}

/* The newest generation in a state that was made as planned: its row, or NULL with *rc 0 or a negative code. */
static const struct store_generation *find(int *rc, struct generation_writer *writer,
    const struct store_generation *rows, size_t count, enum store_state state, const struct manifest *plan,
    struct err *err)
{
    *rc = 0;
    for (size_t i = count; i-- > 0;) { /* oldest name first */
        if (rows[i].state != state)
            continue;
        *rc = matches(writer, rows[i].name, plan, err);
        if (*rc)
            return *rc > 0 ? &rows[i] : NULL;
    }
    return NULL;
}

static int choose(struct generation_writer *writer, const struct store_generation *rows, size_t count,
    const struct manifest *plan, enum generation_choice choice, struct err *err)
{
    static const enum store_state states[] = {STORE_LIVE, STORE_READY, STORE_BUILDING}; /* by the choices */
    const struct store_generation *row = NULL;
    int rc = 0;
    for (size_t i = choice; !row && rc == 0 && i < sizeof states / sizeof *states; i++)
        row = find(&rc, writer, rows, count, states[i], plan, err);
    if (rc < 0)
        return rc;
    if (!row) {
        writer->mode = GENERATION_NEW;
        return make_name(writer, err);
    }
    writer->mode = row->state == STORE_BUILDING ? GENERATION_RESUMED : GENERATION_INSIDE;
    writer->created = writer->manifest.created;
    memcpy(writer->name, row->name, sizeof writer->name);
    return 0;
}

/* The manifest of an unfinished generation says what it was made with, for the next writer. */
static int begin_manifest(struct generation_writer *writer, const struct manifest *plan, struct err *err)
{
    writer->manifest = *plan;
    writer->manifest.created = writer->created;
    writer->manifest.users = writer->manifest.users_least = 0;
    writer->manifest.contents = writer->manifest.contents_least = 0;
    memcpy(writer->manifest.previous, writer->previous, sizeof writer->previous);
    return generation_put_manifest(writer, &writer->manifest, err);
}

int generation_resume(struct generation_writer **out, struct store *store, const struct manifest *plan,
    enum generation_choice choice, struct err *err)
{
    struct generation_writer *writer;
    struct store_generation *rows = NULL;
    size_t count = 0;
    int rc = open_writer(&writer, &rows, &count, store, plan->dtype, err);
    if (rc < 0)
        return rc;
    writer->stays = true;
    rc = choose(writer, rows, count, plan, choice, err);
    if (rc == 0)
        rc = drop_abandoned(
            writer, rows, count, writer->mode == GENERATION_RESUMED ? writer->name : NULL, err);
    if (rc == 0)
        rc = writer->mode == GENERATION_INSIDE ? 0 : claim(writer, err);
    if (rc == 0 && writer->mode != GENERATION_NEW)
        rc = generation_journal_recover(writer, err);
    if (rc == 0 && writer->mode == GENERATION_NEW)
        rc = begin_manifest(writer, plan, err);
    free(rows);
    if (rc < 0)
        free_writer(writer);
    else
        *out = writer;
    return rc;
}

/* ---- looking, ending ---- */

const char *generation_name(const struct generation_writer *writer)
{
    return writer->name;
}

enum generation_mode generation_mode(const struct generation_writer *writer)
{
    return writer->mode;
}

const struct manifest *generation_manifest(const struct generation_writer *writer)
{
    return &writer->manifest;
}

const char *generation_beside(const struct generation_writer *writer)
{
    return writer->previous;
}

void generation_end(struct generation_writer *writer)
{
    if (!writer)
        return;
    /* The store drops no live one, where publishing has done its work and lost the reply. */
    if (!writer->stays)
        store_drop(writer->link, lease_token(writer->lease), writer->name, NULL);
    free_writer(writer);
}
