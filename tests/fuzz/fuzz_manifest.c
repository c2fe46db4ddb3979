/* Manifests: one that is read, written and read again is the same, to the letter; its numbers keep their bounds; and a
 * store that answers with it is understood as well. Without memory that is said, and a manifest is not called damaged. */
#include "store/manifest.h"
#include "store/store_int.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

static bool same(const struct manifest *a, const struct manifest *b)
{
    return a->m == b->m && a->n == b->n && a->d == b->d && a->dtype == b->dtype && a->users == b->users &&
           a->contents == b->contents && strcmp(a->model_sha256, b->model_sha256) == 0 &&
           a->users_least == b->users_least && a->contents_least == b->contents_least &&
           a->settings == b->settings && a->refreshed == b->refreshed && a->created == b->created &&
           strcmp(a->previous, b->previous) == 0;
}

/* What the readers of a manifest rely on when they make room for matrices. */
static void check_bounds(const struct manifest *manifest)
{
    must(manifest->m >= 1 && manifest->n >= 1 && manifest->d >= 1);
    must(manifest->dtype <= BLOB_F16);
    must(blob_size(BLOB_F32, manifest->m, manifest->d) && blob_size(BLOB_F32, manifest->n, manifest->d) &&
         blob_size(BLOB_F32, manifest->d, manifest->d));
    must(manifest->users <= (size_t)1 << 53 && manifest->contents <= (size_t)1 << 53);
    must(manifest->users_least <= manifest->users && manifest->contents_least <= manifest->contents);
    must(strlen(manifest->model_sha256) == 64 || !*manifest->model_sha256);
    must(!*manifest->previous || store_name_valid(manifest->previous, strlen(manifest->previous)));
}

/* A store whose manifest is the input. */
static struct fuzz_input answer;

static int give(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err)
{
    struct store_id id;
    (void)generation;
    (void)head;
    (void)err;
    must(link->store && kind == STORE_MANIFEST && next(ctx, &id, 1) == 1 && id.len == 0);
    const size_t len = (size_t)(answer.end - answer.at);
    return fn(ctx, 0, len ? answer.at : NULL, len);
}

static void check_store(const struct manifest *expected, int code)
{
    static const struct store_backend backend = {.stream = give};
    struct store store = {.backend = &backend};
    struct store_link link = {.store = &store};
    struct manifest manifest;
    struct err err = ERR_INIT;
    if (answer.at == answer.end)
        code = -ERR_NOT_FOUND;
    must(manifest_get(&manifest, &link, "g", &err) == code);
    if (code < 0)
        fuzz_must_tell(code, &err);
    else
        must(same(&manifest, expected));
}

static void check_short(const uint8_t *data, size_t size, int code)
{
    struct manifest manifest;
    struct err err = ERR_INIT;
    fuzz_memory_fail(data, size);
    const int again = manifest_parse(&manifest, (const char *)data, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest manifest, untouched, again;
    struct err err = ERR_INIT;
    memset(&manifest, 0x5A, sizeof manifest);
    untouched = manifest;
    fuzz_memory_count();
    const int code = manifest_parse(&manifest, (const char *)data, size, &err);
    check_short(data, size, code);
    answer = (struct fuzz_input){data, data + size};
    check_store(&manifest, code);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(memcmp(&manifest, &untouched, sizeof manifest) == 0);
        return 0;
    }
    check_bounds(&manifest);
    char *const text = manifest_dump(&manifest);
    must(text);
    must(manifest_parse(&again, text, strlen(text), &err) == 0 && same(&manifest, &again));
    char *const text_again = manifest_dump(&again);
    must(text_again && strcmp(text, text_again) == 0);
    free(text_again);
    free(text);
    return 0;
}
