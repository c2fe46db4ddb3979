/* Memory that runs out while generations are read and written, in LMDB and in Redis of all kinds. */
#include "tests/faults/lock.h"
#include "tests/lib/redis_set.h"
#include "tests/server/world.h"

static const struct world small = {
    .m = 2, .n = 2, .d = 4, .users = 3, .contents = 5, .categories = 2, .seed = 1};

static char url[320], live[STORE_GENERATION_MAX], made[STORE_GENERATION_MAX];
static struct store *store;
static struct store_link *link;

static struct store_options patient(void)
{
    struct store_options options = STORE_OPTIONS_INIT;
    options.command_timeout_ms = options.connect_timeout_ms = 20000; /* a busy machine is no fault */
    options.retry_min_ms = options.retry_max_ms = 1;
    return options;
}

/* What is live is whole: what run() has published, or what was live before. */
static void live_is_whole(int code)
{
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    struct generation_check check;
    end_lock(link);
    nomem_require(store_live(link, name, &err), &err);
    assert_string_equal(name, code < 0 && strcmp(name, made) != 0 ? live : made);
    nomem_require(generation_verify(&check, link, name, NULL, NULL, &err), &err);
    assert_int_equal(check.contents, small.contents);
    strcpy(live, name);
}

static void open_all(void)
{
    struct err err = ERR_INIT;
    const struct store_options options = patient();
    nomem_require(store_open(&store, url, &options, &err), &err);
    nomem_require(store_connect(&link, store, &err), &err);
}

static void close_all(void)
{
    store_disconnect(link);
    store_close(store);
}

static void publish_first(void)
{
    struct err err = ERR_INIT;
    open_all();
    nomem_require(world_publish(&small, store, BLOB_F32, made, &err), &err);
    strcpy(live, made);
}

/* ---- opening ---- */

static int open_store(struct err *err)
{
    const struct store_options options = patient();
    struct store *mine = NULL;
    struct store_link *own = NULL;
    char name[STORE_GENERATION_MAX];
    int code = store_open(&mine, url, &options, err);
    if (code == 0)
        code = store_connect(&own, mine, err);
    if (code == 0)
        code = store_live(own, name, err);
    store_disconnect(own);
    store_close(mine);
    return code;
}

static void test_open(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "open a store", .run = open_store};
    close_all(); /* an embedded store is opened once in a process */
    nomem_test(&s);
    open_all();
}

/* ---- publishing ---- */

static int publish(struct err *err)
{
    return world_publish(&small, store, BLOB_F32, made, err);
}

static void prune(void)
{
    struct err err = ERR_INIT;
    nomem_require(generation_prune(store, 0, &err), &err);
}

static void test_publish(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "publish a generation", .run = publish, .verify = live_is_whole, .after = prune, .cost = 6};
    nomem_test(&s);
}

/* ---- verifying, reading, following ---- */

static int verify(struct err *err)
{
    struct generation_check check;
    return generation_verify(&check, link, live, NULL, NULL, err);
}

static void test_verify(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "verify a generation", .run = verify, .cost = 4};
    nomem_test(&s);
}

static int count_value(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    (void)len;
    *(size_t *)ctx += data != NULL;
    return 0;
}

static int count_id(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    ++*(size_t *)ctx;
    return 0;
}

static size_t values, found;

static int read_values(struct err *err)
{
    static const struct store_id ids[] = {{"N0", 2}, {"absent", 6}, {"N4", 2}};
    values = found = 0;
    const int code = store_get(link, live, STORE_CONTENT, ids, 3, count_value, &values, err);
    return code < 0 ? code : store_scan(link, live, STORE_CONTENT, count_id, &found, err);
}

static void values_read(int code)
{
    assert_true(values <= 2 && found <= small.contents);
    assert_true(code < 0 || (values == 2 && found == small.contents));
}

static void test_read(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "read values", .run = read_values, .verify = values_read};
    nomem_test(&s);
}

static char cursor[STORE_CURSOR_MAX];

static int count_change(void *ctx, const struct store_change *change)
{
    (void)change;
    ++*(size_t *)ctx;
    return 0;
}

static int follow(struct err *err)
{
    const struct store_change change = {STORE_CONTENT, {"N1", 2}};
    values = 0;
    const int code = store_changes_append(link, live, &change, 1, err);
    return code < 0 ? code : store_changes_read(link, live, cursor, 100, count_change, &values, err);
}

static void followed(int code)
{
    assert_true(code < 0 || values > 0);
}

static void test_changes(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "note and follow changes", .run = follow, .verify = followed};
    cursor[0] = '\0';
    nomem_test(&s);
}

/* ---- what a refresh in place does: heads, deleting, the bounds of the changes ---- */

static int refresh(struct err *err)
{
    static const struct store_id ids[] = {{"N0", 2}, {"absent", 6}, {"N4", 2}}, gone = {"gone", 4};
    static const struct store_entry entry = {{"gone", 4}, "text", 4};
    values = 0;
    cursor[0] = '\0';
    int code = store_get_head(link, live, STORE_CONTENT, ids, 3, 64, count_value, &values, err);
    if (code == 0)
        code = store_put(link, live, STORE_SUMMARY, &entry, 1, err);
    if (code == 0)
        code = store_delete(link, live, STORE_SUMMARY, &gone, 1, err);
    if (code == 0)
        code = store_changes_trim(link, live, 1, err);
    return code < 0 ? code : store_changes_end(link, live, cursor, err);
}

static void refreshed(int code)
{
    assert_true(values <= 2 && (code < 0 || values == 2));
    assert_true(code < 0 || *cursor);
}

static void test_refresh(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "refresh in place", .run = refresh, .verify = refreshed, .cost = 2};
    nomem_test(&s);
}

/* ---- clicks ---- */

static char place[STORE_CURSOR_MAX];

static int count_click(void *ctx, const struct store_click *click, const char *at)
{
    ++*(size_t *)ctx;
    assert_true(click->user.len && *at);
    return 0;
}

static int take_clicks(struct err *err)
{
    static const struct store_click click = {{"U1", 2}, {"N1", 2}};
    static const struct store_entry entry = {{"U1", 2}, "N1", 2};
    values = 0;
    int code = store_clicks_append(link, &click, 1, err);
    if (code == 0)
        code = store_clicks_read(link, place, 100, count_click, &values, err);
    if (code == 0)
        code = store_put(link, STORE_SHARED, STORE_HISTORY, &entry, 1, err);
    return code < 0 ? code : store_clicks_trim(link, place, err);
}

static void clicks_taken(int code)
{
    assert_true(code < 0 || values > 0);
}

static void test_clicks(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "take clicks into histories", .run = take_clicks, .verify = clicks_taken, .cost = 2};
    place[0] = '\0';
    nomem_test(&s);
}

/* ---- operators ---- */

static int operate(struct err *err)
{
    struct store_generation *rows;
    size_t count;
    char name[STORE_GENERATION_MAX];
    int code = generation_rollback(store, name, err);
    if (code == 0)
        code = generation_promote(store, made, err);
    if (code == 0)
        code = store_generations(link, &rows, &count, err);
    if (code == 0)
        free(rows);
    return code;
}

static void operated(int code)
{
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    end_lock(link);
    nomem_require(store_live(link, name, &err), &err);
    assert_true(strcmp(name, made) == 0 || (code < 0 && strcmp(name, live) == 0));
    nomem_require(generation_promote(store, made, &err), &err);
}

static void test_operators(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "roll back, promote, list", .run = operate, .verify = operated, .cost = 6};
    struct err err = ERR_INIT;
    nomem_require(world_publish(&small, store, BLOB_F32, made, &err), &err);
    nomem_test(&s);
}

/* ---- all stores ---- */

static int run_all(const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_clicks),
        cmocka_unit_test(test_operators),
    };
    publish_first();
    const int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    close_all();
    return failed;
}

int main(void)
{
    if (!nomem_possible())
        return 77;
    char folder[256];
    nomem_folder(folder);
    snprintf(url, sizeof url, "lmdb:%s/store", folder);
    int failed = run_all("LMDB");
    scratch_remove(folder);
    if (!test_redis_installed()) {
        puts("redis-server is not installed: LMDB alone");
        return failed;
    }
    struct test_redis redis;
    test_redis_start(&redis, NULL);
    snprintf(url, sizeof url, "redis+unix:%s", redis.socket);
    failed += run_all("Redis");
    test_redis_stop(&redis);
    struct test_cluster cluster;
    test_cluster_start(&cluster, NULL, 3, false);
    snprintf(url, sizeof url, "%s", cluster.url);
    failed += run_all("a cluster");
    test_cluster_stop(&cluster);
    struct test_sentinels sentinels;
    test_sentinels_start(&sentinels, NULL, 1, false);
    snprintf(url, sizeof url, "%s", sentinels.url);
    failed += run_all("a sentinel's master");
    test_sentinels_stop(&sentinels);
    return failed;
}
