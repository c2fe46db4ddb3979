/* What a request costs beside its look-ups and its scores: reading the body, leaving out repeated ids, sorting,
 * writing. Medians in microseconds of
 * CPU, beside jansson and qsort doing the same. */
#include "server/rank_request_int.h"
#include "server/top.h"
#include "server/writer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT_MAX = 1000, SAMPLES = 301, REPEAT = 20 };

static const struct rank_limits limits = {.candidates_max = 10000, .users_max = 100};

struct bench {
    size_t count, body_len;
    char body[16 * COUNT_MAX + 64];
    struct store_id ids[COUNT_MAX], user;
    float scores[COUNT_MAX];
    struct top_hit hits[COUNT_MAX], scratch[COUNT_MAX];
    struct arena arena;
    struct writer writer;
};

static void require(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

/* ---- the steps ---- */

static void read_body(struct bench *bench)
{
    struct rank_request request;
    const int code =
        rank_request_parse_json(&request, &bench->arena, &limits, bench->body, bench->body_len, NULL);
    require(code == 0 && request.candidate_count == bench->count, "reading the body");
    memcpy(bench->ids, request.candidates, bench->count * sizeof *bench->ids);
    bench->user = request.users[0];
    arena_reset(&bench->arena);
}

/* A part of reading the body: hashing the ids and leaving out those that stood there before. */
static void tell_apart(struct bench *bench)
{
    struct rank_request request = {
        .users = &bench->user, .user_count = 1, .candidates = bench->ids, .candidate_count = bench->count};
    require(rank_request_finish(&request, &bench->arena, &limits, NULL) == 0 &&
                request.candidate_count == bench->count,
        "telling the ids apart");
    arena_reset(&bench->arena);
}

static void sort(struct bench *bench)
{
    struct top top = {.hits = bench->hits, .scratch = bench->scratch, .k = bench->count};
    top_add_chunk(&top, bench->scores, NULL, 0, bench->count);
    top_sort(&top);
}

static void write_answer(struct bench *bench)
{
    struct writer *w = &bench->writer;
    writer_clear(w);
    writer_open(w, '[');
    for (size_t i = 0; i < bench->count; i++)
        writer_hit(w, bench->ids[i].id, bench->ids[i].len, bench->hits[i].score);
    writer_close(w, ']');
    require(!w->failed, "writing");
}

/* ---- the same by libraries ---- */

static void jansson_read(struct bench *bench)
{
    json_t *tree = json_loadb(bench->body, bench->body_len, JSON_REJECT_DUPLICATES, NULL);
    require(tree != NULL, "jansson's reading");
    json_decref(tree);
}

static int compare(const void *a, const void *b)
{
    const struct top_hit *one = a, *other = b;
    if (one->score != other->score)
        return one->score > other->score ? -1 : 1;
    return one->index < other->index ? -1 : one->index > other->index;
}

static void qsort_hits(struct bench *bench)
{
    for (size_t i = 0; i < bench->count; i++)
        bench->hits[i] = (struct top_hit){bench->scores[i], (uint32_t)i};
    qsort(bench->hits, bench->count, sizeof *bench->hits, compare);
}

static void jansson_write(struct bench *bench)
{
    json_t *list = json_array();
    for (size_t i = 0; i < bench->count; i++) {
        json_t *hit = json_object();
        json_object_set_new(hit, "id", json_stringn(bench->ids[i].id, bench->ids[i].len));
        json_object_set_new(hit, "score", json_real((double)bench->hits[i].score));
        json_array_append_new(list, hit);
    }
    char *text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(9));
    require(text != NULL, "jansson's writing");
    free(text);
    json_decref(list);
}

/* ---- measuring ---- */

static int compare_double(const void *a, const void *b)
{
    const double one = *(const double *)a, other = *(const double *)b;
    return one < other ? -1 : one > other;
}

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double median_us(struct bench *bench, void (*step)(struct bench *))
{
    double samples[SAMPLES];
    for (int s = 0; s < SAMPLES; s++) {
        const double start = cpu_us();
        for (int i = 0; i < REPEAT; i++)
            step(bench);
        samples[s] = (cpu_us() - start) / REPEAT;
    }
    qsort(samples, SAMPLES, sizeof *samples, compare_double);
    return samples[SAMPLES / 2];
}

static void prepare(struct bench *bench, size_t count)
{
    uint64_t x = 1;
    char *to = bench->body;
    bench->count = count;
    to += sprintf(to, "{\"user\":\"U1\",\"candidates\":[");
    for (size_t i = 0; i < count; i++) {
        to += sprintf(to, "%s\"N%zu\"", i ? "," : "", 10000 + i * 7919 % 90000);
        x = x * 6364136223846793005u + 1442695040888963407u;
        bench->scores[i] = ((float)(x >> 40) * 0x1p-24f - 0.5f) * 6; /* as real ones, of the order of 1 */
    }
    to += sprintf(to, "]}");
    bench->body_len = (size_t)(to - bench->body);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*ours)(struct bench *), (*other)(struct bench *);
        const char *other_name;
    } steps[] = {{"read the body", read_body, jansson_read, "jansson"},
        {"  of this, tell the ids apart", tell_apart, NULL, ""}, {"sort", sort, qsort_hits, "qsort"},
        {"write the answer", write_answer, jansson_write, "jansson"}};
    static const size_t counts[] = {1000, 100};
    static struct bench bench;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        prepare(&bench, counts[c]);
        printf("%zu candidates, us\n", counts[c]);
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            printf("  %-30s %8.2f", steps[i].name, median_us(&bench, steps[i].ours));
            if (steps[i].other)
                printf("   %s %.1f", steps[i].other_name, median_us(&bench, steps[i].other));
            printf("\n");
        }
    }
    arena_done(&bench.arena);
    writer_done(&bench.writer);
    return 0;
}
