#include "server/users.h"

#include "server/worker.h"
#include "store/blob.h"

const char *user_status_name(enum user_status status)
{
    switch (status) {
    case USER_PRESENT:
        return "present";
    case USER_DEFAULT:
        return "default";
    case USER_NOT_FOUND:
        return "not_found";
    case USER_CORRUPT:
        return "corrupt";
    case USER_UNAVAILABLE:
        break;
    }
    return "unavailable";
}

struct reading {
    struct worker *worker;
    const struct live_generation *generation;
    struct user *users;
    float *matrices;
};

/* A user without a matrix of their own that can be used. */
static void stand_in(const struct reading *reading, struct user *user, enum user_status otherwise)
{
    user->corrupt = otherwise == USER_CORRUPT;
    user->status = otherwise;
    if (!reading->worker->service->config->rank.default_user || !reading->generation->default_user)
        return;
    user->status = USER_DEFAULT;
    user->matrix = reading->generation->default_user;
}

static int take_value(void *ctx, size_t index, const void *data, size_t len)
{
    const struct reading *reading = ctx;
    const struct manifest *manifest = &reading->generation->manifest;
    struct user *user = &reading->users[index];
    if (!data) {
        stand_in(reading, user, USER_NOT_FOUND);
        return 0;
    }
    const struct blob_spec spec = {
        .kind = BLOB_USER,
        .rows = manifest->m,
        .cols = manifest->d,
        .generation = reading->generation->name,
        .id = user->id.id,
        .id_len = user->id.len,
    };
    float *matrix = reading->matrices + index * manifest->m * manifest->d;
    const enum blob_reason reason = blob_decode(matrix, &spec, data, len);
    if (reason != BLOB_OK) {
        worker_note_blob(reading->worker, "user", &user->id, reading->generation->name, reason);
        stand_in(reading, user, USER_CORRUPT);
        return 0;
    }
    user->status = USER_PRESENT;
    user->matrix = matrix;
    return 0;
}

int users_load(struct user **out, struct worker *worker, const struct live_generation *generation,
    const struct store_id *ids, size_t count, struct err *err)
{
    const size_t floats = generation->manifest.m * generation->manifest.d;
    struct reading reading = {
        .worker = worker,
        .generation = generation,
        .users = arena_array(&worker->arena, count, sizeof *reading.users),
        .matrices = arena_array(&worker->arena, count, floats * sizeof *reading.matrices),
    };
    if (!reading.users || !reading.matrices)
        return err_set(err, ERR_NOMEM, "no memory for %zu users", count);
    for (size_t i = 0; i < count; i++)
        reading.users[i] = (struct user){.id = ids[i], .status = USER_UNAVAILABLE};
    struct err why = ERR_INIT;
    if (store_get(worker->link, generation->name, STORE_USER, ids, count, take_value, &reading, &why) < 0)
        worker_note_store(worker, &why);
    *out = reading.users;
    return 0;
}
