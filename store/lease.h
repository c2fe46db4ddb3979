/* The writers' lock held by one program: taken, kept alive by a thread with a link of its own, given back.
 *
 * The thread renews the lock three times in its time, so that a renewal or two may be lost with a connection.
 */
#ifndef EMBSUM_STORE_LEASE_H
#define EMBSUM_STORE_LEASE_H

#include "store/store.h"

#define LEASE_TTL_MS 30000 /* how long a killed writer keeps others waiting */

struct lease;

/* ERR_BUSY if another writer holds the lock. ttl_ms is at least 30. */
int lease_take(struct lease **out, struct store *store, int ttl_ms, struct err *err);
uint64_t lease_token(const struct lease *lease);

/* ERR_FENCED once the lock has passed to another writer. */
int lease_check(const struct lease *lease, struct err *err);

/* Stops the thread, gives the lock back and frees the lease. NULL is allowed. */
void lease_give(struct lease *lease);

#endif
