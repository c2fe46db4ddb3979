/* A category of the catalogue is ranked: exactly its contents, in both forms of a request, whatever comes and goes. */
#include "tests/server/bench.h"

static const char sports[] = "N7\nN3\nN11\nN3\nnever\nN20\n", news[] = "N1\nN2\nN3\n";

static void put_category(struct bench *bench, const char *name, const char *list)
{
    put(bench, STORE_CATEGORY, name, list, strlen(list));
}

static int setup_categories(void **state)
{
    const int code = setup(state);
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    service_done(&bench->service);
    put_category(bench, "sports", sports);
    put_category(bench, "world news", news);
    put_category(bench, "empty", "");
    put_category(bench, "damaged", "N4\n\nN 5\nN6\nN7");
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    return code;
}

/* The ranking is of these contents and no others, "N3 N7 " in any order; nothing is missing. */
static void check_contents(const json_t *answer, const char *user, const char *contents)
{
    const json_t *ranking = json_object_get(answer, "ranking");
    size_t count = 0;
    for (const char *at = contents; *at; at += strcspn(at, " ") + 1, count++) {
        bool found = false;
        for (size_t i = 0; i < json_array_size(ranking) && !found; i++) {
            const char *id = text_of(json_array_get(ranking, i), "id");
            found = strlen(id) == strcspn(at, " ") && memcmp(id, at, strlen(id)) == 0;
        }
        if (!found)
            fail_msg("%.*s is not in the ranking", (int)strcspn(at, " "), at);
    }
    check_ranking(ranking, &one, user, count);
    assert_int_equal(json_integer_value(json_object_get(answer, "missing_count")), 0);
}

static void check_body(struct bench *bench, const char *body, const char *contents)
{
    json_t *answer = rank(bench, 200, body);
    check_contents(answer, "U1", contents);
    json_decref(answer);
}

static void check_query(struct bench *bench, const char *query, const char *contents)
{
    json_t *answer = ask(bench, 200, "GET", "/rank", query, NULL);
    check_contents(answer, "U1", contents);
    json_decref(answer);
}

#define BODY(rest) "{\"user\":\"U1\",\"top_k\":1000," rest "}"

static void test_both_forms(void **state)
{
    struct bench *bench = *state;
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 ");
    check_body(bench, BODY("\"category\":\"world news\""), "N1 N2 N3 ");
    check_body(bench, BODY("\"category\":\"w\\u006frld news\""), "N1 N2 N3 ");
    check_body(bench, BODY("\"category\":\"empty\""), "");
    check_body(bench, BODY("\"category\":\"damaged\""), "N4 N6 "); /* what can be read */
    check_query(bench, "user=U1&top_k=10&category=sports", "N3 N7 N11 N20 ");
    check_query(bench, "user=U1&top_k=10&category=world%20news", "N1 N2 N3 ");
    check_query(bench, "category=empty&user=U1&top_k=10", "");
}

static void test_top_k_and_users(void **state)
{
    struct bench *bench = *state;
    json_t *all = rank(bench, 200, BODY("\"category\":\"sports\""));
    json_t *first = rank(bench, 200, "{\"user\":\"U1\",\"top_k\":2,\"category\":\"sports\"}");
    const json_t *ranking = json_object_get(first, "ranking");
    assert_int_equal(json_array_size(ranking), 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(
            json_equal(json_array_get(ranking, i), json_array_get(json_object_get(all, "ranking"), i)));
    json_decref(all);
    json_decref(first);
    json_t *several = rank(bench, 200, "{\"users\":[\"U0\",\"U2\"],\"top_k\":9,\"category\":\"sports\"}");
    const json_t *results = json_object_get(several, "results");
    check_ranking(json_object_get(json_array_get(results, 0), "ranking"), &one, "U0", 4);
    check_ranking(json_object_get(json_array_get(results, 1), "ranking"), &one, "U2", 4);
    json_decref(several);
}

/* The best of a category by int8 are those of float32, and an empty one has none. */
static void test_best_by_int8(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    static const char body[] = "{\"user\":\"U1\",\"top_k\":1,\"category\":\"sports\",\"exclude\":[\"N20\"]}";
    json_t *right = rank(bench, 200, body);
    service_done(&bench->service);
    require(config_set(&bench->config, "scoring.dtype", "float32+int8", &err), &err);
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    json_t *best = rank(bench, 200, body);
    assert_int_equal(json_array_size(json_object_get(best, "ranking")), 1);
    assert_true(json_equal(best, right));
    json_decref(best);
    json_decref(right);
    check_body(bench, BODY("\"category\":\"empty\""), "");
}

static void test_exclude(void **state)
{
    struct bench *bench = *state;
    check_body(bench, BODY("\"category\":\"sports\",\"exclude\":[\"N3\",\"N1\",\"nothing\"]"), "N7 N11 N20 ");
    check_body(bench, BODY("\"exclude\":[\"N3\",\"N7\",\"N20\",\"N11\"],\"category\":\"sports\""), "");
    check_query(bench, "user=U1&top_k=9&category=sports&exclude=N20,N11", "N3 N7 ");
}

static void test_unknown(void **state)
{
    struct bench *bench = *state;
    char message[128];
    snprintf(message, sizeof message, "no such category is in generation %s", bench->generation);
    check_message(bench, 404, BODY("\"category\":\"sport\""), message);
    check_message(bench, 404, BODY("\"category\":\"Sports\""), message);
    check_message(bench, 404, BODY("\"category\":\"N1\""), message);
    json_decref(ask(bench, 404, "GET", "/rank", "user=U1&top_k=1&category=sports%20", NULL));
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 "); /* and it goes on */
}

/* ---- changes ---- */

static void change(struct bench *bench, enum store_kind kind, const char *id)
{
    struct err err = ERR_INIT;
    note_change(bench, kind, id);
    require(live_poll(bench->service.live, &err), &err);
}

static void put_content(struct bench *bench, const char *id)
{
    float matrix[8 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    world_matrix(matrix, &one, 'c', id, one.n, one.d);
    put(bench, STORE_CONTENT, id, blob, encode(blob, bench, BLOB_CONTENT, id, matrix, one.n, one.d));
}

/* A content that a category has listed all along. */
static void test_content_came(void **state)
{
    struct bench *bench = *state;
    put_content(bench, "never");
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 ");
    change(bench, STORE_CONTENT, "never");
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 never ");
    check_body(bench, BODY("\"category\":\"world news\""), "N1 N2 N3 ");
}

static void test_category_changed(void **state)
{
    struct bench *bench = *state;
    put_category(bench, "sports", "N8\nN9\n");
    put_category(bench, "fresh", "N9\nN39\n");
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 "); /* nobody has said so */
    change(bench, STORE_CATEGORY, "sports");
    check_body(bench, BODY("\"category\":\"sports\""), "N8 N9 ");
    check_body(bench, BODY("\"category\":\"fresh\""), "N9 N39 ");
    check_body(bench, BODY("\"category\":\"world news\""), "N1 N2 N3 ");
}

/* The store has no call that deletes one key: the catalogue that is left then stands in. */
static void test_content_went(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    struct live_generation *generation = live_acquire(bench->service.live);
    const struct catalogue *catalogue = generation->catalogue;
    struct catalogue_change gone[] = {{{"N3", 2}, false}};
    struct catalogue *without = NULL;
    struct category_index *index = NULL;
    const struct store_id names[] = {{"sports", 6}, {"world news", 10}};
    require(catalogue_apply(&without, catalogue, gone, 1, &err), &err);
    require(
        category_index_read(&index, bench->service.watcher->link, bench->generation, without, &err), &err);
    catalogue_release(without); /* the index holds it */
    assert_int_equal(category_index_find(index, &names[0])->count, 3);
    const struct catalogue *news_left = category_index_find(index, &names[1]);
    assert_int_equal(news_left->count, 2);
    assert_memory_equal(news_left->ids[0].id, "N1", 2);
    assert_memory_equal(news_left->ids[1].id, "N2", 2);
    category_index_free(index);
    live_release(generation);
}

/* Another generation has categories of its own, here none. */
static void test_switch(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    struct world two = one;
    two.seed = 2;
    check_body(bench, BODY("\"category\":\"sports\""), "N3 N7 N11 N20 ");
    require(world_publish(&two, bench->store, BLOB_F32, bench->generation, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    json_decref(rank(bench, 404, BODY("\"category\":\"sports\"")));
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_categories, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_both_forms),
        TEST(test_top_k_and_users),
        TEST(test_best_by_int8),
        TEST(test_exclude),
        TEST(test_unknown),
        TEST(test_content_came),
        TEST(test_category_changed),
        TEST(test_content_went),
        TEST(test_switch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
