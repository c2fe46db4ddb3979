/* Three renewals fit into the lock's time, so that one or two may be lost with their connection. A renewal
 * that fails for another reason than fencing is tried again sooner: whether the lock was lost meanwhile the
 * store alone can tell, and does, at the next renewal and at every commit. */
#include "store/lease.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct lease {
    struct store_link *link; /* the thread's, but before it starts and after it has ended */
    uint64_t token;
    int ttl_ms;
    atomic_bool fenced;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under lock */
};

/* Sleep under the lock for the time given, or until the lease is given back; true if it is. */
static bool wait_for_stop(struct lease *lease, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int rc = 0;
    while (!lease->stop && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&lease->wake, &lease->lock, &until);
    return lease->stop;
}

static void *renew(void *arg)
{
    struct lease *const lease = arg;
    const int renew_ms = lease->ttl_ms / 3, retry_ms = lease->ttl_ms / 30;
    int wait_ms = renew_ms;
    pthread_mutex_lock(&lease->lock);
    while (!wait_for_stop(lease, wait_ms)) {
        pthread_mutex_unlock(&lease->lock);
        const int rc = store_renew(lease->link, lease->token, lease->ttl_ms, NULL);
        pthread_mutex_lock(&lease->lock);
        if (rc == -ERR_FENCED) {
            atomic_store(&lease->fenced, true);
            break;
        }
        wait_ms = rc < 0 ? retry_ms : renew_ms;
    }
    pthread_mutex_unlock(&lease->lock);
    return NULL;
}

/* Signals are the program's business: its own threads see them, this one does not. */
static int start_thread(struct lease *lease)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&lease->thread, NULL, renew, lease);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int init_sync(struct lease *lease)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc)
        return rc;
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (!rc)
        rc = pthread_cond_init(&lease->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (!rc) {
        rc = pthread_mutex_init(&lease->lock, NULL);
        if (rc)
            pthread_cond_destroy(&lease->wake);
    }
    return rc;
}

static void free_lease(struct lease *lease)
{
    store_disconnect(lease->link);
    pthread_mutex_destroy(&lease->lock);
    pthread_cond_destroy(&lease->wake);
    free(lease);
}

int lease_take(struct lease **out, struct store *store, int ttl_ms, struct err *err)
{
    struct lease *const lease = calloc(1, sizeof *lease);
    if (!lease || init_sync(lease)) {
        free(lease);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    lease->ttl_ms = ttl_ms;
    int rc = store_connect(&lease->link, store, err);
    if (rc == 0)
        rc = store_lock(lease->link, ttl_ms, &lease->token, err);
    if (rc == 0) {
        errno = start_thread(lease);
        if (errno) {
            rc = err_errno(err, "start the thread that renews the writers' lock");
            store_unlock(lease->link, lease->token, NULL);
        }
    }
    if (rc < 0) {
        free_lease(lease);
        return rc;
    }
    *out = lease;
    return 0;
}

uint64_t lease_token(const struct lease *lease)
{
    return lease->token;
}

int lease_check(const struct lease *lease, struct err *err)
{
    return atomic_load(&lease->fenced) ? err_set(err, ERR_FENCED, "another writer has taken over") : 0;
}

void lease_give(struct lease *lease)
{
    if (!lease)
        return;
    pthread_mutex_lock(&lease->lock);
    lease->stop = true;
    pthread_cond_signal(&lease->wake);
    pthread_mutex_unlock(&lease->lock);
    pthread_join(lease->thread, NULL);
    store_unlock(lease->link, lease->token, NULL);
    free_lease(lease);
}
