/* Reads every matrix of a generation and checks it against its manifest, and every category, title and explanation. The ids are listed first
 * (a link does one thing at a time), then their values are read in chunks of bounded size. */
#include "core/id.h"
#include "store/category.h"
#include "store/generation.h"
#include "store/title.h"
#include "store/why.h"

#include <string.h>

#define CHUNK_BYTES ((size_t)4 << 20)
#define CHUNK_IDS 256

struct verifier {
    struct store_link *link;
    const char *generation;
    const struct manifest *manifest;
    generation_bad_fn *fn;
    void *ctx;
    struct generation_check check;
    struct err *err;
};

static void report(struct verifier *verifier, enum store_kind kind, const char *id, const char *reason)
{
    verifier->check.bad++;
    if (verifier->fn)
        verifier->fn(verifier->ctx, kind, id, reason);
}

/* ---- ids ---- */

struct listing {
    struct verifier *verifier;
    enum store_kind kind;
    struct id_map ids;
};

static int list_id(void *ctx, const char *id, size_t len)
{
    struct listing *const listing = ctx;
    const bool valid = store_id_check(listing->kind, id, len, NULL) == 0;
    const ptrdiff_t index = id_map_add(&listing->ids, id, len, NULL);
    if (index < 0)
        return err_set(listing->verifier->err, ERR_NOMEM, "out of memory");
    if (!valid) {
        /* A key that was not written by us: no call would read it. */
        report(listing->verifier, listing->kind, id_map_get(&listing->ids, (size_t)index), "id");
    }
    return 0;
}

/* ---- values ---- */

struct chunk {
    struct verifier *verifier;
    struct blob_spec spec;
    enum store_kind kind;
    const struct store_id *ids;
    size_t found;
};

static int check_blob(void *ctx, size_t index, const void *data, size_t len)
{
    struct chunk *const chunk = ctx;
    struct blob_spec spec = chunk->spec;
    spec.id = chunk->ids[index].id;
    spec.id_len = chunk->ids[index].len;
    if (!data) {
        report(chunk->verifier, chunk->kind, spec.id, "missing");
        return 0;
    }
    chunk->found++;
    chunk->verifier->check.bytes += len;
    const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
    if (reason != BLOB_OK)
        report(chunk->verifier, chunk->kind, spec.id, blob_reason_name(reason));
    return 0;
}

static int check_category(void *ctx, size_t index, const void *data, size_t len)
{
    struct chunk *const chunk = ctx;
    const char *const name = chunk->ids[index].id;
    struct store_id id;
    size_t at = 0;
    int next;
    if (!data) {
        report(chunk->verifier, chunk->kind, name, "missing");
        return 0;
    }
    chunk->found++;
    chunk->verifier->check.bytes += len;
    do
        next = category_next(&id, data, len, &at);
    while (next > 0);
    if (next < 0)
        report(chunk->verifier, chunk->kind, name, "list");
    return 0;
}

static int check_title(void *ctx, size_t index, const void *data, size_t len)
{
    struct chunk *const chunk = ctx;
    if (!data) {
        report(chunk->verifier, chunk->kind, chunk->ids[index].id, "missing");
        return 0;
    }
    chunk->found++;
    chunk->verifier->check.bytes += len;
    if (!title_valid(data, len))
        report(chunk->verifier, chunk->kind, chunk->ids[index].id, "text");
    return 0;
}

static int check_why(void *ctx, size_t index, const void *data, size_t len)
{
    struct chunk *const chunk = ctx;
    const char *const id = chunk->ids[index].id;
    struct why why;
    if (!data) {
        report(chunk->verifier, chunk->kind, id, "missing");
        return 0;
    }
    chunk->found++;
    chunk->verifier->check.bytes += len;
    const size_t codes = *id == 'u' ? chunk->verifier->manifest->m : chunk->verifier->manifest->n;
    const int rc = why_read(&why, data, len, chunk->verifier->err);
    if (rc < 0 && rc != -ERR_CORRUPT)
        return rc;
    if (rc < 0 || why.code_count != codes)
        report(chunk->verifier, chunk->kind, id, "json");
    if (rc == 0)
        why_done(&why);
    return 0;
}

static struct blob_spec make_spec(const struct verifier *verifier, enum blob_kind kind)
{
    const struct manifest *const manifest = verifier->manifest;
    const size_t rows = kind == BLOB_USER ? manifest->m : kind == BLOB_CONTENT ? manifest->n : manifest->d;
    return (struct blob_spec){kind, manifest->dtype, rows, manifest->d, verifier->generation, "", 0};
}

/* The values of all ids, at most limit at a time. */
static int check_values(struct chunk *chunk, const struct id_map *map, size_t limit, store_value_fn *check)
{
    struct verifier *const verifier = chunk->verifier;
    struct store_id ids[CHUNK_IDS];
    size_t count = 0;
    int rc = 0;
    chunk->ids = ids;
    for (size_t i = 0; rc == 0 && i < map->count; i++) {
        const char *const id = id_map_get(map, i);
        if (store_id_check(chunk->kind, id, map->length[i], NULL) < 0)
            continue; /* reported when it was listed */
        ids[count++] = (struct store_id){id, map->length[i]};
        if (count == limit) {
            rc = store_get(
                verifier->link, verifier->generation, chunk->kind, ids, count, check, chunk, verifier->err);
            count = 0;
        }
    }
    if (rc == 0)
        rc = store_get(
            verifier->link, verifier->generation, chunk->kind, ids, count, check, chunk, verifier->err);
    chunk->ids = NULL;
    return rc;
}

static size_t blobs_at_once(const struct blob_spec *spec)
{
    const size_t size = blob_size(spec->dtype, spec->rows, spec->cols);
    const size_t limit = size ? CHUNK_BYTES / size : 1;
    return limit < 1 ? 1 : limit > CHUNK_IDS ? CHUNK_IDS : limit;
}

/* All matrices of users or of contents, and their number. */
static int check_kind(
    struct verifier *verifier, enum blob_kind kind, size_t least, size_t most, size_t *found)
{
    struct chunk chunk = {
        .verifier = verifier, .spec = make_spec(verifier, kind), .kind = (enum store_kind)kind};
    struct listing listing = {verifier, chunk.kind, {0}};
    int rc = store_scan(verifier->link, verifier->generation, chunk.kind, list_id, &listing, verifier->err);
    if (rc == 0)
        rc = check_values(&chunk, &listing.ids, blobs_at_once(&chunk.spec), check_blob);
    if (rc == 0 && (chunk.found < least || chunk.found > most))
        report(verifier, chunk.kind, "", "count");
    *found = chunk.found;
    id_map_done(&listing.ids);
    return rc;
}

/* All values of a kind that are no matrices, and their number. */
static int check_texts(struct verifier *verifier, enum store_kind kind, store_value_fn *check, size_t *found)
{
    struct chunk chunk = {.verifier = verifier, .kind = kind};
    struct listing listing = {verifier, chunk.kind, {0}};
    int rc = store_scan(verifier->link, verifier->generation, chunk.kind, list_id, &listing, verifier->err);
    if (rc == 0)
        rc = check_values(&chunk, &listing.ids, CHUNK_IDS, check);
    *found = chunk.found;
    id_map_done(&listing.ids);
    return rc;
}

static int check_score_proj(struct verifier *verifier)
{
    const struct store_id id = {"", 0};
    struct chunk chunk = {verifier, make_spec(verifier, BLOB_SCORE_PROJ), STORE_SCORE_PROJ, &id, 0};
    return store_get(
        verifier->link, verifier->generation, STORE_SCORE_PROJ, &id, 1, check_blob, &chunk, verifier->err);
}

int generation_verify(struct generation_check *out, struct store_link *link, const char *name,
    generation_bad_fn *fn, void *ctx, struct err *err)
{
    struct manifest manifest;
    struct verifier verifier = {
        .link = link, .generation = name, .manifest = &manifest, .fn = fn, .ctx = ctx, .err = err};
    struct generation_check *const check = &verifier.check;
    int rc = manifest_get(&manifest, link, name, err);
    if (rc == 0)
        rc = check_score_proj(&verifier);
    if (rc == 0)
        rc = check_kind(&verifier, BLOB_USER, manifest.users_least, manifest.users, &check->users);
    if (rc == 0)
        rc =
            check_kind(&verifier, BLOB_CONTENT, manifest.contents_least, manifest.contents, &check->contents);
    if (rc == 0)
        rc = check_texts(&verifier, STORE_CATEGORY, check_category, &check->categories);
    if (rc == 0)
        rc = check_texts(&verifier, STORE_TITLE, check_title, &check->titles);
    if (rc == 0)
        rc = check_texts(&verifier, STORE_WHY, check_why, &check->explanations);
    if (rc < 0)
        return rc;
    *out = *check;
    if (check->bad)
        return err_set(err, ERR_CORRUPT,
            "generation %s: %zu bad entries; it holds %zu of %zu users and %zu of %zu contents", name,
            check->bad, check->users, manifest.users, check->contents, manifest.contents);
    return 0;
}
