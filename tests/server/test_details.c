/* What an answer says beside the numbers: titles in every form of a request, what codes look at, a content's page; and all of
 * it while the store is away or slow. */
#include "core/gemm.h"
#include "tests/server/bench.h"

static const char *title_of(size_t i)
{
    static char text[64];
    return world_title(text, sizeof text, i) ? text : "(none)";
}

/* Each item has the title of its content, or none. Returns how many have one. */
static size_t check_titles(const json_t *ranking)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(ranking); i++) {
        const json_t *item = json_array_get(ranking, i);
        const size_t content = strtoul(text_of(item, "id") + 1, NULL, 10);
        assert_string_equal(text_of(item, "title"), title_of(content));
        count += json_object_get(item, "title") != NULL;
    }
    return count;
}

/* The same but for the titles. */
static void check_same(const json_t *titled, const json_t *plain)
{
    json_t *bare = json_deep_copy(titled);
    for (size_t i = 0; i < json_array_size(bare); i++)
        json_object_del(json_array_get(bare, i), "title");
    assert_true(json_equal(bare, plain));
    json_decref(bare);
}

static void test_titles(void **state)
{
    struct bench *bench = *state;
    static const char *const ends[] = {"", ",\"titles\":false", ",\"titles\":true"};
    json_t *answers[3];
    for (size_t i = 0; i < 3; i++) {
        char body[200];
        snprintf(body, sizeof body, "{\"user\":\"U1\",\"candidates\":[\"N5\",\"N1\",\"X\",\"N3\",\"N4\"]%s}",
            ends[i]);
        answers[i] = rank(bench, 200, body);
        check_ranking(json_object_get(answers[i], "ranking"), &one, "U1", 4);
        assert_null(json_object_get(answers[i], "degraded"));
    }
    assert_true(json_equal(answers[0], answers[1]));
    assert_null(json_object_get(json_array_get(json_object_get(answers[0], "ranking"), 0), "title"));
    assert_int_equal(check_titles(json_object_get(answers[2], "ranking")), 3);
    check_same(json_object_get(answers[2], "ranking"), json_object_get(answers[0], "ranking"));
    json_t *get = ask(bench, 200, "GET", "/rank", "user=U1&candidates=N5,N1,X,N3,N4&titles=true", NULL);
    assert_true(json_equal(get, answers[2]));
    json_decref(get);
    for (size_t i = 0; i < 3; i++)
        json_decref(answers[i]);
    json_decref(ask(bench, 400, "GET", "/rank", "user=U1&candidates=N5&titles=yes", NULL));
    check_message(bench, 400, "{\"user\":\"U1\",\"candidates\":[],\"titles\":1}",
        "titles: true or false is expected, not a number");
    json_t *empty = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[],\"titles\":true}");
    assert_int_equal(json_array_size(json_object_get(empty, "ranking")), 0);
    json_decref(empty);
}

static void test_several(void **state)
{
    struct bench *bench = *state;
    json_t *answer = rank(bench, 200,
        "{\"users\":[\"U0\",\"nobody\",\"U1\"],\"candidates\":[\"N0\",\"N1\",\"N2\",\"N3\",\"N4\"],\"top_k\":"
        "3,\"titles\":true}");
    const json_t *results = json_object_get(answer, "results");
    static const char *const whose[] = {"U0", "", "U1"};
    for (size_t u = 0; u < 3; u++) {
        const json_t *ranking = json_object_get(json_array_get(results, u), "ranking");
        check_ranking(ranking, &one, whose[u], 3);
        check_titles(ranking);
    }
    json_decref(answer);
}

static void test_catalogue(void **state)
{
    struct bench *bench = *state;
    json_t *answer =
        rank(bench, 200, "{\"user\":\"U2\",\"top_k\":12,\"exclude\":[\"N0\",\"N7\"],\"titles\":true}");
    check_ranking(json_object_get(answer, "ranking"), &one, "U2", 12);
    assert_in_range(check_titles(json_object_get(answer, "ranking")), 1, 12);
    json_decref(answer);
    answer = rank(bench, 200, "{\"users\":[\"U2\",\"U3\"],\"top_k\":40,\"titles\":true}");
    for (size_t u = 0; u < 2; u++)
        assert_int_equal(
            check_titles(json_object_get(json_array_get(json_object_get(answer, "results"), u), "ranking")),
            27);
    json_decref(answer);
}

/* What is no title is shown to nobody. */
static void test_bad_titles(void **state)
{
    struct bench *bench = *state;
    char longer[STORE_TITLE_MAX + 1];
    memset(longer, 'x', sizeof longer);
    put(bench, STORE_TITLE, "N0", "a\xFF", 2);
    put(bench, STORE_TITLE, "N1", "", 0);
    put(bench, STORE_TITLE, "N3", longer, sizeof longer);
    put(bench, STORE_TITLE, "N4", longer, sizeof longer - 1);
    json_t *answer =
        rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N0\",\"N1\",\"N3\",\"N4\"],\"titles\":true}");
    const json_t *ranking = json_object_get(answer, "ranking");
    for (size_t i = 0; i < 4; i++) {
        const json_t *item = json_array_get(ranking, i), *title = json_object_get(item, "title");
        assert_int_equal(
            json_string_length(title), strcmp(text_of(item, "id"), "N4") == 0 ? STORE_TITLE_MAX : 0);
        assert_true(!title == (strcmp(text_of(item, "id"), "N4") != 0));
    }
    json_decref(answer);
}

/* ---- explanations ---- */

/* One list a code, so that whatever is shown tells which code it is of: a user's code 2 looks at items "N2" and the summary,
 * a content's code 1 at "N3 token 1". */
static void put_whys(struct bench *bench)
{
    static const char *const users[] = {"", "U1"};
    char id[16], text[1024];
    for (size_t u = 0; u < 2; u++) {
        size_t used = (size_t)sprintf(text, "{\"codes\":[");
        for (size_t code = 0; code < one.m; code++)
            used += (size_t)sprintf(text + used, "%s[[\"N%zu\",0.5],[\"%s\",0.25],[\"gone\",0.125]]",
                code ? "," : "", code + u * 10, "");
        sprintf(text + used, "]}");
        snprintf(id, sizeof id, "u:%s", users[u]);
        put(bench, STORE_WHY, id, text, strlen(text));
    }
    for (size_t c = 0; c < 8; c++) {
        size_t used = (size_t)sprintf(text, "{\"codes\":[");
        for (size_t code = 0; code < one.n; code++)
            used += (size_t)sprintf(
                text + used, "%s[[\"N%zu token %zu\",0.75],[\"</s>\",0.0625]]", code ? "," : "", c, code);
        sprintf(text + used, "]}");
        snprintf(id, sizeof id, "c:N%zu", c);
        put(bench, STORE_WHY, id, text, strlen(text));
    }
}

static void check_look(const json_t *look, const char *key, const char *name, double weight)
{
    assert_string_equal(text_of(look, key), name);
    assert_true(json_number_value(json_object_get(look, "weight")) == weight);
}

/* Every pair's items are those of its user code, its tokens those of its content code. */
static void check_pairs(const json_t *item, size_t first_item)
{
    const json_t *pairs = json_object_get(item, "top_pairs");
    assert_int_equal(json_array_size(pairs), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *pair = json_array_get(pairs, i), *items = json_object_get(pair, "items"),
                     *tokens = json_object_get(pair, "tokens");
        const size_t looked = first_item + (size_t)json_integer_value(json_object_get(pair, "user_code"));
        char name[64];
        assert_int_equal(json_array_size(items), 3);
        snprintf(name, sizeof name, "N%zu", looked);
        check_look(json_array_get(items, 0), "id", name, 0.5);
        assert_string_equal(text_of(json_array_get(items, 0), "title"), title_of(looked));
        check_look(json_array_get(items, 1), "id", "", 0.25);
        assert_null(json_object_get(json_array_get(items, 1), "title"));
        check_look(json_array_get(items, 2), "id", "gone", 0.125);
        assert_null(json_object_get(json_array_get(items, 2), "title"));
        assert_int_equal(json_array_size(tokens), 2);
        snprintf(name, sizeof name, "%s token %lld", text_of(item, "id"),
            (long long)json_integer_value(json_object_get(pair, "content_code")));
        check_look(json_array_get(tokens, 0), "text", name, 0.75);
        check_look(json_array_get(tokens, 1), "text", "</s>", 0.0625);
    }
}

static void test_explain(void **state)
{
    struct bench *bench = *state;
    static const char body[] =
        "{\"users\":[\"U1\",\"nobody\",\"U2\"],\"candidates\":[\"N1\",\"N2\",\"N3\"],\"explain\":true}";
    json_t *before = rank(bench, 200, body); /* a generation that has none */
    assert_null(
        memmem(bench->call.response.body.data, bench->call.response.body.used, "items", strlen("items")));
    put_whys(bench);
    json_t *answer = rank(bench, 200, body);
    const json_t *results = json_object_get(answer, "results");
    for (size_t u = 0; u < 3; u++) {
        const json_t *ranking = json_object_get(json_array_get(results, u), "ranking");
        check_ranking(ranking, &one, u == 0 ? "U1" : u == 1 ? "" : "U2", 3);
        for (size_t i = 0; i < 3; i++) {
            const json_t *item = json_array_get(ranking, i);
            assert_null(json_object_get(item, "title"));
            if (u < 2)
                check_pairs(item, u == 0 ? 10 : 0); /* nobody is the default user */
            else
                assert_null(json_object_get(json_array_get(json_object_get(item, "top_pairs"), 0), "items"));
        }
    }
    json_decref(before);
    json_decref(answer);
    answer = rank(bench, 200, "{\"user\":\"U1\",\"top_k\":3,\"explain\":true,\"titles\":true}");
    check_titles(json_object_get(answer, "ranking"));
    json_decref(answer);
}

/* Of other shapes than the generation's, or none at all: as if they were not there. */
static void test_bad_whys(void **state)
{
    struct bench *bench = *state;
    static const char *const texts[] = {
        "", "{", "{\"codes\":[[]]}", "{\"codes\":[[[\"N1\",1]],[],[],[],[],[]]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(bench, STORE_WHY, "u:U1", texts[i], strlen(texts[i]));
        put(bench, STORE_WHY, "c:N1", texts[i], strlen(texts[i]));
        json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\"],\"explain\":true}");
        const json_t *item = json_array_get(json_object_get(answer, "ranking"), 0),
                     *pair = json_array_get(json_object_get(item, "top_pairs"), 0);
        assert_null(json_object_get(answer, "degraded"));
        assert_non_null(json_object_get(pair, "user_code"));
        assert_null(json_object_get(pair, "items"));
        assert_null(json_object_get(pair, "tokens"));
        json_decref(answer);
    }
}

/* ---- the store is away ---- */

static const char
    plain[] = "{\"user\":\"U1\",\"candidates\":[\"N0\",\"N1\",\"N2\"]}",
    titled[] = "{\"user\":\"U1\",\"candidates\":[\"N0\",\"N1\",\"N2\"],\"titles\":true,\"explain\":false}",
    explained[] = "{\"user\":\"U1\",\"candidates\":[\"N0\",\"N1\",\"N2\"],\"titles\":true,\"explain\":true}";

static void check_without(struct bench *bench, const json_t *right)
{
    json_t *answer;
    const struct writer *text = &bench->call.response.body;
    assert_int_equal(bench->call.response.status, 200);
    answer = json_loadb(text->data, text->used, 0, NULL);
    assert_true(contains(json_object_get(answer, "degraded"), "store_unavailable"));
    check_ranking(json_object_get(answer, "ranking"), &one, "U1", 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_array_get(json_object_get(answer, "ranking"), i);
        assert_null(json_object_get(item, "title"));
        assert_string_equal(
            text_of(item, "id"), text_of(json_array_get(json_object_get(right, "ranking"), i), "id"));
    }
    json_decref(answer);
}

/* Open, and no probe due for a second. */
static void fail_breaker(struct bench *bench)
{
    for (int i = 0; i < BREAKER_FAILURES; i++)
        breaker_failed(&bench->service.breaker, "the test");
}

static void test_away(void **state)
{
    struct bench *bench = *state;
    json_t *right = rank(bench, 200, plain); /* which is hot from now on */
    static const char *const bodies[] = {titled, explained};
    for (size_t i = 0; i < 2; i++) {
        const struct http_request request = rank_post(bodies[i]);
        fail_breaker(bench);
        send_request(bench, &request);
        check_without(bench, right);
    }
    fail_breaker(bench);
    json_decref(ask(bench, 503, "GET", "/contents/N1", NULL, NULL));
    breaker_succeeded(&bench->service.breaker);
    json_t *answer = rank(bench, 200, titled);
    assert_null(json_object_get(answer, "degraded"));
    assert_int_equal(check_titles(json_object_get(answer, "ranking")), 2);
    json_decref(answer);
    json_decref(right);
}

struct blocker {
    struct pool_task task;
    sem_t begun, end;
};

static void block(struct pool_task *task, struct worker *worker)
{
    struct blocker *blocker = POOL_OWNER(task, struct blocker, task);
    (void)worker;
    sem_post(&blocker->begun);
    while (sem_wait(&blocker->end) < 0)
        ;
}

/* No reader comes before the time is over: the ranking goes out then, and what comes later finds nobody. */
static void test_slow(void **state)
{
    struct bench *bench = *state;
    const size_t count = bench->service.reader_count;
    struct blocker *blockers = calloc(count, sizeof *blockers);
    json_t *right = rank(bench, 200, plain);
    assert_non_null(blockers);
    for (size_t i = 0; i < count; i++) {
        sem_init(&blockers[i].begun, 0, 0);
        sem_init(&blockers[i].end, 0, 0);
        blockers[i].task.run = block;
        pool_put(bench->service.reader_pool, &blockers[i].task);
        while (sem_wait(&blockers[i].begun) < 0)
            ;
    }
    struct http_request request = rank_post(titled);
    request.timeout_ms = 700;
    const uint64_t start = clock_ns();
    send_request(bench, &request);
    assert_in_range((clock_ns() - start) / 1000000, 650, 30000);
    check_without(bench, right);
    for (size_t i = 0; i < count; i++)
        sem_post(&blockers[i].end);
    json_t *answer = rank(bench, 200, titled);
    assert_int_equal(check_titles(json_object_get(answer, "ranking")), 2);
    json_decref(answer);
    json_decref(right);
    for (size_t i = 0; i < count; i++) {
        sem_destroy(&blockers[i].begun);
        sem_destroy(&blockers[i].end);
    }
    free(blockers);
}

/* ---- a content's page ---- */

static void test_content(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    static const char list[] = "N3\nN4\n";
    json_t *answer = ask(bench, 200, "GET", "/contents/%4E3", NULL, NULL);
    assert_string_equal(text_of(answer, "content"), "N3");
    assert_string_equal(text_of(answer, "generation"), bench->generation);
    assert_string_equal(text_of(answer, "title"), title_of(3));
    assert_int_equal(json_array_size(json_object_get(answer, "categories")), 0);
    assert_int_equal(json_integer_value(json_object_get(answer, "n")), one.n);
    assert_int_equal(json_integer_value(json_object_get(answer, "d")), one.d);
    assert_in_range(json_integer_value(json_object_get(answer, "age_s")), 0, 600);
    assert_int_equal(json_object_size(answer), 7);
    json_decref(answer);
    answer = ask(bench, 200, "GET", "/contents/N2", NULL, NULL);
    assert_true(json_is_null(json_object_get(answer, "title")));
    json_decref(answer);

    put(bench, STORE_CATEGORY, "sports", list, strlen(list));
    put(bench, STORE_CATEGORY, "art & \"craft\"", list, 3);
    note_change(bench, STORE_CATEGORY, "sports");
    require(live_poll(bench->service.live, &err), &err);
    answer = ask(bench, 200, "GET", "/contents/N3", NULL, NULL);
    json_t *both = json_pack("[s, s]", "art & \"craft\"", "sports");
    assert_true(json_equal(json_object_get(answer, "categories"), both));
    json_decref(both);
    json_decref(answer);
    answer = ask(bench, 200, "GET", "/contents/N4", NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(answer, "categories")), 1);
    json_decref(answer);

    put(bench, STORE_CONTENT, "N5", "EMBS", 4);
    static const struct {
        unsigned status;
        const char *method, *path;
    } rows[] = {{404, "GET", "/contents/nothing"}, {404, "GET", "/contents/"}, {404, "GET", "/contents"},
        {400, "GET", "/contents/%zz"}, {400, "GET", "/contents/a%20b"}, {405, "POST", "/contents/N1"},
        {503, "GET", "/contents/N5"}, {200, "HEAD", "/contents/N1"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_decref(ask(bench, rows[i].status, rows[i].method, rows[i].path, NULL, NULL));
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_titles),
        TEST(test_several),
        TEST(test_catalogue),
        TEST(test_bad_titles),
        TEST(test_explain),
        TEST(test_bad_whys),
        TEST(test_away),
        TEST(test_slow),
        TEST(test_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
