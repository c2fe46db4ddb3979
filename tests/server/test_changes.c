/* Changes inside a live generation: a matrix that was written anew, came, or went is served as it is now, and the rest of
 * the memory stays, unless the changes have been trimmed before they were read. Misses: an id is read once for all who wait, an absent one is not asked for again for a moment. */
#include "tests/server/bench.h"

#include <pthread.h>

/* The matrix that another world has under this id. */
static void rewrite(struct bench *bench, enum blob_kind kind, const char *id, uint64_t seed)
{
    const size_t rows = kind == BLOB_USER ? one.m : one.n;
    struct world other = one;
    float matrix[8 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    other.seed = seed;
    world_matrix(matrix, &other, (char)kind, id, rows, one.d);
    put(bench, (enum store_kind)kind, id, blob, encode(blob, bench, kind, id, matrix, rows, one.d));
}

static double score_of(struct bench *bench, const char *user, const char *content)
{
    char body[128];
    snprintf(body, sizeof body, "{\"user\":\"%s\",\"candidates\":[\"%s\"]}", user, content);
    json_t *answer = rank(bench, 200, body);
    const json_t *ranking = json_object_get(answer, "ranking");
    const double score = json_array_size(ranking)
                             ? json_number_value(json_object_get(json_array_get(ranking, 0), "score"))
                             : (double)NAN;
    json_decref(answer);
    return score;
}

static struct hot_stats contents_of(struct bench *bench)
{
    struct live_generation *generation = live_acquire(bench->service.live);
    struct hot_stats stats;
    hot_stats(matrices_hot(generation->contents), &stats);
    live_release(generation);
    return stats;
}

static int setup_preloaded(void **state)
{
    const int code = setup(state);
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    service_done(&bench->service);
    bench->config.memory.preload = true;
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    return code;
}

static void test_preload(void **state)
{
    struct bench *bench = *state;
    const struct hot_stats before = contents_of(bench);
    assert_int_equal(before.entries, 40);
    assert_int_equal(before.hits + before.misses, 0);
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof id, "N%d", i);
        assert_true(fabs(score_of(bench, "U1", id) - world_score(&one, "U1", id)) < 1e-5);
    }
    assert_int_equal(contents_of(bench).misses, 0);
}

static void test_changed(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    const double before = score_of(bench, "U1", "N1"), same = score_of(bench, "U1", "N2");
    rewrite(bench, BLOB_CONTENT, "N1", 9);
    assert_true(score_of(bench, "U1", "N1") == before); /* nobody has said that it changed */
    note_change(bench, STORE_CONTENT, "N1");
    require(live_poll(bench->service.live, &err), &err);
    const double after = score_of(bench, "U1", "N1");
    assert_true(after != before);
    assert_true(score_of(bench, "U1", "N2") == same);
    assert_int_equal(contents_of(bench).misses, 0); /* nothing else was dropped */
    /* The user changes, too: both matrices of the other world, with this world's W_s. */
    rewrite(bench, BLOB_USER, "U1", 9);
    note_change(bench, STORE_USER, "U1");
    require(live_poll(bench->service.live, &err), &err);
    assert_true(score_of(bench, "U1", "N2") != same);
    /* Back to what it was, in one step with a hundred changes of the same id. */
    rewrite(bench, BLOB_USER, "U1", 1);
    rewrite(bench, BLOB_CONTENT, "N1", 1);
    for (int i = 0; i < 100; i++)
        note_change(bench, i % 2 ? STORE_USER : STORE_CONTENT, i % 2 ? "U1" : "N1");
    require(live_poll(bench->service.live, &err), &err);
    assert_true(score_of(bench, "U1", "N1") == before);
    assert_true(score_of(bench, "U1", "N2") == same);
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    assert_int_equal(stats.changes, 102);
}

static size_t catalogue_count(struct bench *bench, const char *exclude)
{
    char body[128];
    snprintf(body, sizeof body, "{\"user\":\"U1\",\"top_k\":1000,\"exclude\":[%s]}", exclude);
    json_t *answer = rank(bench, 200, body);
    const size_t count = json_array_size(json_object_get(answer, "ranking"));
    json_decref(answer);
    return count;
}

static void test_came_and_went(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    assert_int_equal(catalogue_count(bench, ""), 40);
    assert_int_equal(catalogue_count(bench, "\"N1\",\"N39\",\"N1\",\"unknown\""), 38);
    assert_true(isnan(score_of(bench, "U1", "new")));
    rewrite(bench, BLOB_CONTENT, "new", 1);
    note_change(bench, STORE_CONTENT, "new");
    require(live_poll(bench->service.live, &err), &err);
    assert_true(
        fabs(score_of(bench, "U1", "new") - world_score(&one, "U1", "new")) < 1e-5); /* not known as absent */
    assert_int_equal(catalogue_count(bench, ""), 41);
    /* Gone in all ways but one: what lies there is no matrix any more. */
    put(bench, STORE_CONTENT, "new", "EMBS", 4);
    note_change(bench, STORE_CONTENT, "new");
    require(live_poll(bench->service.live, &err), &err);
    assert_true(isnan(score_of(bench, "U1", "new")));
}

/* ---- changes that nobody can tell any more ---- */

static void trim_changes(struct bench *bench)
{
    struct err err = ERR_INIT;
    struct store_link *link;
    require(store_connect(&link, bench->store, &err), &err);
    require(store_changes_trim(link, bench->generation, 1, &err), &err);
    store_disconnect(link);
}

static struct live_stats stats_of(struct bench *bench)
{
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    return stats;
}

/* N1 and a new content change, and then so much that both are trimmed from the stream before the daemon looks again. */
static void miss_changes(struct bench *bench)
{
    struct err err = ERR_INIT;
    note_change(bench, STORE_CONTENT, "N3");
    require(live_poll(bench->service.live, &err), &err);
    rewrite(bench, BLOB_CONTENT, "N1", 9);
    rewrite(bench, BLOB_CONTENT, "new", 1);
    note_change(bench, STORE_CONTENT, "N1");
    note_change(bench, STORE_CONTENT, "new");
    note_change(bench, STORE_CONTENT, "N2");
    trim_changes(bench);
}

static void test_missed(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    const double before = score_of(bench, "U1", "N1"), same = score_of(bench, "U1", "N2");
    miss_changes(bench);
    const struct live_stats then = stats_of(bench);
    assert_int_equal(then.changes, 1);
    require(live_poll(bench->service.live, &err), &err);
    assert_int_equal(stats_of(bench).loads, then.loads + 1);
    assert_true(score_of(bench, "U1", "N1") != before);
    assert_true(score_of(bench, "U1", "N2") == same);
    assert_true(fabs(score_of(bench, "U1", "new") - world_score(&one, "U1", "new")) < 1e-5);
    assert_int_equal(catalogue_count(bench, ""), 41);
    require(live_poll(bench->service.live, &err), &err);
    assert_int_equal(stats_of(bench).changes, 1); /* what has been loaded is not followed once more */
    /* What comes now is followed as before. */
    rewrite(bench, BLOB_CONTENT, "N1", 1);
    note_change(bench, STORE_CONTENT, "N1");
    trim_changes(bench);
    require(live_poll(bench->service.live, &err), &err);
    assert_true(score_of(bench, "U1", "N1") == before);
    require(live_poll(bench->service.live, &err), &err);
    assert_int_equal(stats_of(bench).loads, then.loads + 1);
}

/* What is loaded anew may have become worse: what is in memory goes on, and is not loaded with each look. */
static void test_missed_and_refused(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    const double before = score_of(bench, "U1", "N1");
    struct manifest manifest = {
        .m = one.m, .n = one.n, .d = one.d, .users = one.users + 1, .contents = one.contents};
    miss_changes(bench);
    put(bench, STORE_MANIFEST, "", "{", 1);
    const struct live_stats then = stats_of(bench);
    for (int i = 0; i < 3; i++)
        assert_int_equal(live_poll(bench->service.live, &err), -ERR_CORRUPT);
    assert_string_equal(stats_of(bench).refused, bench->generation);
    assert_int_equal(stats_of(bench).refusals, then.refusals + 1);
    assert_int_equal(stats_of(bench).loads, then.loads);
    assert_true(score_of(bench, "U1", "N1") == before);
    char *text = manifest_dump(&manifest);
    assert_non_null(text);
    put(bench, STORE_MANIFEST, "", text, strlen(text));
    free(text);
    live_hurry(bench->service.live);
    require(live_poll(bench->service.live, &err), &err);
    assert_string_equal(stats_of(bench).refused, "");
    assert_int_equal(stats_of(bench).loads, then.loads + 1);
    assert_true(score_of(bench, "U1", "N1") != before);
}

/* ---- misses ---- */

struct asker {
    pthread_t thread;
    struct bench *bench;
    struct http_call call;
    sem_t answered;
};

static void asker_answered(struct http_call *call)
{
    sem_post(&((struct asker *)(void *)((char *)call - offsetof(struct asker, call)))->answered);
}

/* Many requests for the same ids, none of which is in memory: each id is read once or little more (who comes after it has
 * been placed finds it hot). */
static void test_shared_fetch(void **state)
{
    struct bench *bench = *state;
    enum { ASKERS = 64 };
    static struct asker askers[ASKERS];
    char body[2048] = "{\"user\":\"U1\",\"candidates\":[";
    for (int i = 0; i < 40; i++)
        sprintf(body + strlen(body), "%s\"N%d\"", i ? "," : "", i);
    strcat(body, ",\"absent\"]}");
    for (size_t i = 0; i < ASKERS; i++) {
        struct asker *asker = &askers[i];
        memset(asker, 0, sizeof *asker);
        sem_init(&asker->answered, 0, 0);
        http_response_reset(&asker->call.response);
        asker->call.request = rank_post(body);
        asker->call.since_ns = clock_ns();
        asker->call.defer = deferred;
        asker->call.answer = asker_answered;
        if (router_handle(bench->service.loops, &asker->call)) /* all has come meanwhile */
            sem_post(&asker->answered);
    }
    for (size_t i = 0; i < ASKERS; i++) {
        while (sem_wait(&askers[i].answered) < 0)
            ;
        assert_int_equal(askers[i].call.response.status, 200);
        json_t *answer =
            json_loadb(askers[i].call.response.body.data, askers[i].call.response.body.used, 0, NULL);
        assert_non_null(answer);
        check_ranking(json_object_get(answer, "ranking"), &one, "U1", 40);
        assert_string_equal(reason_of(answer, "absent"), "not_found");
        json_decref(answer);
        writer_done(&askers[i].call.response.body);
        sem_destroy(&askers[i].answered);
    }
    assert_int_equal(contents_of(bench).entries, 40);
}

/* A thousand candidates of which a few are there: those wait to be made ready together, while many come and go that are
 * not there. */
static void test_few_among_many(void **state)
{
    struct bench *bench = *state;
    for (int round = 0; round < 3; round++) {
        static char body[32768];
        strcpy(body, "{\"user\":\"U1\",\"candidates\":[");
        for (int i = 0; i < 1000; i++) {
            const bool there = i % 100 < 3;
            sprintf(body + strlen(body), "%s\"%s%d\"", i ? "," : "", there ? "N" : "absent",
                there ? i / 100 * 3 + i % 100 : round * 1000 + i);
        }
        strcat(body, "]}");
        json_t *answer = rank(bench, 200, body);
        check_ranking(json_object_get(answer, "ranking"), &one, "U1", 30);
        assert_int_equal(json_array_size(json_object_get(answer, "missing")), 970);
        json_decref(answer);
    }
}

/* What was not there is not asked for again for a moment: it may come without our noticing, but not for long. */
static void test_absent(void **state)
{
    struct bench *bench = *state;
    assert_true(isnan(score_of(bench, "U1", "late")));
    rewrite(bench, BLOB_CONTENT, "late", 1);
    assert_true(isnan(score_of(bench, "U1", "late")));
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    const uint64_t start = clock_ms();
    while (isnan(score_of(bench, "U1", "late"))) {
        assert_in_range(clock_ms() - start, 0, 3000);
        nanosleep(&pause, NULL);
    }
    assert_in_range(clock_ms() - start, 500, 3000);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_preload, setup_preloaded, teardown),
        cmocka_unit_test_setup_teardown(test_changed, setup_preloaded, teardown),
        cmocka_unit_test_setup_teardown(test_came_and_went, setup_preloaded, teardown),
        cmocka_unit_test_setup_teardown(test_missed, setup_preloaded, teardown),
        cmocka_unit_test_setup_teardown(test_missed_and_refused, setup_preloaded, teardown),
        cmocka_unit_test_setup_teardown(test_shared_fetch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_few_among_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
