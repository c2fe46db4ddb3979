/* Reading news.tsv and behaviors.tsv: what a run pays that has nothing to encode, and how much memory it takes.
 *
 *     make bench-inputs                                      1,000,000 items, 500,000 users of 60 items each
 *     build/tests/bench/inputs NEWS BEHAVIORS [ROUNDS]       files of your own: the medians of 9 rounds, unless given
 *
 * Times are of the processor: the files are in memory, and who waits for a core does not count. The memory is that of a
 * process of its own, whose peak (VmHWM) is told, and what it grew by for each item and user. */
#include "batch/mind.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEEP = 60, ITEMS = 1000000, USERS = 500000, HISTORY = 60, MANY = 1000 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t peak_kib(void)
{
    char line[256];
    size_t kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %zu", &kib) == 1)
            break;
    if (status)
        fclose(status);
    return kib;
}

/* ---- generated files ---- */

static void write_news(const char *path, size_t count)
{
    static const char filler[] =
        "Growers of olives won over the critics on a Tuesday, and then the others came round, too; ";
    FILE *out = fopen(path, "w");
    struct rng rng = rng_seed(1, 0);
    if (!out)
        die("cannot write the news");
    for (size_t i = 0; i < count; i++)
        fprintf(out,
            "N%zu\tcategory%zu\tsub%zu\tTitle %zu %.40s\t%zu %s%.*s\thttps://news.example/N%zu\t[]\t[]\n",
            1000000 + i, (size_t)(rng_next(&rng) % 20), (size_t)(rng_next(&rng) % 200), i, filler, i, filler,
            (int)(rng_next(&rng) % (sizeof filler - 1)), filler, i);
    if (fclose(out) != 0)
        die("cannot write the news");
}

static void write_behaviors(const char *path, size_t users, size_t items, size_t longest)
{
    FILE *out = fopen(path, "w");
    struct rng rng = rng_seed(2, 0);
    if (!out)
        die("cannot write the behaviours");
    for (size_t u = 0; u < users; u++) {
        fprintf(out, "%zu\tU%zu\t11/15/2019 10:22:32 AM\t", u, 1000000 + u);
        for (size_t k = 0; k < longest; k++)
            fprintf(out, "%sN%zu", k ? " " : "", 1000000 + (size_t)(rng_next(&rng) % items));
        fprintf(out, "\tN1000000-0 N1000001-1\n");
    }
    if (fclose(out) != 0)
        die("cannot write the behaviours");
}

/* ---- times ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

/* Every text, one after the other, in the file's order or at random: through news_item, or from a mapping of the file,
 * which cannot tell that it was cut short. Both look at each byte once, as news_item's hash does. */
static double read_all(const struct news *news, const size_t *order)
{
    struct news_text text = {0};
    const double started = now();
    for (size_t i = 0; i < news->ids.count; i++)
        if (news_item(&text, news, order ? order[i] : i, NULL) < 0)
            die("an item cannot be read");
    news_text_done(&text);
    return now() - started;
}

static double pread_all(const struct news *news, const size_t *order)
{
    static char bytes[1 << 20];
    const double started = now();
    for (size_t i = 0; i < news->ids.count; i++) {
        const struct news_row *row = &news->rows[order ? order[i] : i];
        if (pread(news->fd, bytes, row->length, (off_t)row->offset) != (ssize_t)row->length)
            die("an item cannot be read");
    }
    return now() - started;
}

static double map_all(const struct news *news, const size_t *order)
{
    static char bytes[1 << 20];
    struct stat status;
    const double started = now();
    if (fstat(news->fd, &status) != 0)
        die("no status of the news");
    const char *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, news->fd, 0);
    if (map == MAP_FAILED)
        die("the news cannot be mapped");
    for (size_t i = 0; i < news->ids.count; i++) {
        const struct news_row *row = &news->rows[order ? order[i] : i];
        memcpy(bytes, map + row->offset, row->length);
        __asm__ volatile("" ::"r"(bytes) : "memory");
    }
    munmap((void *)(uintptr_t)map, (size_t)status.st_size);
    return now() - started;
}

static void time_files(const char *news_path, const char *behaviors_path, size_t rounds)
{
    enum { LOAD, HISTORIES, ITEMS_READ, PREAD, MAP, RANDOM, RANDOM_MAP, TIMES };
    static const char *const what[TIMES] = {"news_load", "histories_load", "news_item, all in order",
        "pread alone, in order", "mmap and memcpy, in order", "pread alone, at random",
        "mmap and memcpy, at random"};
    const struct tsv_options options = {.quiet = true};
    double *times[TIMES];
    size_t items = 0, users = 0;
    for (size_t k = 0; k < TIMES; k++)
        if (!(times[k] = calloc(rounds, sizeof(double))))
            die("out of memory");
    for (size_t r = 0; r < rounds; r++) {
        struct news news;
        struct histories histories;
        struct err err = ERR_INIT;
        double started = now();
        if (news_load(&news, news_path, &options, &err) < 0)
            die(err.message);
        times[LOAD][r] = now() - started;
        started = now();
        if (histories_load(&histories, behaviors_path, &news, KEEP, &options, &err) < 0)
            die(err.message);
        times[HISTORIES][r] = now() - started;
        items = news.ids.count;
        users = histories.users.count;
        size_t *order = malloc((items + 1) * sizeof *order);
        struct rng rng = rng_seed(3, 0);
        if (!order)
            die("out of memory");
        for (size_t i = 0; i < items; i++) {
            const size_t k = (size_t)(rng_next(&rng) % (i + 1));
            order[i] = order[k];
            order[k] = i;
        }
        times[ITEMS_READ][r] = read_all(&news, NULL);
        times[PREAD][r] = pread_all(&news, NULL);
        times[MAP][r] = map_all(&news, NULL);
        times[RANDOM][r] = pread_all(&news, order);
        times[RANDOM_MAP][r] = map_all(&news, order);
        free(order);
        histories_done(&histories);
        news_done(&news);
    }
    printf("%zu items, %zu users, %zu rounds\n", items, users, rounds);
    for (size_t k = 0; k < TIMES; k++) {
        printf("  %-28s %9.2f ms\n", what[k], 1e3 * median(times[k], rounds));
        free(times[k]);
    }
}

/* ---- memory ---- */

static void measure(const char *news_path, const char *behaviors_path)
{
    const struct tsv_options options = {.quiet = true};
    struct news news;
    struct histories histories;
    struct err err = ERR_INIT;
    const size_t before = peak_kib();
    if (news_load(&news, news_path, &options, &err) < 0)
        die(err.message);
    const size_t with_news = peak_kib();
    printf("%zu items: VmHWM %zu KiB, %.1f bytes an item\n", news.ids.count, with_news,
        1024.0 * (double)(with_news - before) / (double)news.ids.count);
    if (histories_load(&histories, behaviors_path, &news, KEEP, &options, &err) < 0)
        die(err.message);
    printf("%zu users: VmHWM %zu KiB, %.1f bytes a user of which %.1f are of items\n", histories.users.count,
        peak_kib(), 1024.0 * (double)(peak_kib() - with_news) / (double)histories.users.count,
        4.0 * (double)histories.used / (double)histories.users.count);
    histories_done(&histories);
    news_done(&news);
}

static void measure_generated(const char *dir, size_t items, size_t users)
{
    char news[512], behaviors[512];
    snprintf(news, sizeof news, "%s/news.tsv", dir);
    snprintf(behaviors, sizeof behaviors, "%s/behaviors.tsv", dir);
    write_news(news, items);
    write_behaviors(behaviors, users, items, HISTORY);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        measure(news, behaviors);
        fflush(stdout);
        _exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die("the measuring process failed");
    time_files(news, behaviors, 3);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        time_files(argv[1], argv[2], argc > 3 ? strtoul(argv[3], NULL, 10) : 9);
        return 0;
    }
    char dir[256];
    scratch_make(dir);
    measure_generated(dir, ITEMS, USERS);
    scratch_remove(dir);
    return 0;
}
