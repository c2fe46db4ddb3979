/* The shadow's sums in the embedded store: one value, the live generation's name and the numbers in their order, with
 * spaces between. */
#include "store/store_lmdb_int.h"

#include <inttypes.h>

enum { TEXT_MAX = STORE_GENERATION_MAX + 21 * STORE_SHADOW_SUMS };

static bool parse(struct store_shadow *out, const char *text, size_t len)
{
    struct store_shadow found = {0};
    const char *const end = text + len;
    const char *space = len ? memchr(text, ' ', len) : NULL;
    if (!space || !store_name_valid(text, (size_t)(space - text)))
        return false;
    memcpy(found.live, text, (size_t)(space - text));
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++) {
        if (!space)
            return false;
        const char *const at = space + 1;
        space = memchr(at, ' ', (size_t)(end - at));
        if (!store_shadow_parse(&found.sums[i], at, (size_t)((space ? space : end) - at)))
            return false;
    }
    *out = found;
    return !space;
}

static size_t format(char out[TEXT_MAX], const struct store_shadow *shadow)
{
    size_t used = (size_t)snprintf(out, TEXT_MAX, "%s", shadow->live);
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++)
        used += (size_t)snprintf(out + used, TEXT_MAX - used, " %" PRId64, shadow->sums[i]);
    return used;
}

/* Zeros where nothing was added. */
static int get(struct store_shadow *out, const struct lmdb_link *link, MDB_txn *txn, const char *generation,
    struct err *err)
{
    struct store_key name;
    MDB_val value;
    store_key_shadow(&name, link->base.store, generation);
    MDB_val key = lmdb_val(name.text, name.len);
    const int error = mdb_get(txn, link->env->dbi, &key, &value);
    if (error)
        return error == MDB_NOTFOUND ? 0 : lmdb_err(err, link->env, error, "read the LMDB store");
    return parse(out, value.mv_data, value.mv_size) ? 0 : store_err_shadow(err, generation);
}

static int put(const struct lmdb_link *link, MDB_txn *txn, const char *generation,
    const struct store_shadow *shadow, struct err *err)
{
    struct store_key name;
    char text[TEXT_MAX];
    store_key_shadow(&name, link->base.store, generation);
    MDB_val key = lmdb_val(name.text, name.len), value = lmdb_val(text, format(text, shadow));
    const int error = mdb_put(txn, link->env->dbi, &key, &value, 0);
    return error ? lmdb_err(err, link->env, error, "write to the LMDB store") : 0;
}

static int check_known(const struct lmdb_link *link, MDB_txn *txn, const char *generation, struct err *err)
{
    struct store_key name;
    MDB_val row;
    store_key_global(&name, link->base.store, "generations:");
    store_key_append(&name, generation, strlen(generation));
    MDB_val key = lmdb_val(name.text, name.len);
    const int error = mdb_get(txn, link->env->dbi, &key, &row);
    if (error && error != MDB_NOTFOUND)
        return lmdb_err(err, link->env, error, "read the LMDB store");
    return !error && store_row_complete(row.mv_data, row.mv_size) ? 0 : store_err_unknown(err, generation);
}

int lmdb_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_shadow sum = {0};
    MDB_txn *txn;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    rc = check_known(self, txn, generation, err);
    if (rc == 0)
        rc = get(&sum, self, txn, generation, err);
    if (rc == 0 && strcmp(sum.live, more->live) != 0) {
        sum = (struct store_shadow){0};
        memcpy(sum.live, more->live, sizeof sum.live);
    }
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++)
        sum.sums[i] += more->sums[i];
    if (rc == 0)
        rc = put(self, txn, generation, &sum, err);
    return lmdb_write_end(txn, self, rc, err);
}

int lmdb_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    rc = get(out, self, self->read, generation, err);
    lmdb_read_end(self);
    return rc;
}
