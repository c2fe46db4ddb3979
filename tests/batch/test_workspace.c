/* Tokens on demand and all at once; the hash of what a matrix is computed from. */
#include "batch/token_cache.h"
#include "batch/workspace.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY "tests/golden/tiny/"

static char dir[256];

static void open_tiny(struct workspace *w, const char *news, const char *behaviors)
{
    const struct workspace_options options = {
        .model = TINY, .news = news, .behaviors = behaviors, .rows.quiet = true};
    struct err err = ERR_INIT;
    if (workspace_open(w, &options, &err) < 0)
        fail_msg("%s", err.message);
}

/* ---- tokens ---- */

struct reader {
    const struct workspace *w;
    uint64_t seed;
    atomic_size_t wrong;
};

static void *read_tokens(void *argument)
{
    struct reader *reader = argument;
    const struct workspace *w = reader->w;
    struct workspace_scratch scratch = {0};
    struct rng rng = rng_seed(reader->seed, 0);
    int32_t *ids = malloc(text_item_max(&w->model->config) * sizeof *ids);
    for (size_t i = 0; ids && i < 3 * w->news.ids.count; i++) {
        const size_t index = (size_t)(rng_next(&rng) % w->news.ids.count);
        const struct encode_item right = workspace_item(w, index);
        size_t count = 0;
        reader->wrong += workspace_tokens(w, index, ids, &count, &scratch, NULL) < 0 ||
                         count != right.count || memcmp(ids, right.ids, count * sizeof *ids) != 0;
    }
    reader->wrong += !ids;
    free(ids);
    workspace_scratch_done(&scratch);
    return NULL;
}

/* By threads at once, out of caches of all sizes: none at all, of one slot, of fewer slots than items, of enough. */
static void test_tokens(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct workspace w;
    struct err err = ERR_INIT;
    open_tiny(&w, TINY "news.tsv", TINY "behaviors.tsv");
    assert_int_equal(workspace_tokenise_all(&w, true, &err), 0);
    const size_t most = text_item_max(&w.model->config), slot = (most + 2) * sizeof(int32_t);
    const size_t bytes[] = {0, slot - 1, slot, 7 * slot, 1000 * slot};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        struct reader reader = {.w = &w, .seed = i};
        pthread_t threads[THREADS];
        token_cache_free(w.cache);
        assert_int_equal(token_cache_new(&w.cache, w.news.ids.count, most, bytes[i], &err), 0);
        for (size_t t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, read_tokens, &reader), 0);
        for (size_t t = 0; t < THREADS; t++)
            pthread_join(threads[t], NULL);
        assert_int_equal(reader.wrong, 0);
    }
    workspace_close(&w);
}

static void test_cache(void **state)
{
    (void)state;
    struct token_cache *cache;
    struct err err = ERR_INIT;
    const int32_t put[3] = {7, 8, 9};
    int32_t got[3] = {0};
    size_t count = 0;
    assert_int_equal(token_cache_new(&cache, 100, 3, 10 * 5 * sizeof(int32_t), &err), 0); /* ten slots */
    assert_false(token_cache_get(cache, 0, got, &count));
    token_cache_put(cache, 4, put, 3);
    assert_false(token_cache_get(cache, 14, got, &count)); /* of the same slot */
    assert_true(token_cache_get(cache, 4, got, &count));
    assert_int_equal(count, 3);
    assert_memory_equal(got, put, sizeof put);
    token_cache_put(cache, 14, put + 1, 2);
    assert_false(token_cache_get(cache, 4, got, &count));
    assert_true(token_cache_get(cache, 14, got, &count));
    assert_int_equal(count, 2);
    assert_memory_equal(got, put + 1, 2 * sizeof *put);
    token_cache_free(cache);
    token_cache_free(NULL);
}

/* An item that is in the cache is not read again; one that is not, and is no longer what it was, is an error. */
static void test_file_changes(void **state)
{
    (void)state;
    static const char text[] = "N1\ta\tb\tc\td\te\tf\tg\nN2\ta\tb\tc\td\te\tf\tg\n";
    struct workspace w;
    struct workspace_scratch scratch = {0};
    struct err err = ERR_INIT;
    char path[512];
    size_t count;
    snprintf(path, sizeof path, "%s", scratch_write(dir, "news.tsv", text, strlen(text)));
    open_tiny(&w, path, NULL);
    int32_t *ids = malloc(text_item_max(&w.model->config) * sizeof *ids);
    assert_int_equal(workspace_tokens(&w, 0, ids, &count, &scratch, &err), 0);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(workspace_tokens(&w, 0, ids, &count, &scratch, &err), 0);
    assert_int_equal(workspace_tokens(&w, 1, ids, &count, &scratch, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "news.tsv:2: "));
    assert_int_equal(workspace_tokenise_all(&w, true, &err), -ERR_CORRUPT);
    free(ids);
    workspace_scratch_done(&scratch);
    workspace_close(&w);
}

/* ---- the window ---- */

/* What is kept of a history is enough, and begins where the whole history's window does. */
static void test_window(void **state)
{
    (void)state;
    enum { LONGEST = 200 };
    char *text, news[LONGEST * 32] = "";
    size_t len, used = 0;
    FILE *out = open_memstream(&text, &len);
    for (size_t i = 0; i < LONGEST; i++)
        used += (size_t)sprintf(news + used, "N%zu\ta\tb\tc\td\te\tf\tg\n", i);
    for (size_t u = 0; u <= LONGEST; u++) {
        fprintf(out, "1\tU%zu\t\t", u);
        for (size_t i = 0; i < u; i++)
            fprintf(out, "N%zu gone ", i);
        fprintf(out, "\tN1\n");
    }
    fclose(out);
    char path[512];
    struct workspace w;
    snprintf(path, sizeof path, "%s", scratch_write(dir, "news.tsv", news, used));
    open_tiny(&w, path, scratch_write(dir, "b.tsv", text, len));
    free(text);
    for (size_t u = 0; u <= LONGEST; u++) {
        const size_t start = text_window_start(&w.model->config, u);
        size_t count;
        const uint32_t *items = workspace_window(&w, u, &count);
        assert_int_equal(count, u - start);
        assert_true(count <= w.model->config.max_items);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(items[i], start + i);
    }
    size_t count;
    assert_null(workspace_window(&w, LONGEST + 1, &count));
    assert_int_equal(count, 0);
    workspace_close(&w);
}

/* ---- inputs ---- */

enum { ITEMS = 3, READERS = 5 };

struct inputs {
    uint64_t model, content[ITEMS], user[READERS + 1];
};

static struct inputs inputs_of(const char *news, const char *behaviors)
{
    struct workspace w;
    struct inputs inputs;
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_write(dir, "news.tsv", news, strlen(news)));
    open_tiny(&w, path, scratch_write(dir, "b.tsv", behaviors, strlen(behaviors)));
    assert_int_equal(w.news.ids.count, ITEMS);
    assert_int_equal(w.histories.users.count, READERS);
    inputs.model = w.model_hash;
    for (size_t i = 0; i < ITEMS; i++) { /* by the ids' numbers, whatever their order in the file */
        const char id[] = {'N', (char)('1' + i)};
        inputs.content[i] = workspace_content_inputs(&w, (size_t)id_map_find(&w.news.ids, id, 2));
    }
    for (size_t i = 0; i < READERS; i++) {
        const char id[] = {'U', (char)('1' + i)};
        inputs.user[i] = workspace_user_inputs(&w, (size_t)id_map_find(&w.histories.users, id, 2));
    }
    inputs.user[READERS] = workspace_user_inputs(&w, READERS);
    workspace_close(&w);
    return inputs;
}

static void test_inputs(void **state)
{
    (void)state;
    static const char news[] =
        "N1\ta\tb\tone\td\te\tf\tg\nN2\ta\tb\ttwo\td\te\tf\tg\nN3\ta\tb\tthree\td\te\tf\tg\n";
    static const char readers[] = "1\tU1\t\tN1 N2\tN1\n2\tU2\t\tN2 N1\tN1\n3\tU3\t\tN1\tN1\n4\tU4\t\t\tN1\n"
                                  "5\tU5\t\tN3 N3\tN1\n";
    const struct inputs before = inputs_of(news, readers);
    for (size_t i = 0; i < ITEMS + READERS;
         i++) /* all differ, but for the user without a history and the default one */
        for (size_t k = i + 1; k < ITEMS + READERS; k++)
            assert_true((i < ITEMS ? before.content[i] : before.user[i - ITEMS]) !=
                        (k < ITEMS ? before.content[k] : before.user[k - ITEMS]));
    assert_true(before.user[3] == before.user[READERS]);
    assert_true(before.content[0] && before.user[READERS]);

    /* The order of rows, urls, entities, times, candidates and ids that have no text change nothing. */
    struct inputs after =
        inputs_of("N3\ta\tb\tthree\td\te2\tf\tg\n\nN2\ta\tb\ttwo\td\te\tf2\tg\nN1\ta\tb\tone\td\te\tf\tg2\n",
            "5\tU5\tnow\tN3 N9 N3\tN1\n4\tU4\t\tN9\tN1\n3\tU3\t\tN1\tN2\n2\tU2\t\tN2 N1\tN1\n9\tU1\t\tN1 "
            "N2\tN3\n");
    assert_memory_equal(&after, &before, sizeof before);

    /* A text that changed, changes itself and its readers. */
    after = inputs_of(
        "N1\ta\tb\tone\td\te\tf\tg\nN2\ta\tb\ttwo!\td\te\tf\tg\nN3\ta\tb\tthree\td\te\tf\tg\n", readers);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(after.content[i] != before.content[i], i == 1);
    for (size_t i = 0; i <= READERS; i++)
        assert_int_equal(after.user[i] != before.user[i], i == 0 || i == 1);
}

/* Where sessions begin decides, not what is no longer used: a click less in front of the window that moves its items to
 * other sessions is another input, because the window is another one. */
static void test_inputs_of_long(void **state)
{
    (void)state;
    struct workspace w;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const char *news = "N1\ta\tb\tone\td\te\tf\tg\n";
    open_tiny(&w, TINY "news.tsv", NULL);
    const size_t most = w.model->config.max_items, session = model_session_size(&w.model->config);
    workspace_close(&w);
    assert_true(session > 1);
    for (size_t user = 0; user <= 2 * session; user++) {
        fprintf(out, "1\tU%zu\t\t", user);
        for (size_t i = 0; i < most + user; i++)
            fprintf(out, "N1 ");
        fprintf(out, "\tN1\n");
    }
    fclose(out);
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_write(dir, "news.tsv", news, strlen(news)));
    open_tiny(&w, path, scratch_write(dir, "b.tsv", text, len));
    free(text);
    for (size_t user = 0; user < session; user++) {
        const uint64_t inputs = workspace_user_inputs(&w, user);
        assert_true(
            inputs == workspace_user_inputs(&w, user + session)); /* the same items in the same sessions */
        for (size_t other = user + 1; other < session; other++) {
            size_t a, b;
            workspace_window(&w, user, &a);
            workspace_window(&w, other, &b);
            assert_int_equal(inputs == workspace_user_inputs(&w, other), a == b);
        }
    }
    workspace_close(&w);
}

static void test_model_counts(void **state)
{
    (void)state;
    struct workspace w;
    open_tiny(&w, TINY "news.tsv", TINY "behaviors.tsv");
    const uint64_t content = workspace_content_inputs(&w, 0), user = workspace_user_inputs(&w, 0);
    w.model_hash ^= 1;
    assert_true(workspace_content_inputs(&w, 0) != content);
    assert_true(workspace_user_inputs(&w, 0) != user);
    workspace_close(&w);
}

/* ---- quarantine ---- */

static void test_quarantine(void **state)
{
    (void)state;
    static const char text[] = "N1\ta\tb\tc\td\te\tf\tg\nN2\tbad\n", readers[] = "1\tU1\t\tN1\tN1\nworse\n";
    struct workspace w;
    struct err err = ERR_INIT;
    char news[512], behaviors[512], kept[512], wanted[2048], *data;
    size_t len;
    snprintf(news, sizeof news, "%s", scratch_write(dir, "news.tsv", text, strlen(text)));
    snprintf(behaviors, sizeof behaviors, "%s", scratch_write(dir, "b.tsv", readers, strlen(readers)));
    snprintf(kept, sizeof kept, "%s/kept.tsv", dir);
    snprintf(wanted, sizeof wanted,
        "%s\t2\t2 columns instead of 8\tN2\tbad\n%s\t2\t1 columns instead of 5\tworse\n", news, behaviors);
    struct workspace_options options = {.model = TINY,
        .news = news,
        .behaviors = behaviors,
        .rows = {.max_bad = {.rows = 1}, .quiet = true},
        .quarantine = kept};
    for (int allowed = 1; allowed >= 0; allowed--) {
        options.rows.max_bad.rows = (size_t)allowed;
        assert_int_equal(workspace_open(&w, &options, &err), allowed ? 0 : -ERR_INVALID);
        if (allowed)
            workspace_close(&w);
        else /* the news failed: nothing behind them was read */
            *(strchr(wanted, '\n') + 1) = '\0';
        assert_int_equal(file_read(&data, &len, kept, 1 << 20, NULL), 0);
        assert_string_equal(data, wanted);
        free(data);
    }
    options.quarantine = behaviors;
    assert_int_equal(workspace_open(&w, &options, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "is to be read"));
    options.quarantine = news;
    assert_int_equal(workspace_open(&w, &options, &err), -ERR_INVALID);
    options.quarantine = "/nonexistent/file";
    assert_int_equal(workspace_open(&w, &options, &err), -ERR_NOT_FOUND);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens), cmocka_unit_test(test_cache),
        cmocka_unit_test(test_file_changes), cmocka_unit_test(test_window), cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_inputs_of_long), cmocka_unit_test(test_model_counts),
        cmocka_unit_test(test_quarantine)};
    return cmocka_run_group_tests_name("workspace", tests, setup, teardown);
}
