/* Threads that run tasks in the order in which they were put: one queue for all of them, so that no thread is idle
 * while another has two tasks before it.
 *
 *     struct mine { struct pool_task task; ... };
 *     mine->task.run = run_mine;                  there: POOL_OWNER(task, struct mine, task)
 *     pool_put(pool, &mine->task);
 *
 * A task lies inside whatever it works on; a pool allocates nothing for it. */
#ifndef EMBSUM_SERVER_POOL_H
#define EMBSUM_SERVER_POOL_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

struct worker;

/* Whatever the member at this address lies inside. */
#define POOL_OWNER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct pool_task {
    struct pool_task *next; /* the pool's */
    /* Called by one of the threads, with what belongs to that thread. The pool does not touch the task any more. */
    void (*run)(struct pool_task *task, struct worker *worker);
};

struct pool;

/* One thread for each of the workers, which outlive the pool. name shows in tools that list threads. */
int pool_start(
    struct pool **out, struct worker *const *workers, size_t count, const char *name, struct err *err);

void pool_put(struct pool *pool, struct pool_task *task); /* from any thread */
size_t pool_waiting(struct pool *pool);                   /* tasks that nobody has begun */
size_t pool_threads(const struct pool *pool);

/* How long a task that is put now will wait: as long as those before it take, if they take as long as tasks lately did. */
struct pool_load {
    size_t waiting;
    uint64_t wait_ns;
};
struct pool_load pool_load(struct pool *pool);

/* Run what has been put, then end the threads. Nothing may be put any more, but by those tasks. A thread of another pool
 * that has put the last task may still be inside pool_put: free a pool when those threads have ended, too. NULL is
 * allowed. */
void pool_stop(struct pool *pool);
void pool_free(struct pool *pool);

#endif
