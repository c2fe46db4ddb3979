/* The least that a service must do about contents that are not in memory: read their blobs from Redis, pipelined MGETs
 * of 100 keys (the size that reads fastest), by hiredis, and touch every byte that came. Nothing is checked or scored.
 *
 *     bare_read tcp:HOST:PORT|unix:PATH PREFIX LISTS
 *
 * LISTS holds one request a line: ids, separated by blanks. Prints, as JSON, the microseconds that a request took and
 * the bytes it brought. */
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

enum { CHUNK = 100, IDS_MAX = 10000 };

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "bare_read: %s\n", what);
    exit(1);
}

static redisContext *connect_to(char *where)
{
    const struct timeval patience = {5, 0};
    redisContext *context = NULL;
    if (strncmp(where, "unix:", 5) == 0)
        context = redisConnectUnixWithTimeout(where + 5, patience);
    else if (strncmp(where, "tcp:", 4) == 0 && strrchr(where, ':') > where + 3) {
        char *port = strrchr(where, ':');
        *port = '\0';
        context = redisConnectWithTimeout(where + 4, atoi(port + 1), patience);
    }
    if (!context || context->err)
        die(context ? context->errstr : "tcp:HOST:PORT or unix:PATH is wanted");
    redisSetTimeout(context, patience);
    return context;
}

/* Ask for all ids, then read all replies; returns the bytes of the values. */
static size_t fetch(redisContext *context, const char *prefix, char **ids, size_t count, uint64_t *sum)
{
    const size_t prefix_len = strlen(prefix);
    size_t bytes = 0;
    for (size_t first = 0; first < count; first += CHUNK) {
        const size_t some = count - first < CHUNK ? count - first : CHUNK;
        const char *words[CHUNK + 1] = {"MGET"};
        size_t len[CHUNK + 1] = {4};
        static char keys[CHUNK][512];
        for (size_t i = 0; i < some; i++) {
            len[i + 1] = prefix_len + strlen(ids[first + i]);
            if (len[i + 1] >= sizeof *keys)
                die("an id is too long");
            strcpy(stpcpy(keys[i], prefix), ids[first + i]);
            words[i + 1] = keys[i];
        }
        if (redisAppendCommandArgv(context, (int)some + 1, words, len) != REDIS_OK)
            die(context->errstr);
    }
    for (size_t first = 0; first < count; first += CHUNK) {
        redisReply *reply;
        if (redisGetReply(context, (void **)&reply) != REDIS_OK)
            die(context->errstr);
        if (reply->type != REDIS_REPLY_ARRAY)
            die("no array came");
        for (size_t i = 0; i < reply->elements; i++) {
            const redisReply *value = reply->element[i];
            if (value->type != REDIS_REPLY_STRING)
                die("a key is not there");
            for (size_t at = 0; at + 8 <= value->len; at += 8) {
                uint64_t word;
                memcpy(&word, value->str + at, 8);
                *sum ^= word;
            }
            bytes += value->len;
        }
        freeReplyObject(reply);
    }
    return bytes;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: bare_read tcp:HOST:PORT|unix:PATH PREFIX LISTS\n", stderr);
        return 2;
    }
    redisContext *context = connect_to(argv[1]);
    FILE *file = fopen(argv[3], "r");
    if (!file)
        die("the lists cannot be opened");
    static char *ids[IDS_MAX];
    static double times[100000];
    char *line = NULL;
    size_t size = 0, requests = 0, bytes = 0;
    uint64_t sum = 0;
    while (getline(&line, &size, file) > 0 && requests < sizeof times / sizeof *times) {
        size_t count = 0;
        for (char *id = strtok(line, " \n"); id && count < IDS_MAX; id = strtok(NULL, " \n"))
            ids[count++] = id;
        const double start = now_us();
        bytes += fetch(context, argv[2], ids, count, &sum);
        times[requests++] = now_us() - start;
    }
    free(line);
    fclose(file);
    redisFree(context);
    if (requests == 0)
        die("no lists");
    qsort(times, requests, sizeof *times, ascending);
    printf(
        "{\"requests\": %zu, \"bytes\": %zu, \"xor\": \"%016llx\", \"us\": {\"p50\": %.1f, \"p99\": %.1f}}\n",
        requests, bytes, (unsigned long long)sum, times[requests / 2], times[requests * 99 / 100]);
    return 0;
}
