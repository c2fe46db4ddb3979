#include "server/live_generation.h"

#include "server/clock.h"
#include "server/live_verify.h"
#include "server/preload.h"
#include "server/worker.h"
#include "store/blob.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* ---- the matrices that each generation has one of ---- */

struct matrix_reading {
    struct blob_spec spec;
    float *matrix;
    bool found;
    enum blob_reason reason;
};

static int take_matrix(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct matrix_reading *reading = ctx;
    reading->found = data != NULL;
    if (data)
        reading->reason = blob_decode(reading->matrix, &reading->spec, data, len);
    return 0;
}

/* Read the one matrix of a kind that has the empty id; NULL if it is not there. what names it in messages. */
static int read_matrix(float **out, struct store_link *link, const char *generation, enum store_kind kind,
    enum blob_kind blob, size_t rows, size_t cols, const char *what, struct err *err)
{
    size_t count;
    if (__builtin_mul_overflow(rows, cols, &count) || count > SIZE_MAX / sizeof(float))
        return err_set(err, ERR_CORRUPT, "%s of %zu x %zu does not fit into memory", what, rows, cols);
    struct matrix_reading reading = {
        .spec = {.kind = blob, .rows = rows, .cols = cols, .generation = generation, .id = "", .id_len = 0},
        .matrix = malloc(count * sizeof(float)),
    };
    if (!reading.matrix)
        return err_set(err, ERR_NOMEM, "no memory for %s", what);
    const struct store_id id = {"", 0};
    int code = store_get(link, generation, kind, &id, 1, take_matrix, &reading, err);
    if (code == 0 && reading.found && reading.reason != BLOB_OK)
        code = err_set(err, ERR_CORRUPT, "%s is damaged: %s", what, blob_reason_name(reading.reason));
    if (code < 0 || !reading.found) {
        free(reading.matrix);
        reading.matrix = NULL;
    }
    if (code < 0)
        return code;
    *out = reading.matrix;
    return 0;
}

static int read_proj(struct live_generation *generation, struct store_link *link, struct err *err)
{
    const size_t d = generation->manifest.d;
    float *proj = NULL;
    int code =
        read_matrix(&proj, link, generation->name, STORE_SCORE_PROJ, BLOB_SCORE_PROJ, d, d, "W_s", err);
    if (code == 0 && !proj)
        code = err_set(err, ERR_CORRUPT, "W_s is missing");
    if (code < 0)
        return code;
    generation->proj = aligned_alloc(64, scorer_proj_bytes(generation->scorer));
    if (generation->proj)
        scorer_pack_proj(generation->scorer, generation->proj, proj);
    free(proj);
    return generation->proj ? 0 : err_set(err, ERR_NOMEM, "no memory for W_s");
}

/* Matrices that were made elsewhere may come without a default user. */
static int read_default_user(struct live_generation *generation, struct store_link *link, struct err *err)
{
    float *user = NULL;
    const int code = read_matrix(&user, link, generation->name, STORE_USER, BLOB_USER, generation->manifest.m,
        generation->manifest.d, "the default user", err);
    if (code < 0 || !user)
        return code;
    generation->default_user = aligned_alloc(64, scorer_user_bytes(generation->scorer));
    if (generation->default_user)
        scorer_pack_user(generation->scorer, generation->default_user, user);
    free(user);
    return generation->default_user ? 0 : err_set(err, ERR_NOMEM, "no memory for the default user");
}

/* ---- memory ---- */

static enum scorer_dtype dtype_of(const struct config *config)
{
    for (int dtype = 0; dtype < SCORER_DTYPES; dtype++)
        if (strcmp(config->scoring.dtype, scorer_dtype_name((enum scorer_dtype)dtype)) == 0)
            return (enum scorer_dtype)dtype;
    return SCORER_F32; /* not reached: the configuration knows the names */
}

static const char *kernel_of(const struct config *config)
{
    return strcmp(config->scoring.kernel, "auto") == 0 ? NULL : config->scoring.kernel;
}

int live_generation_check(const struct config *config, struct err *err)
{
    struct scorer *scorer = NULL;
    const int code = scorer_new(&scorer, dtype_of(config), kernel_of(config), 1, 1, 1, err);
    scorer_free(scorer);
    return code < 0 ? err_place(err, "scoring.kernel: ") : 0;
}

/* So much memory as count matrices need, with a quarter more for those that come, or all that there is. */
static size_t memory_for(size_t count, size_t bytes, size_t limit)
{
    const size_t each = bytes + 256; /* with its id and its place in the index */
    return count < limit / each ? (count + 64) * each / 4 * 5 : limit;
}

/* A content is asked for by every request, a user by their own alone: users have what they need, but no more than a
 * quarter where the contents need the rest. */
static int make_matrices(struct live_generation *generation, struct service *service, struct err *err)
{
    const struct manifest *manifest = &generation->manifest;
    const size_t limit = (size_t)service->config->memory.limit_bytes;
    const size_t contents = memory_for(manifest->contents, scorer_content_bytes(generation->scorer), limit);
    const size_t users = memory_for(manifest->users, scorer_user_bytes(generation->scorer), limit);
    const size_t most = users < limit / 4 ? limit - users : limit / 4 * 3;
    struct matrices_options options = {
        .kind = STORE_CONTENT,
        .generation = generation->name,
        .scorer = generation->scorer,
        .proj = generation->proj,
        .rows = manifest->n,
        .cols = manifest->d,
        .limit_bytes = contents < most ? contents : most,
        .expected = manifest->contents,
        .hot_readers = worker_slots(service),
        .readers = service->reader_pool,
        .breaker = &service->breaker,
        .deadlines = service->deadlines,
    };
    const int code = matrices_new(&generation->contents, &options, err);
    options.kind = STORE_USER;
    options.rows = manifest->m;
    options.limit_bytes = limit - options.limit_bytes;
    options.expected = manifest->users;
    return code < 0 ? code : matrices_new(&generation->users, &options, err);
}

/* ---- life ---- */

static int load(struct live_generation *generation, const struct live_generation *before,
    struct worker *watcher, struct err *err)
{
    struct service *service = watcher->service;
    const struct config *config = service->config;
    struct store_link *link = watcher->link;
    struct manifest *manifest = &generation->manifest;
    int code = manifest_get(manifest, link, generation->name, err);
    if (code == -ERR_NOT_FOUND)
        code = err_set(err, ERR_CORRUPT, "the manifest is missing");
    generation->dtype = dtype_of(config);
    if (code == 0)
        code = scorer_new(&generation->scorer, generation->dtype, kernel_of(config), manifest->m, manifest->n,
            manifest->d, err);
    if (code == 0)
        code = read_proj(generation, link, err);
    if (code == 0)
        code = read_default_user(generation, link, err);
    if (code == 0)
        code = make_matrices(generation, service, err);
    if (code == 0) /* what was written before it is loaded is loaded with it */
        code = store_changes_end(link, generation->name, generation->cursor, err);
    if (code == 0)
        code = catalogue_read(&generation->catalogue, link, generation->name, STORE_CONTENT, err);
    if (code == 0)
        code =
            category_index_read(&generation->categories, link, generation->name, generation->catalogue, err);
    if (code == 0)
        code = live_verify(generation, watcher, err);
    if (code == 0 && !config->memory.preload)
        hot_reserve(matrices_hot(generation->contents), manifest->contents);
    if (code == 0)
        code = warm(generation, before, service, err);
    if (code == 0 && config->memory.preload)
        code = preload(generation, watcher, err);
    return code;
}

/* A reader that has told the last who waited for it is not yet done with the matrices. */
static void await_readers(const struct live_generation *generation)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    while ((generation->users && !matrices_idle(generation->users)) ||
           (generation->contents && !matrices_idle(generation->contents)))
        nanosleep(&pause, NULL);
}

int live_generation_load(struct live_generation **out, struct worker *watcher, const char *name,
    const struct live_generation *before, struct err *err)
{
    const uint64_t start = clock_ns();
    struct live_generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return err_set(err, ERR_NOMEM, "no memory for a generation");
    memcpy(generation->name, name, strlen(name) + 1);
    pthread_mutex_init(&generation->catalogue_lock, NULL);
    const int code = load(generation, before, watcher, err);
    if (code < 0) {
        await_readers(generation);
        live_generation_free(generation);
        return code;
    }
    live_generation_describe(generation, &generation->manifest);
    generation->loaded = time(NULL);
    generation->load_seconds = (double)(clock_ns() - start) / 1e9;
    atomic_init(&generation->holders, 1);
    *out = generation;
    return 0;
}

bool live_generation_idle(struct live_generation *generation)
{
    return atomic_load_explicit(&generation->holders, memory_order_acquire) == 1 &&
           matrices_idle(generation->users) && matrices_idle(generation->contents);
}

void live_generation_free(struct live_generation *generation)
{
    if (!generation)
        return;
    matrices_free(generation->users);
    matrices_free(generation->contents);
    category_index_free(generation->categories);
    catalogue_release(generation->catalogue);
    pthread_mutex_destroy(&generation->catalogue_lock);
    scorer_free(generation->scorer);
    free(generation->proj);
    free(generation->default_user);
    free(generation);
}

/* What a generation has held, and what requests have given back meanwhile, goes to the kernel: malloc would keep it, each
 * time elsewhere. Not by the clock: it takes up to a millisecond a megabyte, during which whoever allocates waits. */
void live_generation_sweep(struct live_generation **retired)
{
    bool freed = false;
    for (struct live_generation **at = retired; *at;) {
        struct live_generation *generation = *at;
        if (!live_generation_idle(generation)) {
            at = &generation->next;
            continue;
        }
        *at = generation->next;
        live_generation_free(generation);
        freed = true;
    }
    if (freed)
        malloc_trim(0);
}

struct catalogue *live_generation_catalogue(struct live_generation *generation)
{
    pthread_mutex_lock(&generation->catalogue_lock);
    struct catalogue *catalogue = generation->catalogue;
    catalogue_hold(catalogue);
    pthread_mutex_unlock(&generation->catalogue_lock);
    return catalogue;
}

struct catalogue *live_generation_category(struct live_generation *generation, const struct store_id *name)
{
    pthread_mutex_lock(&generation->catalogue_lock);
    struct catalogue *contents = category_index_find(generation->categories, name);
    if (contents)
        catalogue_hold(contents);
    pthread_mutex_unlock(&generation->catalogue_lock);
    return contents;
}

void live_generation_categories_of(struct live_generation *generation, const struct store_id *content,
    void (*fn)(void *ctx, const struct store_id *name), void *ctx)
{
    pthread_mutex_lock(&generation->catalogue_lock);
    const struct category_index *index = generation->categories;
    for (size_t i = 0; i < index->names->count; i++)
        if (index->contents[i] && catalogue_find(index->contents[i], content) >= 0)
            fn(ctx, &index->names->ids[i]);
    pthread_mutex_unlock(&generation->catalogue_lock);
}
