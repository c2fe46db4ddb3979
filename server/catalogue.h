/* Ids of a generation, all its contents say, in the order of their bytes, so that ties come out the same every time. A catalogue
 * does not change: when contents come or go a new one takes its place, and whoever holds the old one finishes with it. */
#ifndef EMBSUM_SERVER_CATALOGUE_H
#define EMBSUM_SERVER_CATALOGUE_H

#include "core/err.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct catalogue {
    atomic_size_t holders;
    size_t count;
    struct store_id *ids;
    uint64_t *hashes;     /* of hot_hash */
    char *bytes;          /* of the ids; NULL: they lie in another's */
    struct catalogue *of; /* that one, held; or NULL */
};

/* Read the ids of a kind (users, contents or categories) from the store, but for the empty one. */
int catalogue_read(struct catalogue **out, struct store_link *link, const char *generation,
    enum store_kind kind, struct err *err);

/* An id that came (here) or went. */
struct catalogue_change {
    struct store_id id;
    bool here;
};

/* The catalogue after changes, of which there is at most one an id; they are sorted in place. */
int catalogue_apply(struct catalogue **out, const struct catalogue *old, struct catalogue_change *changes,
    size_t count, struct err *err);

/* The ids of another catalogue at these indices, which are sorted in place; a repeated one counts once. */
int catalogue_select(
    struct catalogue **out, struct catalogue *of, size_t *indices, size_t count, struct err *err);

/* The order in which the ids are: negative, 0 or positive. */
int catalogue_compare(const struct store_id *x, const struct store_id *y);

ptrdiff_t catalogue_find(const struct catalogue *catalogue, const struct store_id *id); /* its index, or -1 */
void catalogue_hold(struct catalogue *catalogue);
void catalogue_release(struct catalogue *catalogue); /* NULL is allowed */

#endif
