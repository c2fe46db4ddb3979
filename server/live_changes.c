/* Changes inside a generation: a refresh writes new matrices or categories under old names, and says so in the store's
 * stream. */
#include "core/id.h"
#include "server/clock.h"
#include "server/live_generation.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

/* How often the manifest is read again where nothing has changed: a refresh that had nothing to do says so there. */
enum { MANIFEST_MS = 2000 };

/* What has changed, each once. */
struct following {
    struct id_map users, contents;
    bool categories;
    size_t count;
    struct err *err;
};

static int note(void *ctx, const struct store_change *change)
{
    struct following *following = ctx;
    struct id_map *map = change->kind == STORE_USER ? &following->users : &following->contents;
    following->count++;
    if (change->kind == STORE_CATEGORY) {
        following->categories = true;
        return 0;
    }
    if (id_check(change->id.id, change->id.len, NULL) < 0)
        return 0;
    const ptrdiff_t index = id_map_add(map, change->id.id, change->id.len, NULL);
    return index < 0 ? err_set(following->err, ERR_NOMEM, "no memory to note the changes") : 0;
}

static struct store_id *list_ids(const struct id_map *map)
{
    struct store_id *ids = malloc((map->count + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < map->count; i++)
        ids[i] = (struct store_id){id_map_get(map, i), map->length[i]};
    return ids;
}

/* Contents that came or went, for the catalogue. */
struct turnover {
    const struct catalogue *before;
    struct catalogue_change *changes;
    size_t count;
};

static void note_turnover(void *ctx, const struct store_id *id, enum matrix_status status)
{
    struct turnover *turnover = ctx;
    const bool before = catalogue_find(turnover->before, id) >= 0;
    if ((status == MATRIX_HERE && !before) || (status == MATRIX_NOT_FOUND && before))
        turnover->changes[turnover->count++] = (struct catalogue_change){*id, !before};
}

/* Categories are read again as a whole, and when contents have come or gone, too: a category may have listed a content
 * before it came. */
static int replace_catalogue(struct live_generation *generation, struct store_link *link,
    struct turnover *turnover, bool categories_changed, struct err *err)
{
    struct catalogue *fresh = generation->catalogue, *old = generation->catalogue;
    struct category_index *categories = NULL, *old_categories = generation->categories;
    if (!turnover->count && !categories_changed)
        return 0;
    int code = 0;
    if (turnover->count)
        code = catalogue_apply(&fresh, old, turnover->changes, turnover->count, err);
    else
        catalogue_hold(fresh);
    if (code < 0)
        return code;
    code = category_index_read(&categories, link, generation->name, fresh, err);
    if (code < 0) {
        catalogue_release(fresh);
        return code;
    }
    pthread_mutex_lock(&generation->catalogue_lock);
    generation->catalogue = fresh;
    generation->categories = categories;
    pthread_mutex_unlock(&generation->catalogue_lock);
    catalogue_release(old);
    category_index_free(old_categories);
    return 0;
}

static int follow(struct live_generation *generation, struct worker *watcher,
    const struct following *following, struct err *err)
{
    struct store_id *users = list_ids(&following->users), *contents = list_ids(&following->contents);
    struct turnover turnover = {
        .before = generation->catalogue,
        .changes = malloc((following->contents.count + 1) * sizeof *turnover.changes),
    };
    int code = 0;
    if (!users || !contents || !turnover.changes) {
        code = err_set(err, ERR_NOMEM, "no memory to follow the changes");
    } else {
        const int one =
            matrices_reread(generation->users, watcher, users, following->users.count, NULL, NULL);
        const int two = matrices_reread(
            generation->contents, watcher, contents, following->contents.count, note_turnover, &turnover);
        code = replace_catalogue(generation, watcher->link, &turnover, following->categories, err);
        if (code == 0 && (one < 0 || two < 0))
            code = err_set(err, ERR_UNAVAILABLE, "what has changed could not be read from the store");
    }
    free(users);
    free(contents);
    free(turnover.changes);
    return code;
}

void live_generation_describe(struct live_generation *generation, const struct manifest *manifest)
{
    atomic_store_explicit(&generation->user_count, manifest->users, memory_order_relaxed);
    atomic_store_explicit(&generation->content_count, manifest->contents, memory_order_relaxed);
    atomic_store_explicit(&generation->refreshed, manifest->refreshed, memory_order_relaxed);
    generation->manifest_ms = clock_ms();
}

/* For those who watch; what is ranked does not hang on it. */
static void read_manifest(struct live_generation *generation, struct store_link *link)
{
    struct manifest manifest;
    if (manifest_get(&manifest, link, generation->name, NULL) == 0)
        live_generation_describe(generation, &manifest);
}

int live_generation_follow(
    struct live_generation *generation, struct worker *watcher, size_t *count, struct err *err)
{
    struct following following = {.err = err};
    char cursor[STORE_CURSOR_MAX];
    memcpy(cursor, generation->cursor, sizeof cursor);
    int code = store_changes_read(
        watcher->link, generation->name, cursor, LIVE_CHANGES_AT_ONCE, note, &following, err);
    if (code == 0 && following.count)
        code = follow(generation, watcher, &following, err);
    if (code == 0) { /* only now: what failed is done again */
        memcpy(generation->cursor, cursor, sizeof cursor);
        *count = following.count;
        if (following.count || clock_ms() - generation->manifest_ms >= MANIFEST_MS)
            read_manifest(generation, watcher->link);
    }
    id_map_done(&following.users);
    id_map_done(&following.contents);
    return code;
}
