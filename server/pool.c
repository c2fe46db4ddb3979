#include "server/pool.h"

#include "server/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct pool_thread {
    struct pool *pool;
    struct worker *worker;
    pthread_t thread;
    pthread_cond_t wake;
    struct pool_thread *next_idle;
    struct pool_task *handed; /* to this thread alone */
};

/* Who has been idle for longest gets the next task, handed over: a thread that happens to be awake would otherwise take
 * it before the one that was woken for it, and do most of the work alone. The queue is used when nobody is idle. */
struct pool {
    pthread_mutex_t lock; /* over all but the threads' own */
    struct pool_task *first, **last;
    struct pool_thread *idle_first, **idle_last;
    size_t waiting;
    uint64_t task_ns; /* a moving mean of what a task takes */
    bool stopping;
    const char *name;
    size_t started;
    struct pool_thread threads[];
};

static struct pool_task *take_first(struct pool *pool)
{
    struct pool_task *task = pool->first;
    pool->first = task->next;
    if (!pool->first)
        pool->last = &pool->first;
    pool->waiting--;
    return task;
}

enum { MEAN_OF = 64 }; /* tasks, about */

/* The next task; the one before it has taken this long, 0 if there was none. */
static struct pool_task *take(struct pool_thread *self, uint64_t spent_ns)
{
    struct pool *pool = self->pool;
    struct pool_task *task = NULL;
    pthread_mutex_lock(&pool->lock);
    pool->task_ns += spent_ns / MEAN_OF - pool->task_ns / MEAN_OF;
    if (pool->first) {
        task = take_first(pool);
    } else if (!pool->stopping) {
        self->handed = NULL;
        self->next_idle = NULL;
        *pool->idle_last = self;
        pool->idle_last = &self->next_idle;
        while (!self->handed && !pool->stopping)
            pthread_cond_wait(&self->wake, &pool->lock);
        task = self->handed;
    }
    pthread_mutex_unlock(&pool->lock);
    return task;
}

static void *run(void *ctx)
{
    struct pool_thread *self = ctx;
    struct pool_task *task;
    uint64_t spent_ns = 0;
    pthread_setname_np(pthread_self(), self->pool->name); /* the sandbox lets a thread name itself alone */
    while ((task = take(self, spent_ns))) {
        const uint64_t start = clock_ns();
        task->run(task, self->worker);
        spent_ns = clock_ns() - start;
    }
    return NULL;
}

int pool_start(
    struct pool **out, struct worker *const *workers, size_t count, const char *name, struct err *err)
{
    struct pool *pool = calloc(1, sizeof *pool + count * sizeof *pool->threads);
    if (!pool)
        return err_set(err, ERR_NOMEM, "no memory for threads");
    pthread_mutex_init(&pool->lock, NULL);
    pool->name = name;
    pool->last = &pool->first;
    pool->idle_last = &pool->idle_first;
    for (size_t i = 0; i < count; i++) {
        pool->threads[i] = (struct pool_thread){.pool = pool, .worker = workers[i]};
        pthread_cond_init(&pool->threads[i].wake, NULL);
        errno = pthread_create(&pool->threads[i].thread, NULL, run, &pool->threads[i]);
        if (errno) {
            pthread_cond_destroy(&pool->threads[i].wake);
            const int code = err_errno(err, "start a thread");
            pool_stop(pool);
            pool_free(pool);
            return code;
        }
        pool->started++;
    }
    *out = pool;
    return 0;
}

void pool_put(struct pool *pool, struct pool_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&pool->lock);
    struct pool_thread *idle = pool->idle_first;
    if (idle) {
        pool->idle_first = idle->next_idle;
        if (!pool->idle_first)
            pool->idle_last = &pool->idle_first;
        idle->handed = task;
    } else {
        *pool->last = task;
        pool->last = &task->next;
        pool->waiting++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (idle)
        pthread_cond_signal(&idle->wake);
}

struct pool_load pool_load(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    const struct pool_load load = {pool->waiting, pool->waiting * pool->task_ns / pool->started};
    pthread_mutex_unlock(&pool->lock);
    return load;
}

size_t pool_waiting(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    const size_t waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}

size_t pool_threads(const struct pool *pool)
{
    return pool->started;
}

void pool_stop(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->started; i++)
        pthread_cond_signal(&pool->threads[i].wake);
    for (size_t i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i].thread, NULL);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < pool->started; i++)
        pthread_cond_destroy(&pool->threads[i].wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
