#include "batch/refresh_plan.h"

#include "batch/entry_id.h"
#include "batch/titles.h"
#include "store/category.h"

#include <stdlib.h>
#include <string.h>

enum { ASKED_AT_ONCE = 4096 };

/* ---- matrices ---- */

struct side {
    const struct workspace *workspace;
    enum blob_kind kind;
    const struct id_map *ids;
    size_t count, rows; /* users: the default user is the last */
};

static uint64_t inputs_of(const struct side *side, size_t index)
{
    return side->kind == BLOB_USER ? workspace_user_inputs(side->workspace, index)
                                   : workspace_content_inputs(side->workspace, index);
}

/* list (room for all) = those whose stored inputs are not what they would be computed from now. */
static int find_changed(
    uint32_t *list, size_t *found, const struct side *side, struct generation_writer *writer, struct err *err)
{
    const size_t d = side->workspace->model->config.d_model;
    struct store_id *ids = malloc(ASKED_AT_ONCE * sizeof *ids);
    uint64_t *stored = malloc(ASKED_AT_ONCE * sizeof *stored);
    int result = ids && stored ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    *found = 0;
    for (size_t at = 0; result == 0 && at < side->count; at += ASKED_AT_ONCE) {
        const size_t some = side->count - at < ASKED_AT_ONCE ? side->count - at : ASKED_AT_ONCE;
        for (size_t i = 0; i < some; i++)
            ids[i] = entry_id(side->ids, at + i);
        result = generation_inputs(writer, side->kind, ids, some, side->rows, d, stored, err);
        for (size_t i = 0; result == 0 && i < some; i++)
            if (stored[i] != inputs_of(side, at + i))
                list[(*found)++] = (uint32_t)(at + i);
    }
    free(ids);
    free(stored);
    return result;
}

static int plan_matrices(
    struct refresh_plan *plan, const struct workspace *w, struct generation_writer *writer, struct err *err)
{
    const struct model_config *c = &w->model->config;
    const struct side contents = {w, BLOB_CONTENT, &w->news.ids, w->news.ids.count, model_n(c)},
                      users = {w, BLOB_USER, &w->histories.users, w->histories.users.count + 1, model_m(c)};
    plan->all_contents = contents.count;
    plan->all_users = users.count;
    plan->contents = malloc((contents.count + 1) * sizeof *plan->contents);
    plan->users = malloc(users.count * sizeof *plan->users);
    if (!plan->contents || !plan->users)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = find_changed(plan->contents, &plan->content_count, &contents, writer, err);
    if (result == 0)
        result = find_changed(plan->users, &plan->user_count, &users, writer, err);
    return result;
}

/* ---- what goes ---- */

struct listing {
    const struct id_map *wanted;
    struct id_map *gone;
    size_t *stored; /* may be NULL */
    enum store_kind kind;
    struct err *err;
};

static int list_gone(void *ctx, const char *id, size_t len)
{
    const struct listing *listing = ctx;
    if (listing->stored)
        ++*listing->stored;
    /* The default user stays; a key that is none of ours is not ours to delete. */
    if (!len || id_map_find(listing->wanted, id, len) >= 0 ||
        store_id_check(listing->kind, id, len, NULL) < 0)
        return 0;
    return id_map_add(listing->gone, id, len, NULL) < 0 ? err_set(listing->err, ERR_NOMEM, "out of memory")
                                                        : 0;
}

struct why_listing {
    const struct workspace *workspace;
    struct id_map *gone;
    struct err *err;
};

/* An explanation goes to the store before its matrix, and a writer may be killed between the two. */
static int list_gone_why(void *ctx, const char *id, size_t len)
{
    const struct why_listing *listing = ctx;
    const struct workspace *w = listing->workspace;
    if (store_id_check(STORE_WHY, id, len, NULL) < 0)
        return 0;
    const struct id_map *wanted = *id == 'u' ? &w->histories.users : &w->news.ids;
    if (len == 2 || id_map_find(wanted, id + 2, len - 2) >= 0)
        return 0;
    return id_map_add(listing->gone, id, len, NULL) < 0 ? err_set(listing->err, ERR_NOMEM, "out of memory")
                                                        : 0;
}

static int plan_gone(struct refresh_plan *plan, const struct workspace *w, const char *generation,
    struct store_link *link, struct err *err)
{
    const struct listing listings[] = {
        {&w->news.ids, &plan->gone_contents, &plan->stored_contents, STORE_CONTENT, err},
        {&w->histories.users, &plan->gone_users, &plan->stored_users, STORE_USER, err},
        {&plan->categories.names, &plan->gone_categories, NULL, STORE_CATEGORY, err},
    };
    int result = 0;
    for (size_t i = 0; result == 0 && i < sizeof listings / sizeof *listings; i++) {
        struct listing listing = listings[i];
        result = store_scan(link, generation, listing.kind, list_gone, &listing, err);
    }
    struct why_listing whys = {w, &plan->gone_whys, err};
    if (result == 0 && w->explain)
        result = store_scan(link, generation, STORE_WHY, list_gone_why, &whys, err);
    return result;
}

/* ---- categories ---- */

struct comparing {
    struct refresh_plan *plan;
    const struct id_map *contents;
    struct store_id *ids;
    char *text;
    size_t size;
    struct err *err;
};

static int compare_category(void *ctx, size_t index, const void *data, size_t len)
{
    struct comparing *comparing = ctx;
    const struct categories *categories = &comparing->plan->categories;
    const size_t count = categories_contents(comparing->ids, categories, comparing->contents, index);
    const size_t size = category_size(comparing->ids, count);
    if (size > comparing->size) {
        char *more = realloc(comparing->text, size);
        if (!more)
            return err_set(comparing->err, ERR_NOMEM, "out of memory");
        comparing->text = more;
        comparing->size = size;
    }
    category_encode(comparing->text, comparing->ids, count);
    const bool changed = !data || len != size || memcmp(data, comparing->text, size) != 0;
    comparing->plan->category_changed[index] = changed;
    comparing->plan->changed_categories += changed;
    return 0;
}

static int plan_categories(struct refresh_plan *plan, const struct id_map *contents, const char *generation,
    struct store_link *link, struct err *err)
{
    const struct id_map *names = &plan->categories.names;
    struct store_id *ids = malloc((names->count + 1) * sizeof *ids);
    struct comparing comparing = {.plan = plan,
        .contents = contents,
        .ids = malloc((plan->categories.count + 1) * sizeof *comparing.ids),
        .err = err};
    int result = -ERR_NOMEM;
    plan->category_changed = calloc(names->count + 1, sizeof *plan->category_changed);
    if (ids && comparing.ids && plan->category_changed) {
        for (size_t i = 0; i < names->count; i++)
            ids[i] = entry_id(names, i);
        result =
            store_get(link, generation, STORE_CATEGORY, ids, names->count, compare_category, &comparing, err);
    } else {
        err_set(err, ERR_NOMEM, "out of memory");
    }
    free(ids);
    free(comparing.ids);
    free(comparing.text);
    return result;
}

/* ---- titles ---- */

/* A title is compared by itself: a generation may have been made before there were any. */
static int plan_titles(struct refresh_plan *plan, const struct news *news, struct generation_writer *writer,
    struct store_link *link, struct err *err)
{
    plan->title_changed = calloc(news->ids.count + 1, sizeof *plan->title_changed);
    return plan->title_changed ? titles_compare(plan->title_changed, news, writer, link, err)
                               : err_set(err, ERR_NOMEM, "out of memory");
}

/* ---- all of it ---- */

int refresh_plan_make(struct refresh_plan *plan, const struct workspace *workspace,
    struct generation_writer *writer, struct store_link *link, bool quiet, struct err *err)
{
    const char *generation = generation_name(writer);
    *plan = (struct refresh_plan){0};
    int result = categories_of_news(&plan->categories, &workspace->news, quiet, err);
    if (result == 0)
        result = plan_matrices(plan, workspace, writer, err);
    if (result == 0)
        result = plan_gone(plan, workspace, generation, link, err);
    if (result == 0)
        result = plan_categories(plan, &workspace->news.ids, generation, link, err);
    if (result == 0)
        result = plan_titles(plan, &workspace->news, writer, link, err);
    if (result < 0)
        refresh_plan_done(plan);
    return result;
}

int refresh_plan_users(struct refresh_plan *plan, const struct workspace *w, const struct id_map *users,
    struct generation_writer *writer, struct err *err)
{
    const struct model_config *c = &w->model->config;
    const struct manifest *stored = generation_manifest(writer);
    struct store_id *ids = malloc((users->count + 1) * sizeof *ids);
    uint64_t *inputs = malloc((users->count + 1) * sizeof *inputs);
    size_t count = 0;
    *plan = (struct refresh_plan){.all_users = stored->users, .all_contents = stored->contents};
    plan->users = malloc((users->count + 1) * sizeof *plan->users);
    int result = ids && inputs && plan->users ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < users->count; i++) {
        const ptrdiff_t user = id_map_find(&w->histories.users, id_map_get(users, i), users->length[i]);
        if (user < 0)
            continue;
        ids[count] = entry_id(&w->histories.users, (size_t)user);
        plan->users[count++] = (uint32_t)user;
    }
    if (result == 0)
        result = generation_inputs(writer, BLOB_USER, ids, count, model_m(c), c->d_model, inputs, err);
    for (size_t i = 0; result == 0 && i < count; i++) {
        plan->all_users += inputs[i] == 0;
        if (inputs[i] != workspace_user_inputs(w, plan->users[i]))
            plan->users[plan->user_count++] = plan->users[i];
    }
    free(ids);
    free(inputs);
    if (result < 0)
        refresh_plan_done(plan);
    return result;
}

void refresh_plan_done(struct refresh_plan *plan)
{
    free(plan->contents);
    free(plan->users);
    free(plan->category_changed);
    free(plan->title_changed);
    id_map_done(&plan->gone_contents);
    id_map_done(&plan->gone_users);
    id_map_done(&plan->gone_categories);
    id_map_done(&plan->gone_whys);
    categories_done(&plan->categories);
    *plan = (struct refresh_plan){0};
}
