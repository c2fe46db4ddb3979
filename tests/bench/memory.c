/* Hot memory: nanoseconds a look-up in batches of 1,000 ids in random order, by the number of entries, alone and
 * beside a writer that evicts all the time; bytes a content of the blocks that matter; puts a second.
 *
 *     make build/tests/bench/memory && build/tests/bench/memory */
#include "server/clock.h"
#include "server/hot.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1000, MOST = 1000000, ID_ROOM = 12, BLOCK = 64, BATCHES = 3000 };

struct bench {
    struct hot *hot;
    char (*text)[ID_ROOM]; /* of twice MOST ids */
    size_t count;          /* of the first that are in memory */
    atomic_bool done;
    uint64_t puts;
    char body[BATCH][ID_ROOM]; /* the ids of a batch, side by side as in a request */
    struct store_id ids[BATCH];
    uint64_t hashes[BATCH];
};

static struct store_id id_of(const struct bench *bench, size_t i)
{
    return (struct store_id){bench->text[i], strlen(bench->text[i])};
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void put(struct bench *bench, size_t i, const void *block, enum hot_mode mode)
{
    const struct store_id id = id_of(bench, i);
    hot_put(bench->hot, &id, hot_hash(id.id, id.len), block, mode);
}

static void make(struct bench *bench, size_t block_bytes, size_t limit, size_t count)
{
    struct err err = ERR_INIT;
    const struct hot_options options = {block_bytes, limit, count, 1};
    if (hot_new(&bench->hot, &options, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    void *block = calloc(block_bytes, 1);
    if (!block)
        exit(1);
    bench->count = count;
    for (size_t i = 0; i < count; i++)
        put(bench, i, block, HOT_FILL);
    free(block);
}

static void *write_all_the_time(void *ctx)
{
    struct bench *bench = ctx;
    const unsigned char block[BLOCK] = {0};
    uint64_t random = 5;
    for (bench->puts = 0; !atomic_load_explicit(&bench->done, memory_order_relaxed); bench->puts++)
        put(bench, next_random(&random) % (2 * bench->count), block, HOT_KEEP);
    return NULL;
}

struct times {
    double find, hash, hits; /* ns an id, ns an id, share */
};

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

/* The medians over many batches, since others use the machine too; hashing is timed for itself. */
static struct times look_up(struct bench *bench)
{
    static double hash_ns[BATCHES], find_ns[BATCHES];
    const void *blocks[BATCH];
    uint64_t random = 9;
    size_t found = 0;
    for (size_t batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < BATCH; i++) {
            memcpy(bench->body[i], bench->text[next_random(&random) % bench->count], ID_ROOM);
            bench->ids[i] = (struct store_id){bench->body[i], strlen(bench->body[i])};
        }
        const uint64_t start = clock_ns();
        for (size_t i = 0; i < BATCH; i++)
            bench->hashes[i] = hot_hash(bench->ids[i].id, bench->ids[i].len);
        const uint64_t middle = clock_ns();
        hot_enter(bench->hot, 0);
        found += hot_find(bench->hot, 0, bench->ids, bench->hashes, BATCH, blocks);
        hot_leave(bench->hot, 0);
        find_ns[batch] = (double)(clock_ns() - middle) / BATCH;
        hash_ns[batch] = (double)(middle - start) / BATCH;
    }
    return (struct times){
        .find = median(find_ns, BATCHES),
        .hash = median(hash_ns, BATCHES),
        .hits = (double)found / ((double)BATCHES * BATCH),
    };
}

static void time_look_ups(struct bench *bench, size_t count)
{
    make(bench, BLOCK, count * (BLOCK + 64 + 32) + ((size_t)16 << 20), count);
    const struct times alone = look_up(bench);
    hot_free(bench->hot);
    make(bench, BLOCK, count * (BLOCK + 64 + 16), count); /* about full */
    pthread_t writer;
    atomic_store(&bench->done, false);
    const uint64_t start = clock_ns();
    if (pthread_create(&writer, NULL, write_all_the_time, bench))
        exit(1);
    const struct times beside = look_up(bench);
    atomic_store(&bench->done, true);
    pthread_join(writer, NULL);
    printf("%9zu %10.1f %10.1f %10.3f | %10.1f %10.3f %10.2f\n", count, alone.hash, alone.find, alone.hits,
        beside.find, beside.hits, (double)bench->puts * 1e3 / (double)(clock_ns() - start));
    hot_free(bench->hot);
}

int main(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->text = calloc(2 * MOST, sizeof *bench->text);
    if (!bench->text)
        return 1;
    for (size_t i = 0; i < 2 * MOST; i++)
        snprintf(bench->text[i], ID_ROOM, "N%07zu", i);
    printf("%9s %10s %10s %10s | %10s %10s %10s\n", "entries", "hash ns", "find ns", "hits", "+writer ns",
        "hits", "Mputs/s");
    for (size_t count = 1000; count <= MOST; count *= 10)
        time_look_ups(bench, count);
    printf("\n%9s %18s\n", "block", "bytes a content");
    const size_t sizes[] = {4096, 4160, 8192, 8256};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make(bench, sizes[i], (size_t)4 << 30, 100000);
        struct hot_stats stats;
        hot_stats(bench->hot, &stats);
        printf("%9zu %18.1f (%zu entries, huge pages %s)\n", sizes[i],
            (double)stats.bytes / (double)stats.entries, stats.entries, stats.huge_pages ? "yes" : "no");
        hot_free(bench->hot);
    }
    free(bench->text);
    free(bench);
    return 0;
}
