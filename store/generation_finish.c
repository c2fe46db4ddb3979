/* The end of a writer's work: what was put is counted, the manifest written, the generation made live. */
#include "store/generation_int.h"

#include <stdlib.h>
#include <string.h>

enum { CHANGES_KEPT = 100000 };

/* ---- finishing ---- */

static int count_id(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    ++*(size_t *)ctx;
    return 0;
}

/* Asks the store, where the lease knows only what it has heard: a writer that has taken over may have dropped the generation,
 * and then that is the reason for whatever is not found. */
int generation_check_token(const struct generation_writer *writer, struct err *err)
{
    return store_renew(writer->link, lease_token(writer->lease), LEASE_TTL_MS, err);
}

/* As many keys as puts? An id that was put twice, and a store that forgets (evicts), show here. */
static int check_count(
    struct generation_writer *writer, enum store_kind kind, size_t put, const char *what, struct err *err)
{
    size_t stored = 0;
    int rc = store_scan(writer->link, writer->name, kind, count_id, &stored, err);
    if (rc < 0 || stored == put)
        return rc;
    rc = generation_check_token(writer, err);
    if (rc < 0)
        return rc;
    return err_set(err, ERR_CORRUPT, "generation %s: %zu %s were put, the store holds %zu (%s)", writer->name,
        put, what, stored, stored < put ? "an id put twice, or keys lost" : "keys of another writer");
}

static int check_shapes(
    const struct generation_writer *writer, const struct manifest *manifest, struct err *err)
{
    const struct generation_written *const u = &writer->users, *const c = &writer->contents,
                                           *const w = &writer->score_proj;
    const size_t m = manifest->m, n = manifest->n, d = manifest->d;
    if (!w->count && writer->mode != GENERATION_INSIDE) /* where it is there already */
        return err_set(err, ERR_INVALID, "generation %s has no W_s", writer->name);
    if (w->count && (w->rows != d || w->cols != d))
        return err_set(err, ERR_INVALID, "W_s is %zu x %zu, d is %zu", w->rows, w->cols, d);
    if (u->count && (u->rows != m || u->cols != d))
        return err_set(err, ERR_INVALID, "the users' matrices are %zu x %zu, m x d is %zu x %zu", u->rows,
            u->cols, m, d);
    if (c->count && (c->rows != n || c->cols != d))
        return err_set(err, ERR_INVALID, "the contents' matrices are %zu x %zu, n x d is %zu x %zu", c->rows,
            c->cols, n, d);
    return 0;
}

/* The text is read back by the rules of every reader, so that none of them can stumble over it later. */
int generation_put_manifest(
    struct generation_writer *writer, const struct manifest *manifest, struct err *err)
{
    struct manifest read;
    char *const json = manifest_dump(manifest);
    if (!json)
        return err_set(err, ERR_INVALID, "generation %s: the manifest cannot be written", writer->name);
    const size_t len = strlen(json);
    int rc = manifest_parse(&read, json, len, err);
    if (rc == 0) {
        const struct store_entry entry = {{"", 0}, json, len};
        rc = store_put(writer->link, writer->name, STORE_MANIFEST, &entry, 1, err);
    }
    free(json);
    return rc;
}

/* ---- what there will be ---- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Whatever comes first, puts or deletes: between the number that is there, less all that goes, and the number that will be
 * there, and all that goes. */
static void bound(size_t *least, size_t *most, size_t end, size_t gone)
{
    *most = larger(*most, end + gone);
    *least = smaller(*least, end);
    *least -= smaller(*least, gone);
}

int generation_expect(
    struct generation_writer *writer, const struct generation_turnover *turnover, struct err *err)
{
    struct manifest *const manifest = &writer->manifest;
    const int rc = generation_check_open(writer, err);
    if (rc < 0)
        return rc;
    writer->expected = true;
    writer->uncounted = turnover->uncounted;
    writer->expected_users = turnover->users;
    writer->expected_contents = turnover->contents;
    if (writer->mode != GENERATION_INSIDE)
        return 0;
    const struct manifest before = *manifest;
    bound(&manifest->users_least, &manifest->users, turnover->users, turnover->users_gone);
    bound(&manifest->contents_least, &manifest->contents, turnover->contents, turnover->contents_gone);
    if (manifest->users == before.users && manifest->users_least == before.users_least &&
        manifest->contents == before.contents && manifest->contents_least == before.contents_least)
        return 0;
    writer->touched = true;
    return generation_put_manifest(writer, manifest, err);
}

static int check_counts(struct generation_writer *writer, struct err *err)
{
    if (writer->uncounted || (writer->mode == GENERATION_INSIDE && !writer->touched))
        return 0;
    int rc = check_count(writer, STORE_USER, writer->expected_users, "users", err);
    if (rc == 0)
        rc = check_count(writer, STORE_CONTENT, writer->expected_contents, "contents", err);
    if (rc == 0 && !writer->manifest.settings)
        rc = check_count(writer, STORE_CATEGORY, writer->categories, "categories", err);
    return rc;
}

/* All that the stream of changes has to hold is what the slowest daemon has not read yet. */
static int close_journal(struct generation_writer *writer, struct err *err)
{
    if (writer->mode == GENERATION_NEW || !writer->touched)
        return 0;
    const int rc = generation_journal_clear(writer, err);
    return rc < 0 || writer->mode != GENERATION_INSIDE
               ? rc
               : store_changes_trim(writer->link, writer->name, CHANGES_KEPT, err);
}

int generation_finish(struct generation_writer *writer, struct manifest *manifest, struct err *err)
{
    struct manifest filled = *manifest;
    int rc = generation_check_open(writer, err);
    if (rc == 0 && !writer->expected) {
        writer->expected_users = writer->users.count;
        writer->expected_contents = writer->contents.count;
    }
    if (rc == 0)
        rc = check_shapes(writer, manifest, err);
    if (rc == 0)
        rc = generation_flush(writer, err);
    if (rc == 0)
        rc = check_counts(writer, err);
    if (rc < 0)
        return rc;
    filled.users = filled.users_least = writer->expected_users;
    filled.contents = filled.contents_least = writer->expected_contents;
    filled.dtype = writer->dtype;
    filled.created = writer->created;
    memcpy(filled.previous, writer->mode == GENERATION_INSIDE ? writer->manifest.previous : writer->previous,
        sizeof filled.previous);
    rc = generation_put_manifest(writer, &filled, err);
    if (rc == 0)
        rc = close_journal(writer, err);
    if (rc == 0)
        rc = generation_check_token(writer, err);
    if (rc == 0) {
        writer->finished = true;
        *manifest = filled;
    }
    return rc;
}

/* ---- making it live ---- */

static int set_ready(struct generation_writer *writer, struct err *err)
{
    struct store_generation row = {.state = STORE_READY, .token = lease_token(writer->lease)};
    memcpy(row.name, writer->name, sizeof row.name);
    return store_commit(writer->link, row.token, &row, 1, NULL, err);
}

static int check_finished(const struct generation_writer *writer, struct err *err)
{
    const int rc = lease_check(writer->lease, err);
    if (rc < 0)
        return rc;
    return writer->finished ? 0 : err_set(err, ERR_INVALID, "generation %s is not finished", writer->name);
}

int generation_publish(struct generation_writer *writer, struct err *err)
{
    int rc = check_finished(writer, err);
    if (rc == 0)
        rc = generation_switch(writer->link, lease_token(writer->lease), writer->name, err);
    if (rc == -ERR_NOT_FOUND) { /* whoever has taken over has dropped it */
        const int fenced = generation_check_token(writer, err);
        rc = fenced < 0 ? fenced : rc;
    }
    writer->stays = writer->stays || rc == 0;
    return rc;
}

int generation_keep(struct generation_writer *writer, struct err *err)
{
    int rc = check_finished(writer, err);
    if (rc == 0)
        rc = set_ready(writer, err);
    writer->stays = writer->stays || rc == 0;
    return rc;
}
