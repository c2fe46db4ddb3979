#include "server/details.h"

#include "core/id.h"
#include "server/clock.h"
#include "server/worker.h"
#include "store/title.h"

#include <stdlib.h>
#include <string.h>

enum { WAITING, READY, GIVEN_UP };

struct details {
    struct service *service;
    struct pool_task task;
    struct deadline deadline;
    void (*done)(void *owner);
    void *owner;
    atomic_int state, holders; /* who asks, and the reader */
    char generation[STORE_GENERATION_MAX];
    struct arena arena;
    struct details_wanted wanted;
    bool failed;
    size_t tries;                        /* that have failed */
    struct store_id *titles;             /* of the contents; NULL: not wanted */
    struct store_id *why_ids;            /* of the users, then of the contents */
    struct why *whys;                    /* of the same */
    struct id_map items;                 /* that the users' codes look at */
    struct store_id *item_titles, *item; /* of the items; what is being read */
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for titles and explanations");
}

/* ---- what is wanted ---- */

static const struct store_id *copy_ids(struct arena *arena, const struct store_id *ids, size_t count)
{
    struct store_id *copies = arena_array(arena, count + 1, sizeof *copies);
    for (size_t i = 0; copies && i < count; i++) {
        copies[i] = (struct store_id){arena_copy(arena, ids[i].id, ids[i].len), ids[i].len};
        if (!copies[i].id)
            return NULL;
    }
    return copies;
}

/* "u:U1", "c:N1" */
static bool name_whys(
    struct arena *arena, struct store_id *out, char kind, const struct store_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *name = arena_alloc(arena, ids[i].len + 3);
        if (!name)
            return false;
        name[0] = kind;
        name[1] = ':';
        memcpy(name + 2, ids[i].id, ids[i].len);
        out[i] = (struct store_id){name, ids[i].len + 2};
    }
    return true;
}

static bool make_room(struct details *details, const struct details_wanted *wanted)
{
    struct arena *arena = &details->arena;
    const size_t contents = wanted->content_count, users = wanted->user_count;
    details->wanted = *wanted;
    details->wanted.contents = copy_ids(arena, wanted->contents, contents);
    details->wanted.users = copy_ids(arena, wanted->users, users);
    if (!details->wanted.contents || !details->wanted.users)
        return false;
    if (wanted->titles) {
        details->titles = arena_array(arena, contents + 1, sizeof *details->titles);
        if (!details->titles)
            return false;
    }
    if (!wanted->whys)
        return true;
    details->why_ids = arena_array(arena, users + contents + 1, sizeof *details->why_ids);
    details->whys = arena_array(arena, users + contents + 1, sizeof *details->whys);
    return details->why_ids && details->whys &&
           name_whys(arena, details->why_ids, 'u', wanted->users, users) &&
           name_whys(arena, details->why_ids + users, 'c', wanted->contents, contents);
}

int details_new(struct details **out, struct service *service, const char *generation,
    const struct details_wanted *wanted, struct err *err)
{
    struct details *details = calloc(1, sizeof *details);
    if (!details)
        return no_memory(err);
    details->service = service;
    atomic_init(&details->state, WAITING);
    atomic_init(&details->holders, 1);
    strcpy(details->generation, generation);
    if (!make_room(details, wanted)) {
        details_release(details);
        return no_memory(err);
    }
    *out = details;
    return 0;
}

void details_release(struct details *details)
{
    if (!details || atomic_fetch_sub_explicit(&details->holders, 1, memory_order_acq_rel) != 1)
        return;
    const size_t whys = details->whys ? details->wanted.user_count + details->wanted.content_count : 0;
    for (size_t i = 0; i < whys; i++)
        why_done(&details->whys[i]);
    id_map_done(&details->items);
    arena_done(&details->arena);
    free(details);
}

/* ---- the reader ---- */

/* A title that is none of ours is none: it is to be shown. */
static int take_title(void *ctx, size_t index, const void *data, size_t len)
{
    struct details *details = ctx;
    if (!data || !title_valid(data, len))
        return 0;
    const char *copy = arena_copy(&details->arena, data, len);
    if (!copy)
        return -ERR_NOMEM;
    details->item[index] = (struct store_id){copy, len};
    return 0;
}

static int take_why(void *ctx, size_t index, const void *data, size_t len)
{
    struct details *details = ctx;
    why_done(&details->whys[index]); /* of a reader that has failed */
    const int code = data ? why_read(&details->whys[index], data, len, NULL) : 0;
    return code == -ERR_CORRUPT ? 0 : code; /* as if there were none; generation_verify tells */
}

static int list_items(struct details *details, struct store_id **out)
{
    struct id_map *items = &details->items;
    for (size_t u = 0; u < details->wanted.user_count; u++) {
        const struct why *why = &details->whys[u];
        for (size_t i = 0; i < (why->code_count ? why->first[why->code_count] : 0); i++) {
            const struct why_look *look = &why->looks[i];
            if (id_check(look->name, look->len, NULL) == 0 &&
                id_map_add(items, look->name, look->len, NULL) < 0)
                return -ERR_NOMEM;
        }
    }
    struct store_id *ids = arena_array(&details->arena, items->count + 1, sizeof *ids);
    details->item_titles = arena_array(&details->arena, items->count + 1, sizeof *ids);
    if (!ids || !details->item_titles)
        return -ERR_NOMEM;
    for (size_t i = 0; i < items->count; i++)
        ids[i] = (struct store_id){id_map_get(items, i), items->length[i]};
    *out = ids;
    return 0;
}

static int read_titles(struct details *details, struct worker *reader, const struct store_id *ids,
    size_t count, struct store_id *titles, struct err *err)
{
    details->item = titles;
    return store_get(reader->link, details->generation, STORE_TITLE, ids, count, take_title, details, err);
}

static int read_whys(struct details *details, struct worker *reader, struct err *err)
{
    struct store_id *items;
    int code = store_get(reader->link, details->generation, STORE_WHY, details->why_ids,
        details->wanted.user_count + details->wanted.content_count, take_why, details, err);
    if (code == 0)
        code = list_items(details, &items);
    if (code == 0)
        code = read_titles(details, reader, items, details->items.count, details->item_titles, err);
    return code;
}

static int read_all(struct details *details, struct worker *reader)
{
    const struct details_wanted *wanted = &details->wanted;
    struct err err = ERR_INIT;
    int code = 0;
    if (wanted->titles)
        code = read_titles(details, reader, wanted->contents, wanted->content_count, details->titles, &err);
    if (code == 0 && wanted->whys)
        code = read_whys(details, reader, &err);
    details->failed = code < 0;
    worker_note_store(reader, code, &err);
    return code;
}

static bool decide(struct details *details, int state)
{
    int waiting = WAITING;
    return atomic_compare_exchange_strong(&details->state, &waiting, state);
}

/* What one reader cannot read is left to another, as many times as there are readers: the link of one may be broken, or wait
 * for its next attempt. */
static void run(struct pool_task *task, struct worker *reader)
{
    struct details *details = POOL_OWNER(task, struct details, task);
    if (atomic_load(&details->state) == WAITING && read_all(details, reader) == -ERR_UNAVAILABLE &&
        ++details->tries < details->service->reader_count) {
        pool_put(details->service->reader_pool, task);
        return;
    }
    if (decide(details, READY)) {
        deadline_clear(details->service->deadlines, &details->deadline);
        details->done(details->owner);
    }
    details_release(details);
}

/* The reader finds out by itself, and keeps what it works on. */
static void give_up(struct deadline *deadline)
{
    struct details *details = POOL_OWNER(deadline, struct details, deadline);
    if (decide(details, GIVEN_UP))
        details->done(details->owner);
}

bool details_start(struct details *details, uint64_t deadline_ns, void (*done)(void *owner), void *owner)
{
    struct service *service = details->service;
    if (clock_ns() >= deadline_ns || !breaker_allows(&service->breaker)) {
        decide(details, GIVEN_UP);
        return false;
    }
    details->done = done;
    details->owner = owner;
    details->task.run = run;
    details->deadline.passed = give_up;
    atomic_store(&details->holders, 2);
    deadline_set(service->deadlines, &details->deadline, deadline_ns);
    pool_put(service->reader_pool, &details->task);
    return true;
}

/* ---- what has come ---- */

static bool is_here(const struct details *details)
{
    return atomic_load(&details->state) == READY;
}

bool details_complete(const struct details *details)
{
    return is_here(details) && !details->failed;
}

struct store_id details_title(const struct details *details, size_t content)
{
    return details->titles && is_here(details) ? details->titles[content] : (struct store_id){NULL, 0};
}

struct store_id details_item_title(const struct details *details, const char *id, size_t len)
{
    const ptrdiff_t at =
        is_here(details) && details->item_titles ? id_map_find(&details->items, id, len) : -1;
    return at < 0 ? (struct store_id){NULL, 0} : details->item_titles[at];
}

static const struct why *why_at(const struct details *details, size_t index)
{
    static const struct why none;
    return details->whys && is_here(details) ? &details->whys[index] : &none;
}

const struct why *details_user_why(const struct details *details, size_t user)
{
    return why_at(details, user);
}

const struct why *details_content_why(const struct details *details, size_t content)
{
    return why_at(details, details->wanted.user_count + content);
}
