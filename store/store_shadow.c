/* The sums of store_shadow_add(): the door, and what the backends share. */
#include "store/store_int.h"

static const char *const names[STORE_SHADOW_SUMS] = {
    [STORE_SHADOW_REQUESTS] = "requests",
    [STORE_SHADOW_RANKINGS] = "rankings",
    [STORE_SHADOW_SHARED] = "shared",
    [STORE_SHADOW_TAUS] = "taus",
    [STORE_SHADOW_TAU] = "tau",
    [STORE_SHADOW_DIFFERENCES] = "differences",
    [STORE_SHADOW_DIFFERENCE] = "difference",
    [STORE_SHADOW_BOTH] = "both",
    [STORE_SHADOW_LIVE_ALONE] = "live_alone",
    [STORE_SHADOW_ALONE] = "alone",
};

const char *store_shadow_name(enum store_shadow_sum sum)
{
    return names[sum];
}

bool store_shadow_parse(int64_t *out, const char *text, size_t len)
{
    const bool negative = len && *text == '-';
    uint64_t size;
    if (!store_number_parse(&size, text + negative, len - negative) || size > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)size : (int64_t)size;
    return true;
}

int store_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err)
{
    int rc = store_check_generation(generation, err);
    if (rc == 0)
        rc = store_check_generation(more->live, err);
    return rc < 0 ? rc : link->store->backend->shadow_add(link, generation, more, err);
}

int store_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err)
{
    struct store_shadow found = {0};
    int rc = store_check_generation(generation, err);
    if (rc == 0)
        rc = link->store->backend->shadow_get(link, generation, &found, err);
    if (rc == 0)
        *out = found;
    return rc;
}

int store_err_unknown(struct err *err, const char *generation)
{
    return err_set(err, ERR_NOT_FOUND, "there is no generation %s, or it is going", generation);
}

int store_err_shadow(struct err *err, const char *generation)
{
    return err_set(err, ERR_CORRUPT, "the shadow's sums of generation %s are damaged", generation);
}
