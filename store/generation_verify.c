/* Reads every matrix of a generation and checks it against its manifest. The ids are listed first (a link
 * does one thing at a time), then their blobs are read in chunks of bounded size. */
#include "core/id.h"
#include "store/generation.h"

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
    const bool valid = (len == 0 && listing->kind == STORE_USER) || id_check(id, len, NULL) == 0;
    const ptrdiff_t index = id_map_add(&listing->ids, id, len, NULL);
    if (index < 0)
        return err_set(listing->verifier->err, ERR_NOMEM, "out of memory");
    if (!valid) {
        /* A key that was not written by us: no call would read it. */
        report(listing->verifier, listing->kind, id_map_get(&listing->ids, (size_t)index), "id");
    }
    return 0;
}

/* ---- blobs ---- */

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

static struct blob_spec make_spec(const struct verifier *verifier, enum blob_kind kind)
{
    const struct manifest *const manifest = verifier->manifest;
    const size_t rows = kind == BLOB_USER ? manifest->m : kind == BLOB_CONTENT ? manifest->n : manifest->d;
    return (struct blob_spec){kind, manifest->dtype, rows, manifest->d, verifier->generation, "", 0};
}

static int check_chunks(
    struct verifier *verifier, enum blob_kind kind, const struct id_map *map, size_t *found)
{
    struct store_id ids[CHUNK_IDS];
    struct chunk chunk = {verifier, make_spec(verifier, kind), (enum store_kind)kind, ids, 0};
    const size_t size = blob_size(chunk.spec.dtype, chunk.spec.rows, chunk.spec.cols);
    size_t limit = size ? CHUNK_BYTES / size : 1, count = 0;
    limit = limit < 1 ? 1 : limit > CHUNK_IDS ? CHUNK_IDS : limit;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < map->count; i++) {
        const char *const id = id_map_get(map, i);
        if (map->length[i] == 0 ? kind == BLOB_CONTENT : id_check(id, map->length[i], NULL) < 0)
            continue; /* reported when it was listed */
        ids[count++] = (struct store_id){id, map->length[i]};
        if (count == limit) {
            rc = store_get(verifier->link, verifier->generation, chunk.kind, ids, count, check_blob, &chunk,
                verifier->err);
            count = 0;
        }
    }
    if (rc == 0)
        rc = store_get(
            verifier->link, verifier->generation, chunk.kind, ids, count, check_blob, &chunk, verifier->err);
    *found = chunk.found;
    return rc;
}

/* All matrices of users or of contents, and their number. */
static int check_kind(struct verifier *verifier, enum blob_kind kind, size_t expected, size_t *found)
{
    struct listing listing = {verifier, (enum store_kind)kind, {0}};
    int rc = store_scan(verifier->link, verifier->generation, listing.kind, list_id, &listing, verifier->err);
    if (rc == 0)
        rc = check_chunks(verifier, kind, &listing.ids, found);
    if (rc == 0 && *found != expected)
        report(verifier, listing.kind, "", "count");
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
        rc = check_kind(&verifier, BLOB_USER, manifest.users, &check->users);
    if (rc == 0)
        rc = check_kind(&verifier, BLOB_CONTENT, manifest.contents, &check->contents);
    if (rc < 0)
        return rc;
    *out = *check;
    if (check->bad)
        return err_set(err, ERR_CORRUPT,
            "generation %s: %zu bad entries; it holds %zu of %zu users and %zu of %zu contents", name,
            check->bad, check->users, manifest.users, check->contents, manifest.contents);
    return 0;
}
