#include "server/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct pool_thread {
    struct pool *pool;
    struct worker *worker;
    pthread_t thread;
};

struct pool {
    pthread_mutex_t lock; /* over the queue and what follows it */
    pthread_cond_t wake;
    struct pool_task *first, **last;
    size_t waiting, asleep;
    bool stopping;
    size_t started;
    struct pool_thread threads[];
};

static struct pool_task *take(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stopping) {
        pool->asleep++;
        pthread_cond_wait(&pool->wake, &pool->lock);
        pool->asleep--;
    }
    struct pool_task *task = pool->first;
    if (task) {
        pool->first = task->next;
        if (!pool->first)
            pool->last = &pool->first;
        pool->waiting--;
    }
    pthread_mutex_unlock(&pool->lock);
    return task;
}

static void *run(void *ctx)
{
    struct pool_thread *self = ctx;
    struct pool_task *task;
    while ((task = take(self->pool)))
        task->run(task, self->worker);
    return NULL;
}

int pool_start(
    struct pool **out, struct worker *const *workers, size_t count, const char *name, struct err *err)
{
    struct pool *pool = calloc(1, sizeof *pool + count * sizeof *pool->threads);
    if (!pool)
        return err_set(err, ERR_NOMEM, "no memory for threads");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->last = &pool->first;
    for (size_t i = 0; i < count; i++) {
        pool->threads[i] = (struct pool_thread){.pool = pool, .worker = workers[i]};
        errno = pthread_create(&pool->threads[i].thread, NULL, run, &pool->threads[i]);
        if (errno) {
            const int code = err_errno(err, "start a thread");
            pool_stop(pool);
            pool_free(pool);
            return code;
        }
        pthread_setname_np(pool->threads[i].thread, name);
        pool->started++;
    }
    *out = pool;
    return 0;
}

void pool_put(struct pool *pool, struct pool_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->last = task;
    pool->last = &task->next;
    pool->waiting++;
    const bool wake = pool->asleep > 0;
    pthread_mutex_unlock(&pool->lock);
    if (wake)
        pthread_cond_signal(&pool->wake);
}

size_t pool_waiting(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    const size_t waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}

void pool_stop(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i].thread, NULL);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
