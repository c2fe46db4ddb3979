/* The writers' lock of a store, where a writer could not give it back. */
#ifndef EMBSUM_TESTS_FAULTS_LOCK_H
#define EMBSUM_TESTS_FAULTS_LOCK_H

#include "store/store.h"
#include "tests/faults/nomem.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Others are kept out until the lock's time, 30 s, is over (store.h says so): cut it short. */
static inline void end_lock(struct store_link *link)
{
    struct err err = ERR_INIT;
    uint64_t token;
    int code = store_lock(link, 1000, &token, &err);
    if (code == -ERR_BUSY) {
        const char *told = strstr(err.message, "token ");
        assert_non_null(told);
        token = strtoull(told + 6, NULL, 10);
        nomem_require(store_renew(link, token, 1, &err), &err);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        code = 0;
    }
    nomem_require(code, &err);
    nomem_require(store_unlock(link, token, &err), &err);
}

#endif
