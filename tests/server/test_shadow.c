/* A generation that is ranked on beside the live one: what is counted is what a plain comparison of the two rankings by the
 * definition gives; which generation it is, and what becomes of it; and whatever happens to it, answers are those of the live
 * one. */
#include "server/rank_job.h"
#include "server/shadow_int.h"
#include "tests/server/bench.h"

#include <unistd.h>

static const struct world
    live_world = {.m = 4, .n = 2, .d = 16, .users = 30, .contents = 60, .categories = 3, .seed = 3},
    /* Another model, which has lost some of the contents and users, and has others. */
    other_world = {.m = 5, .n = 3, .d = 24, .users = 20, .contents = 50, .categories = 3, .seed = 4};

/* ---- the bench with a shadow ---- */

static void restart(struct bench *bench)
{
    struct err err = ERR_INIT;
    service_done(&bench->service);
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
}

/* live_world is live; every request is sampled. */
static int setup_shadow(void **state)
{
    const int code = setup(state);
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    require(world_publish(&live_world, bench->store, BLOB_F32, bench->generation, &err), &err);
    bench->config.shadow.share = 1;
    restart(bench);
    assert_non_null(bench->service.shadow);
    return code;
}

static void keep(struct bench *bench, const struct world *world, char name[STORE_GENERATION_MAX])
{
    struct err err = ERR_INIT;
    require(world_write(world, bench->store, BLOB_F32, false, name, &err), &err);
}

static void poll_shadow(struct bench *bench)
{
    struct err err = ERR_INIT;
    require(shadow_poll(bench->service.shadow, &err), &err);
}

/* The name of the generation in memory, "" if there is none. */
static const char *current(struct bench *bench)
{
    const struct live_generation *generation = bench->service.shadow->current;
    return generation ? generation->name : "";
}

static uint64_t skipped(struct bench *bench, enum shadow_skip why)
{
    return atomic_load(&bench->service.shadow->skipped[why]);
}

static struct store_shadow sums(struct bench *bench)
{
    const struct shadow_figures *figures = atomic_load(&bench->service.shadow->figures);
    struct store_shadow all = {0};
    if (figures)
        memcpy(all.live, figures->live, sizeof all.live);
    for (size_t i = 0; figures && i < STORE_SHADOW_SUMS; i++)
        all.sums[i] = atomic_load(&figures->sums[i]);
    return all;
}

/* Until so many samples have been ranked or left out. */
static void await(struct bench *bench, uint64_t count)
{
    uint64_t done = 0;
    for (int i = 0; i < 20000; i++) {
        done = (uint64_t)sums(bench).sums[STORE_SHADOW_REQUESTS];
        for (int why = 0; why < SHADOW_SKIPS; why++)
            done += skipped(bench, (enum shadow_skip)why);
        if (done == count)
            return;
        usleep(1000);
    }
    fail_msg("%llu samples, not %llu", (unsigned long long)done, (unsigned long long)count);
}

/* Until no sample is under way. What is to be one is one before its answer is sent. */
static void await_idle(struct bench *bench)
{
    struct shadow *shadow = bench->service.shadow;
    for (int i = 0; i < 20000; i++) {
        size_t idle = 0;
        for (size_t k = 0; k < SHADOW_QUEUE; k++)
            idle += atomic_load(&shadow->samples[k].state) == SHADOW_FREE;
        if (idle == SHADOW_QUEUE)
            return;
        usleep(1000);
    }
    fail_msg("samples stay under way");
}

/* ---- by the definition ---- */

struct plain {
    size_t rankings, shared;
    double tau, difference; /* sums */
};

static size_t rank_of(const double *scores, size_t count, size_t i)
{
    size_t rank = 0;
    for (size_t k = 0; k < count; k++)
        rank += scores[k] > scores[i];
    return rank;
}

static void compare_plainly(
    struct plain *plain, const char *user, const char *other_user, char (*ids)[24], size_t count)
{
    double x[64], y[64], pairs = 0, mean = 0, spread = 0, off = 0;
    for (size_t i = 0; i < count; i++) {
        x[i] = world_score(&live_world, user, ids[i]);
        y[i] = world_score(&other_world, other_user, ids[i]);
        mean += x[i] / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        plain->shared += rank_of(x, count, i) < 10 && rank_of(y, count, i) < 10;
        spread += (x[i] - mean) * (x[i] - mean);
        off += (y[i] - x[i]) * (y[i] - x[i]);
        for (size_t k = 0; k < i; k++)
            pairs += (x[i] > x[k]) == (y[i] > y[k]) ? 1 : -1;
    }
    plain->rankings++;
    plain->tau += pairs / ((double)count * (double)(count - 1) / 2);
    plain->difference += sqrt(off / spread);
}

static size_t name_contents(char (*ids)[24], size_t first, size_t end, size_t step)
{
    size_t count = 0;
    for (size_t i = first; i < end; i += step)
        snprintf(ids[count++], sizeof *ids, "N%zu", i);
    return count;
}

static void check_sums(struct bench *bench, const struct plain *plain, int64_t requests, int64_t both,
    int64_t live_alone, int64_t alone)
{
    const struct store_shadow all = sums(bench);
    assert_string_equal(all.live, bench->generation);
    assert_int_equal(all.sums[STORE_SHADOW_REQUESTS], requests);
    assert_int_equal(all.sums[STORE_SHADOW_RANKINGS], plain->rankings);
    assert_int_equal(all.sums[STORE_SHADOW_SHARED], plain->shared);
    assert_int_equal(all.sums[STORE_SHADOW_TAUS], plain->rankings);
    assert_true(fabs((double)all.sums[STORE_SHADOW_TAU] / 1e6 - plain->tau) < 1e-5);
    assert_int_equal(all.sums[STORE_SHADOW_DIFFERENCES], plain->rankings);
    assert_true(fabs((double)all.sums[STORE_SHADOW_DIFFERENCE] / 1e6 - plain->difference) < 1e-4);
    assert_int_equal(all.sums[STORE_SHADOW_BOTH], both);
    assert_int_equal(all.sums[STORE_SHADOW_LIVE_ALONE], live_alone);
    assert_int_equal(all.sums[STORE_SHADOW_ALONE], alone);
}

/* {"user":"U1","candidates":["N0",...]} or, with users, "users":["U1",...] */
static void write_body(char out[2048], const char *who, char (*ids)[24], size_t count)
{
    int used = snprintf(out, 2048, "{%s,\"candidates\":[", who);
    for (size_t i = 0; i < count; i++)
        used += snprintf(out + used, (size_t)(2048 - used), "%s\"%s\"", i ? "," : "", ids[i]);
    snprintf(out + used, (size_t)(2048 - used), "]}");
}

static void test_candidates(void **state)
{
    struct bench *bench = *state;
    char other[STORE_GENERATION_MAX], ids[64][24], more[64][24], body[2048];
    struct plain plain = {0};
    keep(bench, &other_world, other);
    poll_shadow(bench);
    assert_string_equal(current(bench), other);
    /* N20 to N59, of which both have the first 30; nobody has N99. */
    size_t count = name_contents(more, 20, 60, 1);
    strcpy(more[count++], "N99");
    write_body(body, "\"user\":\"U3\"", more, count);
    json_t *answer = rank(bench, 200, body);
    assert_string_equal(text_of(answer, "generation"), bench->generation);
    check_ranking(json_object_get(answer, "ranking"), &live_world, "U3", 40);
    json_decref(answer);
    await(bench, 1);
    compare_plainly(&plain, "U3", "U3", ids, name_contents(ids, 20, 50, 1));
    check_sums(bench, &plain, 1, 30, 10, 0);
    /* Only the best are answered; all are compared. */
    write_body(body, "\"top_k\":2,\"user\":\"U4\"", ids, 30);
    json_decref(rank(bench, 200, body));
    await(bench, 2);
    compare_plainly(&plain, "U4", "U4", ids, 30);
    check_sums(bench, &plain, 2, 60, 10, 0);
    /* Three users: one whom the other generation does not know, one whom nobody does. */
    write_body(body, "\"users\":[\"U5\",\"U25\",\"U77\"]", ids, 30);
    json_decref(rank(bench, 200, body));
    await(bench, 3);
    compare_plainly(&plain, "U5", "U5", ids, 30);
    compare_plainly(&plain, "U25", "", ids, 30);
    compare_plainly(&plain, "", "", ids, 30);
    check_sums(bench, &plain, 3, 90, 10, 0);
    /* Ten are always the best ten. */
    write_body(body, "\"user\":\"U3\"", ids, 10);
    json_decref(rank(bench, 200, body));
    write_body(body, "\"user\":\"U3\"", more + 20, 21); /* of these both have ten */
    json_decref(rank(bench, 200, body));
    await(bench, 5);
    assert_int_equal(skipped(bench, SHADOW_FEW), 2);
    json_decref(rank(bench, 404,
        "{\"category\":\"no such\",\"user\":\"U1\",\"top_k\":3}")); /* not answered, not compared */
    check_sums(bench, &plain, 3, 90, 10, 0);
}

static void test_catalogue(void **state)
{
    struct bench *bench = *state;
    char other[STORE_GENERATION_MAX], ids[64][24];
    struct plain plain = {0};
    bench->config.memory.preload = true; /* what is not in memory is not compared */
    restart(bench);
    keep(bench, &other_world, other);
    poll_shadow(bench);
    json_decref(rank(bench, 200, "{\"user\":\"U3\",\"top_k\":5}"));
    await(bench, 1);
    compare_plainly(&plain, "U3", "U3", ids, name_contents(ids, 0, 50, 1));
    check_sums(bench, &plain, 1, 50, 10, 0);
    json_decref(rank(bench, 200, "{\"users\":[\"U3\",\"U4\"],\"top_k\":5,\"category\":\"topic 1\"}"));
    await(bench, 2);
    const size_t count = name_contents(ids, 1, 50, 3);
    compare_plainly(&plain, "U3", "U3", ids, count);
    compare_plainly(&plain, "U4", "U4", ids, count);
    check_sums(bench, &plain, 2, 67, 13, 0);
    /* N0, N1 and N55, which the other one has not got, are left out. */
    json_decref(
        rank(bench, 200, "{\"user\":\"U6\",\"top_k\":5,\"exclude\":[\"N0\",\"N55\",\"N1\",\"N98\"]}"));
    await(bench, 3);
    compare_plainly(&plain, "U6", "U6", ids, name_contents(ids, 2, 50, 1));
    check_sums(bench, &plain, 3, 115, 22, 0);
    /* The smaller one is live: the other has more. */
    struct err err = ERR_INIT;
    char before[STORE_GENERATION_MAX];
    memcpy(before, bench->generation, sizeof before);
    memcpy(bench->config.shadow.generation, before, sizeof before);
    require(generation_promote(bench->store, other, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    poll_shadow(bench);
    assert_string_equal(current(bench), before);
    json_decref(rank(bench, 200, "{\"user\":\"U3\",\"top_k\":5}"));
    await(bench, 1); /* figures of another pair begin anew */
    assert_int_equal(sums(bench).sums[STORE_SHADOW_ALONE], 10);
    assert_int_equal(sums(bench).sums[STORE_SHADOW_BOTH], 50);
    assert_string_equal(sums(bench).live, other);
}

static void test_identical(void **state)
{
    struct bench *bench = *state;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048], who[32];
    keep(bench, &live_world, other);
    poll_shadow(bench);
    const size_t count = name_contents(ids, 0, 60, 1);
    for (int i = 0; i < 20; i++) {
        snprintf(who, sizeof who, "\"user\":\"U%d\"", i);
        write_body(body, who, ids, count);
        json_decref(rank(bench, 200, body));
        await(bench, (uint64_t)i + 1);
    }
    const struct plain same = {.rankings = 20, .shared = 200, .tau = 20, .difference = 0};
    check_sums(bench, &same, 20, 20 * 60, 0, 0);
    const struct http_request request = {.method = "GET", .path = "/metrics", .body = "", .id = "x"};
    send_request(bench, &request);
    struct writer *page = &bench->call.response.body;
    static const char *const lines[] = {"embsum_shadow_requests_total 20\n",
        "embsum_shadow_overlap_bucket{le=\"0.9\"} 0\n", "embsum_shadow_overlap_bucket{le=\"1\"} 20\n",
        "embsum_shadow_overlap_sum 20\n", "embsum_shadow_tau_bucket{le=\"0.99\"} 0\n",
        "embsum_shadow_tau_bucket{le=\"1\"} 20\n", "embsum_shadow_difference_bucket{le=\"0\"} 20\n",
        "embsum_shadow_unsaved_requests 20\n", "embsum_shadow_skipped_total{reason=\"busy\"} 0\n",
        "embsum_shadow_candidates_total{in=\"both\"} 1200\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!memmem(page->data, page->used, lines[i], strlen(lines[i])))
            fail_msg("no %s in %.*s", lines[i], (int)page->used, page->data);
    snprintf(body, sizeof body, "embsum_shadow_info{generation=\"%s\"} 1\n", other);
    assert_non_null(memmem(page->data, page->used, body, strlen(body)));
}

/* ---- which generation ---- */

static void test_choice(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char first[STORE_GENERATION_MAX], second[STORE_GENERATION_MAX];
    poll_shadow(bench);
    assert_string_equal(current(bench), "");
    keep(bench, &other_world, first);
    poll_shadow(bench);
    assert_string_equal(current(bench), first);
    sleep(1); /* names tell the second */
    keep(bench, &live_world, second);
    poll_shadow(bench);
    assert_string_equal(current(bench), second);
    require(generation_drop(bench->store, second, &err), &err);
    poll_shadow(bench);
    assert_string_equal(current(bench), first);
    require(generation_drop(bench->store, first, &err), &err);
    poll_shadow(bench);
    assert_string_equal(current(bench), "");
    /* The one before the live one, by its name; nobody, by a name that there is not. */
    memcpy(first, bench->generation, sizeof first);
    require(world_publish(&other_world, bench->store, BLOB_F32, bench->generation, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    poll_shadow(bench);
    assert_string_equal(current(bench), "");
    memcpy(bench->config.shadow.generation, first, sizeof first);
    poll_shadow(bench);
    assert_string_equal(current(bench), first);
    memcpy(bench->config.shadow.generation, bench->generation, sizeof first);
    poll_shadow(bench);
    assert_string_equal(current(bench), "");
    assert_int_equal(bench->service.shadow->loads, 4);
}

/* What becomes live is served from where it is; requests that are being compared hold on to both meanwhile. */
static void test_hand_over(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048];
    keep(bench, &other_world, other);
    poll_shadow(bench);
    const struct live_generation *here = bench->service.shadow->current;
    const size_t count = name_contents(ids, 0, 50, 1);
    write_body(body, "\"user\":\"U3\"", ids, count);
    json_decref(rank(bench, 200, body));
    await(bench, 1);
    require(generation_promote(bench->store, other, &err), &err);
    poll_shadow(bench); /* it waits to be taken over */
    assert_ptr_equal(bench->service.shadow->current, here);
    require(live_poll(bench->service.live, &err), &err);
    struct live_generation *live = live_acquire(bench->service.live);
    assert_ptr_equal(live, here);
    struct hot_stats before, after;
    hot_stats(matrices_hot(live->contents), &before);
    json_t *answer = rank(bench, 200, body);
    assert_string_equal(text_of(answer, "generation"), other);
    check_ranking(json_object_get(answer, "ranking"), &other_world, "U3", count);
    json_decref(answer);
    hot_stats(matrices_hot(live->contents), &after);
    assert_int_equal(after.misses, before.misses);
    live_release(live);
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    assert_int_equal(stats.loads, 2);
    assert_int_equal(bench->service.shadow->loads, 1);
    poll_shadow(bench);
    assert_string_equal(current(bench), "");
    await(bench, 1); /* there is nothing to compare with */
}

/* Changes inside it are followed, and it is what it is in the store when it becomes live. */
static void test_changes_followed(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char other[STORE_GENERATION_MAX], was[STORE_GENERATION_MAX];
    unsigned char blob[BLOB_HEADER + 3 * 24 * sizeof(float)];
    float matrix[3 * 24];
    struct world changed = other_world;
    bench->config.memory.preload = true;
    restart(bench);
    keep(bench, &other_world, other);
    poll_shadow(bench);
    memcpy(was, bench->generation, sizeof was);
    memcpy(bench->generation, other, sizeof other);
    changed.seed = 9;
    world_matrix(matrix, &changed, 'c', "N7", 3, 24);
    put(bench, STORE_CONTENT, "N7", blob, encode(blob, bench, BLOB_CONTENT, "N7", matrix, 3, 24));
    note_change(bench, STORE_CONTENT, "N7");
    require(generation_promote(bench->store, other, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N7\"]}");
    const json_t *item = json_array_get(json_object_get(answer, "ranking"), 0);
    const double before = world_score(&other_world, "U1", "N7");
    assert_true(fabs(json_number_value(json_object_get(item, "score")) - before) > 1e-3);
    json_decref(answer);
}

/* A generation that is not what it should be is not ranked on, and nobody who asks hears of it. */
static void test_damaged(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char other[STORE_GENERATION_MAX], live[STORE_GENERATION_MAX], ids[64][24], body[2048], id[8];
    keep(bench, &other_world, other);
    memcpy(live, bench->generation, sizeof live);
    memcpy(bench->generation, other, sizeof other);
    for (int i = 0; i < 30; i++) {
        snprintf(id, sizeof id, "N%d", i);
        put(bench, STORE_CONTENT, id, "EMBS", 4);
    }
    memcpy(bench->generation, live, sizeof live);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(shadow_poll(bench->service.shadow, &err), -ERR_CORRUPT);
        assert_string_equal(current(bench), "");
    }
    assert_int_equal(bench->service.shadow->refusals, 1);
    write_body(body, "\"user\":\"U3\"", ids, name_contents(ids, 0, 60, 1));
    json_t *answer = rank(bench, 200, body);
    check_ranking(json_object_get(answer, "ranking"), &live_world, "U3", 60);
    json_decref(answer);
    require(live_poll(bench->service.live, &err), &err);
    /* Damage that comes later is told as candidates that the live one alone has. */
    bench->config.memory.warm_ms = 0; /* it is not in memory yet */
    require(generation_drop(bench->store, other, &err), &err);
    keep(bench, &other_world, other);
    poll_shadow(bench);
    memcpy(bench->generation, other, sizeof other);
    put(bench, STORE_CONTENT, "N3", "EMBS", 4);
    memcpy(bench->generation, live, sizeof live);
    write_body(body, "\"user\":\"U3\"", ids, name_contents(ids, 0, 50, 1));
    json_decref(rank(bench, 200, body));
    await(bench, 1);
    assert_int_equal(sums(bench).sums[STORE_SHADOW_BOTH], 49);
    assert_int_equal(sums(bench).sums[STORE_SHADOW_LIVE_ALONE], 1);
}

/* ---- the store's sums ---- */

static struct store_shadow stored(struct bench *bench, const char *generation)
{
    struct err err = ERR_INIT;
    struct store_shadow found;
    struct store_link *link;
    require(store_connect(&link, bench->store, &err), &err);
    require(store_shadow_get(link, generation, &found, &err), &err);
    store_disconnect(link);
    return found;
}

static void test_save(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048];
    keep(bench, &other_world, other);
    poll_shadow(bench);
    require(shadow_save(bench->service.shadow, &err), &err);
    assert_string_equal(stored(bench, other).live, "");
    write_body(body, "\"user\":\"U3\"", ids, name_contents(ids, 0, 60, 1));
    for (uint64_t i = 1; i <= 6; i++) {
        json_decref(rank(bench, 200, body));
        await(bench, i);
        if (i == 2 || i == 3 || i == 6)
            require(shadow_save(bench->service.shadow, &err), &err);
    }
    const struct store_shadow counted = sums(bench), found = stored(bench, other);
    assert_memory_equal(&found, &counted, sizeof found);
    assert_int_equal(found.sums[STORE_SHADOW_REQUESTS], 6);
    /* Another daemon's are added. */
    restart(bench);
    poll_shadow(bench);
    json_decref(rank(bench, 200, body));
    await(bench, 1);
    require(shadow_save(bench->service.shadow, &err), &err);
    assert_int_equal(stored(bench, other).sums[STORE_SHADOW_REQUESTS], 7);
    /* There is no generation any more to which they could be added. */
    json_decref(rank(bench, 200, body));
    await(bench, 2);
    require(generation_drop(bench->store, other, &err), &err);
    assert_int_equal(shadow_save(bench->service.shadow, &err), -ERR_NOT_FOUND);
    require(shadow_save(bench->service.shadow, &err), &err);
    assert_string_equal(stored(bench, other).live, "");
}

/* ---- which requests, and how many at a time ---- */

static void test_share(void **state)
{
    struct bench *bench = *state;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048], who[32];
    keep(bench, &live_world, other);
    bench->config.shadow.share = 0.3;
    poll_shadow(bench);
    const size_t count = name_contents(ids, 0, 11, 1);
    bool chosen[200];
    size_t sampled = 0;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 200; i++) {
            snprintf(who, sizeof who, "\"user\":\"X%d\"", i);
            write_body(body, who, ids, count);
            const int64_t before = sums(bench).sums[STORE_SHADOW_REQUESTS];
            json_decref(rank(bench, 200, body));
            await_idle(bench);
            const bool now = sums(bench).sums[STORE_SHADOW_REQUESTS] > before;
            sampled += now;
            if (round == 0)
                chosen[i] = now;
            assert_int_equal(now, chosen[i]); /* each user always or never */
        }
    assert_true(sampled > 2 * 30 && sampled < 2 * 90); /* of 200 users 60, five standard deviations */
    bench->config.shadow.share = 0;
    restart(bench);
    assert_null(bench->service.shadow);
    json_decref(rank(bench, 200, body));
}

struct block {
    struct pool_task task;
    sem_t *begun, *go_on;
};

static void block(struct pool_task *task, struct worker *worker)
{
    (void)worker;
    struct block *self = POOL_OWNER(task, struct block, task);
    sem_post(self->begun);
    while (sem_wait(self->go_on) < 0)
        ;
}

/* There are 16 samples; and none for whoever is answered while requests wait. */
static void test_queue(void **state)
{
    struct bench *bench = *state;
    enum { MOST = 256 };
    static struct block blocks[MOST + 1];
    sem_t begun, go_on;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048];
    struct shadow *shadow = bench->service.shadow;
    const size_t workers = bench->service.worker_count;
    assert_true(workers <= MOST);
    sem_init(&begun, 0, 0);
    sem_init(&go_on, 0, 0);
    keep(bench, &live_world, other);
    poll_shadow(bench);
    write_body(body, "\"user\":\"U3\"", ids, name_contents(ids, 0, 40, 1));
    json_decref(rank(bench, 200, body)); /* so that all of it is in memory */
    await_idle(bench);
    for (size_t i = 0; i < SHADOW_QUEUE; i++)
        atomic_store(&shadow->samples[i].state, SHADOW_TAKEN);
    json_decref(rank(bench, 200, body));
    assert_true(bench->at_once);
    assert_int_equal(skipped(bench, SHADOW_QUEUE_FULL), 1);
    atomic_store(&shadow->samples[5].state, SHADOW_FREE);
    json_decref(rank(bench, 200, body));
    await(bench, 3);
    for (size_t i = 0; i < SHADOW_QUEUE; i++)
        atomic_store(&shadow->samples[i].state, SHADOW_FREE);
    for (size_t i = 0; i <= workers; i++) {
        blocks[i] = (struct block){{.run = block}, &begun, &go_on};
        pool_put(bench->service.worker_pool, &blocks[i].task);
    }
    for (size_t i = 0; i < workers; i++)
        while (sem_wait(&begun) < 0)
            ;
    json_decref(rank(bench, 200, body));
    assert_int_equal(skipped(bench, SHADOW_BUSY), 1);
    for (size_t i = 0; i <= workers; i++)
        sem_post(&go_on);
    assert_int_equal(sums(bench).sums[STORE_SHADOW_REQUESTS], 2);
    while (sem_wait(&begun) < 0)
        ;
    while (pool_waiting(bench->service.worker_pool))
        usleep(1000);
    service_done(&bench->service); /* the semaphores are done with then */
    sem_destroy(&begun);
    sem_destroy(&go_on);
    start(bench);
}

/* The end comes while samples wait. */
static void test_stop(void **state)
{
    struct bench *bench = *state;
    char other[STORE_GENERATION_MAX], ids[64][24], body[2048];
    struct err err = ERR_INIT;
    keep(bench, &other_world, other);
    for (int round = 0; round < 10; round++) {
        restart(bench);
        require(shadow_start(bench->service.shadow, &err), &err);
        for (int i = 0; i < 20000 && !atomic_load(&bench->service.shadow->present); i++)
            usleep(1000);
        write_body(body, "\"user\":\"U3\"", ids, name_contents(ids, 0, 60, 1));
        for (int i = 0; i < 5; i++)
            json_decref(rank(bench, 200, body));
    }
    restart(bench);
    /* What was compared is saved at the end; the rest is left out. */
    assert_true(stored(bench, other).sums[STORE_SHADOW_REQUESTS] <= 50);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0)
        return 1;
#define shadow_test(fn) cmocka_unit_test_setup_teardown(fn, setup_shadow, teardown)
    const struct CMUnitTest tests[] = {
        shadow_test(test_candidates),
        shadow_test(test_catalogue),
        shadow_test(test_identical),
        shadow_test(test_choice),
        shadow_test(test_hand_over),
        shadow_test(test_changes_followed),
        shadow_test(test_damaged),
        shadow_test(test_save),
        shadow_test(test_share),
        shadow_test(test_queue),
        shadow_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
