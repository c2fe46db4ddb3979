/* Memory that runs out while files are read: models, vocabularies, configuration, texts, matrices. */
#include "batch/exchange.h"
#include "batch/mind.h"
#include "batch/workspace.h"
#include "config/config.h"
#include "core/encode.h"
#include "core/file.h"
#include "core/gemm.h"
#include "tests/faults/nomem.h"

#include <stdlib.h>
#include <string.h>

#define TINY "tests/golden/tiny/"

static char folder[256];

static void *grown(void *memory)
{
    assert_non_null(memory);
    return memory;
}

/* ---- config.json of a model ---- */

static char *config_text;
static size_t config_len;
static struct model_config model_config;

static int parse_model_config(struct err *err)
{
    return model_config_parse(&model_config, config_text, config_len, err);
}

static void model_config_parsed(int code)
{
    assert_true(code < 0 || model_config.d_model == 32);
}

static void test_model_config(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "model's config", .run = parse_model_config, .verify = model_config_parsed};
    struct err err = ERR_INIT;
    nomem_require(file_read(&config_text, &config_len, TINY "config.json", 1 << 20, &err), &err);
    nomem_test(&s);
    free(config_text);
}

/* ---- model.safetensors ---- */

static struct model *model;

static int load_model(struct err *err)
{
    return model_load(&model, TINY, NULL, err);
}

static void model_loaded(int code)
{
    assert_true(code < 0 || model->param_count > 30000);
    model_free(code < 0 ? NULL : model);
}

static void test_model_load(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "load a model", .run = load_model, .verify = model_loaded};
    nomem_test(&s);
}

/* A model that is there already stays whole when it cannot be written. */
static int save_model(struct err *err)
{
    return model_save(model, folder, err);
}

static void model_saved(int code)
{
    (void)code;
    struct err err = ERR_INIT;
    struct model *again;
    nomem_require(model_load(&again, folder, NULL, &err), &err);
    assert_memory_equal(&again->config, &model->config, sizeof again->config);
    assert_int_equal(again->param_count, model->param_count);
    assert_memory_equal(again->params, model->params, model->param_count * sizeof *model->params);
    model_free(again);
}

static void test_model_save(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "save a model", .run = save_model, .verify = model_saved};
    struct err err = ERR_INIT;
    nomem_require(model_load(&model, TINY, NULL, &err), &err);
    nomem_require(model_save(model, folder, &err), &err);
    nomem_test(&s);
    model_free(model);
}

/* ---- spiece.model ---- */

static struct tokenizer *tokenizer;

static int load_tokenizer(struct err *err)
{
    return tokenizer_load(&tokenizer, TINY "spiece.model", err);
}

static void tokenizer_loaded(int code)
{
    assert_true(code < 0 || tokenizer_pieces(tokenizer) > 200);
    tokenizer_free(code < 0 ? NULL : tokenizer);
}

static void test_tokenizer_load(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "load a tokenizer", .run = load_tokenizer, .verify = tokenizer_loaded};
    nomem_test(&s);
}

static const char text[] = "Olive growers won over the critics \xC3\xA9\xE2\x82\xAC on a Tuesday.";
static int32_t ids[256], right_ids[256];
static size_t id_count, right_count;
static char *decoded;

static int tokenize(struct err *err)
{
    memset(ids, 0, sizeof ids);
    decoded = NULL;
    const int code = tokenizer_encode(tokenizer, text, strlen(text), ids, 256, &id_count, err);
    return code < 0 ? code : tokenizer_decode(tokenizer, ids, id_count, &decoded, err);
}

static void tokenized(int code)
{
    if (code == 0) {
        assert_int_equal(id_count, right_count);
        assert_memory_equal(ids, right_ids, sizeof ids);
        assert_non_null(strstr(decoded, "growers"));
    }
    free(decoded);
}

static void test_tokenize(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "tokenize", .run = tokenize, .verify = tokenized};
    struct err err = ERR_INIT;
    nomem_require(load_tokenizer(&err), &err);
    nomem_require(tokenizer_encode(tokenizer, text, strlen(text), right_ids, 256, &right_count, &err), &err);
    nomem_test(&s);
    tokenizer_free(tokenizer);
}

/* ---- the daemon's configuration ---- */

static struct config config;

static int load_config(struct err *err)
{
    return config_load(&config, "config/embsum.json", err);
}

static void config_loaded(int code)
{
    /* A call that fails leaves it as it was. */
    assert_int_equal(config.rank.candidates_max, code < 0 ? 77 : 10000);
    config.rank.candidates_max = 77;
}

static void test_config(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "the daemon's config", .run = load_config, .verify = config_loaded};
    config_init(&config);
    config.rank.candidates_max = 77;
    nomem_test(&s);
}

/* ---- texts ---- */

static struct news news;
static struct histories histories;

/* Read the first text, too. */
static int read_texts(struct err *err)
{
    static const struct tsv_options options = {.quiet = true};
    struct news_text first = {0};
    int code = news_load(&news, TINY "news.tsv", &options, err);
    if (code < 0)
        return code;
    code = histories_load(&histories, TINY "behaviors.tsv", &news, 60, &options, err);
    if (code == 0) {
        code = news_item(&first, &news, 0, err);
        news_text_done(&first);
        if (code < 0)
            histories_done(&histories);
    }
    if (code < 0)
        news_done(&news);
    return code;
}

static void texts_read(int code)
{
    if (code < 0)
        return;
    assert_true(news.ids.count > 10 && histories.users.count > 5);
    histories_done(&histories);
    news_done(&news);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "read TSVs", .run = read_texts, .verify = texts_read};
    nomem_test(&s);
}

/* ---- texts to matrices ---- */

enum { TOKENS = 8 };

static struct encoder *encoder;
static float *a, *b, *right_a, *right_b;
static int32_t item_ids[2][TOKENS] = {{253, 5, 6, 7, 8, 9, 10, 1}, {253, 20, 21, 22, 23, 24, 25, 1}};
static const struct encode_item items[2] = {{item_ids[0], TOKENS}, {item_ids[1], TOKENS}};

static int encode(struct err *err)
{
    int32_t summary[64];
    struct encode_user users[2] = {{.items = items, .item_count = 2, .summary = summary},
        {.items = items, .item_count = 0, .summary = summary + 32}};
    struct engine *engine;
    int code = engine_new(&engine, model, LINEAR_F32, NULL, err);
    if (code < 0)
        return code;
    code = encoder_new(&encoder, engine, err);
    if (code < 0) {
        engine_free(engine);
        return code;
    }
    encoder_keep_weights(encoder, true);
    code = encode_contents(b, encoder, items, 2, err);
    if (code == 0)
        code = encode_users(a, encoder, users, 2, err);
    encoder_free(encoder);
    engine_free(engine);
    return code;
}

static size_t a_size(void)
{
    return 2 * model_m(&model->config) * model->config.d_model * sizeof *a;
}

static size_t b_size(void)
{
    return 2 * model_n(&model->config) * model->config.d_model * sizeof *b;
}

static void encoded(int code)
{
    if (code == 0) {
        assert_memory_equal(a, right_a, a_size());
        assert_memory_equal(b, right_b, b_size());
    }
}

static void test_encode(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "encode", .run = encode, .verify = encoded};
    struct err err = ERR_INIT;
    nomem_require(gemm_init(&err), &err);
    nomem_require(model_load(&model, TINY, NULL, &err), &err);
    a = grown(malloc(a_size()));
    b = grown(malloc(b_size()));
    nomem_require(encode(&err), &err);
    right_a = a;
    right_b = b;
    a = grown(malloc(a_size()));
    b = grown(malloc(b_size()));
    nomem_test(&s);
    free(a);
    free(b);
    free(right_a);
    free(right_b);
    model_free(model);
}

/* ---- a whole workspace: model, vocabulary, texts, tokens ---- */

static struct workspace workspace;
static char kept[512]; /* the bad rows */

static int open_workspace(struct err *err)
{
    const struct workspace_options options = {.model = TINY,
        .news = TINY "news.tsv",
        .behaviors = TINY "behaviors.tsv",
        .rows.quiet = true,
        .quarantine = kept};
    struct workspace_scratch scratch = {0};
    int32_t made[128]; /* tiny's items have 70 at most */
    size_t count;
    int code = workspace_open(&workspace, &options, err);
    if (code < 0)
        return code;
    code = workspace_tokens(&workspace, 0, made, &count, &scratch, err);
    workspace_scratch_done(&scratch);
    if (code == 0)
        code = workspace_tokenise_all(&workspace, true, err);
    if (code < 0)
        workspace_close(&workspace);
    return code;
}

static void workspace_opened(int code)
{
    char *bytes;
    size_t len;
    struct err err = ERR_INIT;
    nomem_require(file_read(&bytes, &len, kept, 1 << 20, &err), &err); /* the old file or the new one */
    assert_true(strcmp(bytes, "older") == 0 || (len == 0 && strcmp(bytes, "") == 0));
    free(bytes);
    assert_true(code < 0 || workspace.offsets[workspace.news.ids.count] > 100);
    if (code == 0)
        workspace_close(&workspace);
}

static void test_workspace(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "a workspace", .run = open_workspace, .verify = workspace_opened, .cost = 5};
    snprintf(kept, sizeof kept, "%s", scratch_write(folder, "kept.tsv", "older", 5));
    nomem_test(&s);
}

/* ---- matrices for exchange ---- */

enum { D = 4, ROWS = 3 };

static struct exchange exchange;

static void write_npy(const char *name, size_t dims, const size_t *shape)
{
    char path[300];
    struct npy npy;
    struct err err = ERR_INIT;
    static const float zeros[ROWS * 2 * D];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    nomem_require(npy_create(&npy, path, dims, shape, &err), &err);
    nomem_require(npy_write(&npy, zeros, 0, shape[0], &err), &err);
    nomem_require(npy_close(&npy, &err), &err);
}

static int open_exchange(struct err *err)
{
    return exchange_open(&exchange, folder, err);
}

static void exchange_opened(int code)
{
    if (code < 0)
        return;
    assert_int_equal(exchange.content_ids.count, ROWS);
    assert_int_equal(exchange.categories.count, 3);
    assert_string_equal(exchange.summary[1], "likes olives");
    assert_string_equal(exchange.title[1], "Of olives");
    exchange_close(&exchange);
}

static void test_exchange(void **state)
{
    (void)state;
    static const char content_ids[] = "N1\nN2\nN3\n", user_ids[] = "\nU1\nU2\n";
    static const char summaries[] = "{\"user\":\"U1\",\"summary\":\"likes olives\"}\n";
    static const char categories[] = "N1\tfood\nN2\tfood\nN3\tsports\n";
    static const struct nomem_scenario s = {
        .name = "open .npy, ids, summaries", .run = open_exchange, .verify = exchange_opened};
    write_npy("content.npy", 3, (const size_t[]){ROWS, 2, D});
    write_npy("user.npy", 3, (const size_t[]){ROWS, 1, D});
    write_npy("score_proj.npy", 2, (const size_t[]){D, D});
    scratch_write(folder, "content.ids", content_ids, strlen(content_ids));
    scratch_write(folder, "user.ids", user_ids, strlen(user_ids));
    scratch_write(folder, "summaries.jsonl", summaries, strlen(summaries));
    scratch_write(folder, "categories.tsv", categories, strlen(categories));
    scratch_write(folder, "titles.tsv", "N2\tOf olives\n", 13);
    nomem_test(&s);
}

int main(void)
{
    if (!nomem_possible())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_config),
        cmocka_unit_test(test_model_load),
        cmocka_unit_test(test_model_save),
        cmocka_unit_test(test_tokenizer_load),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_exchange),
    };
    nomem_folder(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(folder);
    return failed;
}
