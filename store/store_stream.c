/* The door to the streams, changes and clicks, as store.c is to the rest. */
#include "store/store_int.h"

#include <stdlib.h>
#include <string.h>

int store_err_cursor(struct err *err, const char *cursor)
{
    return err_set(err, ERR_INVALID, "\"%.*s\" is no cursor of this store", STORE_CURSOR_MAX, cursor);
}

int store_err_trimmed(struct err *err, const char *generation)
{
    return err_set(
        err, ERR_NOT_FOUND, "changes behind the cursor have been trimmed in generation %s", generation);
}

static int check_cursor(const char *cursor, struct err *err)
{
    return memchr(cursor, '\0', STORE_CURSOR_MAX) ? 0 : store_err_cursor(err, cursor);
}

/* LMDB's places are numbers, Redis's are milliseconds, a dash and a number. */
int store_cursor_compare(const char *a, const char *b)
{
    if (!*a || !*b)
        return (*a != '\0') - (*b != '\0');
    for (;;) {
        char *a_end, *b_end;
        const unsigned long long x = strtoull(a, &a_end, 10), y = strtoull(b, &b_end, 10);
        if (x != y)
            return x < y ? -1 : 1;
        if (*a_end != '-' || *b_end != '-')
            return (*a_end == '-') - (*b_end == '-');
        a = a_end + 1;
        b = b_end + 1;
    }
}

/* ---- changes ---- */

int store_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = store_check_generation(generation, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = store_kind_changes(changes[i].kind)
                 ? store_id_check(changes[i].kind, changes[i].id.id, changes[i].id.len, err)
                 : err_set(err, ERR_INVALID, "a change is one of a user, a content or a category");
    if (rc < 0 || count == 0)
        return rc;
    return link->store->backend->changes_append(link, generation, changes, count, err);
}

int store_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err)
{
    int rc = store_check_generation(generation, err);
    if (rc == 0)
        rc = check_cursor(cursor, err);
    if (rc < 0 || max == 0)
        return rc;
    return link->store->backend->changes_read(link, generation, cursor, max, fn, ctx, err);
}

int store_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err)
{
    const int rc = store_check_generation(generation, err);
    return rc < 0 ? rc : link->store->backend->changes_end(link, generation, cursor, err);
}

int store_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = store_check_generation(generation, err);
    if (rc == 0 && keep == 0) /* without a last one, the end would be the beginning again */
        rc = err_set(err, ERR_INVALID, "of the changes at least 1 is kept");
    return rc < 0 ? rc : link->store->backend->changes_trim(link, generation, keep, err);
}

/* ---- clicks ---- */

struct store_click store_click_of(struct store_id user, struct store_id item)
{
    const bool good = id_check(user.id, user.len, NULL) == 0 && id_check(item.id, item.len, NULL) == 0;
    return good ? (struct store_click){user, item} : (struct store_click){{"", 0}, {"", 0}};
}

int store_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err)
{
    int rc = store_check_writable(link, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = id_check(clicks[i].user.id, clicks[i].user.len, err);
        if (rc == 0)
            rc = id_check(clicks[i].item.id, clicks[i].item.len, err);
    }
    return rc < 0 || count == 0 ? rc : link->store->backend->clicks_append(link, clicks, count, err);
}

int store_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err)
{
    const int rc = check_cursor(cursor, err);
    return rc < 0 || max == 0 ? rc : link->store->backend->clicks_read(link, cursor, max, fn, ctx, err);
}

int store_clicks_trim(struct store_link *link, const char *cursor, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0 && strnlen(cursor, STORE_CURSOR_MAX) == STORE_CURSOR_MAX)
        rc = store_err_cursor(err, cursor);
    return rc < 0 || !*cursor ? rc : link->store->backend->clicks_trim(link, cursor, err);
}
