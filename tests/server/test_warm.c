/* A request that finds everything in memory allocates nothing, once its buffers have grown: memory that is asked for a
 * thousand times a second is where a service's tail comes from. */
#include "tests/server/bench.h"

#include <errno.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define COUNTED 0 /* malloc is theirs */
#else
#define COUNTED 1

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

static atomic_size_t allocations;

void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, size);
}

enum { CANDIDATES = 1000, SHORT = 100, REQUESTS = 500 }; /* short ones are ranked by the loop */
static const struct world many = {.m = 4, .n = 2, .d = 16, .users = 8, .contents = CANDIDATES, .seed = 3};

static void ask_for(struct bench *bench, size_t count, size_t number, const char *extra)
{
    static char body[16 * CANDIDATES];
    size_t used = (size_t)sprintf(body, "{\"user\":\"U%zu\",\"candidates\":[", number % many.users);
    for (size_t i = 0; i < count; i++)
        used += (size_t)sprintf(body + used, "%s\"N%zu\"", i ? "," : "", (i * 7 + number) % CANDIDATES);
    sprintf(body + used, "]%s}", extra);
    const struct http_request request = rank_post(body);
    send_request(bench, &request);
    assert_int_equal(bench->call.response.status, 200);
    assert_null(memmem(bench->call.response.body.data, bench->call.response.body.used, "reason", 6));
}

static void test_no_allocation(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    require(world_publish(&many, bench->store, BLOB_F32, bench->generation, &err), &err);
    bench->config.memory.preload = true;
    require(live_poll(bench->service.live, &err), &err);
    static const char *const extras[] = {"", ",\"top_k\":10", ",\"top_k\":999"};
    for (size_t i = 0; i < 100; i++) /* until each worker has had its turn */
        ask_for(bench, CANDIDATES, i, extras[i % 3]);
    for (size_t i = 0; i < 10; i++)
        ask_for(bench, SHORT, i, extras[i % 3]);
    json_decref(
        rank(bench, 200, "{\"user\":\"U1\",\"top_k\":10,\"titles\":true}")); /* leaves nothing behind */
    const size_t before = atomic_load(&allocations);
    for (size_t i = 0; i < REQUESTS; i++) {
        ask_for(bench, CANDIDATES, i, extras[i % 3]);
        assert_false(bench->at_once);
        ask_for(bench, SHORT, i, extras[i % 3]);
        assert_true(bench->at_once);
    }
    const size_t count = atomic_load(&allocations) - before;
    print_message(
        "%zu allocations in %d requests of %d and of %d candidates\n", count, REQUESTS, CANDIDATES, SHORT);
    assert_int_equal(count, 0);
    /* The count counts: a request that misses does allocate. */
    json_decref(rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"absent\"]}"));
    assert_true(atomic_load(&allocations) > before);
}

/* Nor does one that is logged, nor the thread that writes its line. */
static void test_no_allocation_for_the_log(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char path[300];
    snprintf(path, sizeof path, "%s/access.log", bench->folder);
    service_done(&bench->service);
    require(config_set(&bench->config, "log.access", path, &err), &err);
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    test_no_allocation(state);
    assert_true(access_lines(bench->service.access) > 0);
}
#endif

int main(void)
{
    if (!COUNTED) {
        puts("skipped: malloc is the sanitizer's");
        return 77;
    }
#if COUNTED
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_no_allocation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_allocation_for_the_log, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
