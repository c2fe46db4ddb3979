#include "store/store_inspect.h"

#include "store/store_int.h"

#include <string.h>
#include <time.h>

int64_t store_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int store_inspect(struct store_link *link, struct store_inspection *out, struct err *err)
{
    struct store_inspection found = {0};
    const int rc = link->store->backend->inspect->inspect(link, &found, err);
    if (rc == 0)
        *out = found;
    return rc;
}

int store_probe(struct store_link *link, struct err *err)
{
    return link->store->backend->inspect->probe(link, err);
}

int store_sample(struct store_link *link, const char *generation, enum store_kind kind, int most_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    *whole = false;
    const int rc = store_check_scan(generation, kind, err);
    return rc < 0 ? rc
                  : link->store->backend->inspect->sample(
                        link, generation, kind, store_now_ms() + most_ms, fn, ctx, whole, err);
}
