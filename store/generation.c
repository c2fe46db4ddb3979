/* The steps of operators: promote, roll back, drop, prune. Each takes the lock first, so that none of them
 * runs while a refresh does, and every change is one commit that the store accepts from the newest token
 * alone. */
#include "store/generation_int.h"
#include "store/lease.h"

#include <stdlib.h>
#include <string.h>

/* One operator's step: the lock, a link, the table as it stands under the lock. */
struct step {
    struct lease *lease;
    struct store_link *link;
    struct store_generation *rows;
    size_t count;
};

static int step_begin(struct step *step, struct store *store, struct err *err)
{
    *step = (struct step){0};
    int rc = store_connect(&step->link, store, err);
    if (rc == 0)
        rc = lease_take(&step->lease, store, LEASE_TTL_MS, err);
    return rc == 0 ? store_generations(step->link, &step->rows, &step->count, err) : rc;
}

static void step_end(struct step *step)
{
    free(step->rows);
    lease_give(step->lease);
    store_disconnect(step->link);
}

static const struct store_generation *find_row(
    const struct store_generation *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

/* ---- the switch ---- */

int generation_switch(struct store_link *link, uint64_t token, const char *name, struct err *err)
{
    char live[STORE_GENERATION_MAX] = "";
    struct store_generation *rows = NULL, change[2];
    size_t count = 0, changed = 0;
    int rc = store_live(link, live, err);
    if (rc == 0 || rc == -ERR_NOT_FOUND)
        rc = store_generations(link, &rows, &count, err);
    if (rc < 0)
        return rc;
    const struct store_generation *const next = find_row(rows, count, name), *const now =
                                                                                 *live ? find_row(rows, count,
                                                                                             live)
                                                                                       : NULL;
    if (next) {
        change[changed] = *next;
        change[changed++].state = STORE_LIVE;
    }
    if (now && now != next) {
        change[changed] = *now;
        change[changed++].state = STORE_RETIRED;
    }
    rc = next ? store_commit(link, token, change, changed, name, err)
              : err_set(err, ERR_NOT_FOUND, "there is no generation %s", name);
    free(rows);
    return rc;
}

/* ---- steps ---- */

/* A generation may become live if it is complete: its state says so, and its manifest can be read. */
static int promote(struct step *step, const char *name, struct err *err)
{
    struct manifest manifest;
    const struct store_generation *const row = find_row(step->rows, step->count, name);
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "there is no generation %s", name);
    if (row->state == STORE_BUILDING)
        return err_set(err, ERR_INVALID, "generation %s is not complete", name);
    const int rc = manifest_get(&manifest, step->link, name, err);
    return rc < 0 ? rc : generation_switch(step->link, lease_token(step->lease), name, err);
}

int generation_promote(struct store *store, const char *name, struct err *err)
{
    struct step step;
    int rc = step_begin(&step, store, err);
    if (rc == 0)
        rc = promote(&step, name, err);
    step_end(&step);
    return rc;
}

static int rollback(struct step *step, char name[STORE_GENERATION_MAX], struct err *err)
{
    char live[STORE_GENERATION_MAX];
    struct manifest manifest;
    int rc = store_live(step->link, live, err);
    if (rc == 0)
        rc = manifest_get(&manifest, step->link, live, err);
    if (rc < 0)
        return rc;
    if (!*manifest.previous)
        return err_set(err, ERR_NOT_FOUND, "generation %s has no previous one", live);
    if (!find_row(step->rows, step->count, manifest.previous))
        return err_set(err, ERR_NOT_FOUND, "generation %s, which was live before %s, has been dropped",
            manifest.previous, live);
    rc = promote(step, manifest.previous, err);
    if (rc == 0)
        memcpy(name, manifest.previous, sizeof manifest.previous);
    return rc;
}

int generation_rollback(struct store *store, char name[STORE_GENERATION_MAX], struct err *err)
{
    struct step step;
    int rc = step_begin(&step, store, err);
    if (rc == 0)
        rc = rollback(&step, name, err);
    step_end(&step);
    return rc;
}

int generation_drop(struct store *store, const char *name, struct err *err)
{
    struct step step;
    int rc = step_begin(&step, store, err);
    if (rc == 0)
        rc = find_row(step.rows, step.count, name)
                 ? store_drop(step.link, lease_token(step.lease), name, err)
                 : err_set(err, ERR_NOT_FOUND, "there is no generation %s", name);
    step_end(&step);
    return rc;
}

int generation_prune(struct store *store, size_t keep, struct err *err)
{
    struct step step;
    size_t retired = 0;
    int rc = step_begin(&step, store, err);
    for (size_t i = 0; rc == 0 && i < step.count; i++)
        retired += step.rows[i].state == STORE_RETIRED;
    for (size_t i = 0; rc == 0 && i < step.count && retired > keep; i++)
        if (step.rows[i].state == STORE_RETIRED) { /* the oldest name comes first */
            rc = store_drop(step.link, lease_token(step.lease), step.rows[i].name, err);
            retired--;
        }
    step_end(&step);
    return rc;
}
