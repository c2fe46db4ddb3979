/* Which generations go live, and how warm: what is incomplete, of other dimensions or damaged beyond a few blobs is refused
 * by name, and the one before goes on; what was asked of that one is in the memory of the next before it is served. */
#include "server/live_verify.h"
#include "tests/server/bench.h"

static const struct world many = {.m = 4, .n = 2, .d = 16, .users = 200, .contents = 500, .seed = 7};

/* Publish a world whose generation damage() changes before the daemon looks. */
static void publish(struct bench *bench, const struct world *world)
{
    struct err err = ERR_INIT;
    require(world_publish(world, bench->store, BLOB_F32, bench->generation, &err), &err);
}

/* So many contents or users from the first on become something else. */
static void damage(struct bench *bench, enum store_kind kind, int count)
{
    char id[16];
    for (int i = 0; i < count; i++) {
        snprintf(
            id, sizeof id, "%c%d", kind == STORE_USER ? 'U' : 'N', 100 + i); /* neighbours in the catalogue */
        put(bench, kind, id, "EMBS", 4);
    }
}

/* So many more than there are, of which `inside` may be missing because a refresh is at work. */
static void put_manifest_inside(
    struct bench *bench, const struct world *world, int users, int contents, size_t inside)
{
    struct manifest manifest = {.m = world->m,
        .n = world->n,
        .d = world->d,
        .users = world->users + 1 + (size_t)users,
        .contents = world->contents + (size_t)contents};
    manifest.users_least = manifest.users - inside;
    manifest.contents_least = manifest.contents - inside;
    char *text = manifest_dump(&manifest);
    assert_non_null(text);
    put(bench, STORE_MANIFEST, "", text, strlen(text));
    free(text);
}

static void put_manifest(struct bench *bench, const struct world *world, int users, int contents)
{
    put_manifest_inside(bench, world, users, contents, 0);
}

static void check_page(struct bench *bench, const char *text, bool there)
{
    const struct http_request request = {.method = "GET", .path = "/metrics", .body = "", .id = "x"};
    send_request(bench, &request);
    const struct writer *page = &bench->call.response.body;
    if ((memmem(page->data, page->used, text, strlen(text)) != NULL) != there)
        fail_msg("%s \"%s\" in %.*s", there ? "no" : "still", text, (int)page->used, page->data);
}

/* The generation is refused with these words, and before goes on. */
static void check_refused(struct bench *bench, const char *before, const char *words)
{
    struct err err = ERR_INIT;
    char line[256];
    assert_int_equal(live_poll(bench->service.live, &err), -ERR_CORRUPT);
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    assert_string_equal(stats.refused, bench->generation);
    if (!strstr(stats.reason, words))
        fail_msg("%s; not: %s", stats.reason, words);
    snprintf(line, sizeof line, "embsum_generation_refused_info{generation=\"%s\",reason=\"", stats.refused);
    check_page(bench, line, true);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}");
    assert_string_equal(text_of(answer, "generation"), before);
    json_decref(answer);
    answer = ask(bench, 200, "GET", "/readyz", NULL, NULL);
    assert_string_equal(text_of(answer, "generation"), before);
    json_decref(answer);
}

static void check_live(struct bench *bench)
{
    struct err err = ERR_INIT;
    require(live_poll(bench->service.live, &err), &err);
    struct live_generation *generation = live_acquire(bench->service.live);
    assert_string_equal(generation->name, bench->generation);
    live_release(generation);
    check_page(bench, "embsum_generation_refused_info{", false);
}

static void test_incomplete(void **state)
{
    struct bench *bench = *state;
    char before[STORE_GENERATION_MAX];
    memcpy(before, bench->generation, sizeof before);
    publish(bench, &many);
    put_manifest(bench, &many, 0, 1);
    check_refused(bench, before, "it is incomplete: 500 of 501 contents are there");
    publish(bench, &many);
    put_manifest(bench, &many, 1, 0);
    check_refused(bench, before, "it is incomplete: 201 of 202 users are there");
    publish(bench, &many);
    put_manifest_inside(bench, &many, 1, 1, 1);
    check_live(bench);
    memcpy(before, bench->generation, sizeof before);
    publish(bench, &many);
    put_manifest_inside(bench, &many, 1, 2, 1);
    check_refused(bench, before, "it is incomplete: 500 of 501 contents are there");
    put_manifest_inside(bench, &many, 1, 2, 2);
    note_change(bench, STORE_CONTENT, "N1");
    live_hurry(bench->service.live);
    check_live(bench);
}

/* Another shape than before is a new model; another than the manifest's is a mistake. */
static void test_dimensions(void **state)
{
    struct bench *bench = *state;
    publish(bench, &many);
    check_live(bench);
    char before[STORE_GENERATION_MAX];
    memcpy(before, bench->generation, sizeof before);
    struct world other = many;
    other.n = 3;
    publish(bench, &many);
    put_manifest(bench, &other, 0, 0);
    check_refused(bench, before, "64 of 64 contents that were looked at are bad");
    other = many;
    other.m = 5;
    publish(bench, &many);
    put_manifest(bench, &other, 0, 0);
    check_refused(bench, before, "the default user is damaged: dimensions");
}

/* The pointer goes back: nothing is refused any more. */
static void test_sample(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char before[STORE_GENERATION_MAX];
    memcpy(before, bench->generation, sizeof before);
    publish(bench, &many);
    damage(bench, STORE_CONTENT, 100);
    check_refused(bench, before, ": length"); /* four bytes are no blob */
    publish(bench, &many);
    damage(bench, STORE_USER, 60);
    check_refused(bench, before, "users that were looked at are bad, U");
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    assert_int_equal(stats.refusals, 2);
    require(generation_promote(bench->store, before, &err), &err);
    memcpy(bench->generation, before, sizeof before);
    check_live(bench);
    /* One alone is told as corrupt, in a small generation, too. */
    publish(bench, &one);
    put(bench, STORE_CONTENT, "N7", "EMBS", 4);
    check_live(bench);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N6\",\"N7\"]}");
    assert_string_equal(reason_of(answer, "N7"), "corrupt");
    json_decref(answer);
}

/* All are read: eight neighbours are too few to be sure to be in a sample, twelve in all are too many. */
static void test_preloaded(void **state)
{
    struct bench *bench = *state;
    char before[STORE_GENERATION_MAX];
    bench->config.memory.preload = true;
    assert_int_equal(live_verify_tolerated(500), 11);
    publish(bench, &many);
    damage(bench, STORE_CONTENT, 8);
    check_live(bench);
    memcpy(before, bench->generation, sizeof before);
    publish(bench, &many);
    damage(bench, STORE_CONTENT, 12);
    check_refused(bench, before, "contents");
}

static size_t misses(struct bench *bench, size_t *contents, size_t *users)
{
    struct live_generation *generation = live_acquire(bench->service.live);
    struct hot_stats stats[2];
    hot_stats(matrices_hot(generation->contents), &stats[0]);
    hot_stats(matrices_hot(generation->users), &stats[1]);
    live_release(generation);
    *contents = stats[0].entries;
    *users = stats[1].entries;
    return stats[0].misses + stats[1].misses;
}

/* What was asked of one generation is in the memory of the next; what is not in that one is no mistake. */
static void test_warm(void **state)
{
    struct bench *bench = *state;
    struct world fewer = many;
    size_t contents, users;
    fewer.contents = 480;
    publish(bench, &many);
    check_live(bench);
    const char *body = "{\"user\":\"U3\",\"candidates\":[\"N1\",\"N70\",\"N490\"]}";
    json_decref(rank(bench, 200, body));
    assert_int_equal(misses(bench, &contents, &users), 4);
    publish(bench, &fewer);
    check_live(bench);
    assert_int_equal(misses(bench, &contents, &users), 0);
    assert_int_equal(contents, 2);
    assert_int_equal(users, 1);
    json_t *answer = rank(bench, 200, body);
    assert_string_equal(reason_of(answer, "N490"), "not_found");
    json_decref(answer);
    assert_int_equal(misses(bench, &contents, &users), 1);
    bench->config.memory.warm_ms = 0;
    publish(bench, &many);
    check_live(bench);
    misses(bench, &contents, &users);
    assert_int_equal(contents + users, 0);
}

struct list {
    size_t count;
    char ids[64][8];
};

static int take_id(void *ctx, const struct store_id *id)
{
    struct list *list = ctx;
    snprintf(list->ids[list->count++], sizeof *list->ids, "%.*s", (int)id->len, id->id);
    return list->count == 50 ? 7 : 0;
}

/* Those that were asked for come first, and nobody twice. */
static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 30, ASKED = 9 };
    struct hot *hot = NULL;
    struct err err = ERR_INIT;
    const struct hot_options options = {.block_bytes = 64, .limit_bytes = 1 << 20, .readers = 1};
    struct list list = {0};
    char text[COUNT][8];
    require(hot_new(&hot, &options, &err), &err);
    assert_int_equal(hot_list(hot, take_id, &list), 0);
    assert_int_equal(list.count, 0);
    for (int i = 0; i < COUNT; i++) {
        const struct store_id id = {text[i], (size_t)snprintf(text[i], sizeof text[i], "%d", i)};
        const uint64_t hash = hot_hash(id.id, id.len);
        const unsigned char block[64] = {0};
        const void *found;
        assert_true(hot_put(hot, &id, hash, block, HOT_FILL));
        hot_enter(hot, 0);
        if (i % 3 == 0 && i < 3 * ASKED)
            assert_int_equal(hot_find(hot, 0, &id, &hash, 1, &found), 1);
        hot_leave(hot, 0);
    }
    assert_int_equal(hot_list(hot, take_id, &list), 0);
    assert_int_equal(list.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const int number = atoi(list.ids[i]);
        assert_int_equal(i < ASKED, number % 3 == 0 && number < 3 * ASKED);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(list.ids[i], list.ids[k]);
    }
    assert_int_equal(hot_list(hot, take_id, &list), 7);
    assert_int_equal(list.count, 50);
    hot_free(hot);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_incomplete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dimensions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sample, setup, teardown),
        cmocka_unit_test_setup_teardown(test_preloaded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_warm, setup, teardown),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
