/* From texts to A, B and summaries on tests/golden/tiny, against PyTorch's float64. */
#include "batch/encode_job.h"
#include "core/gemm.h"
#include "tests/lib/scratch.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY "tests/golden/tiny/"
#define TOLERANCE 2e-5 /* relative, Frobenius: the bound of the whole service in float32 */

struct golden {
    const struct workspace *workspace;
    double *content, *user;
    json_t *summaries, *weights;
    size_t contents, users;
    double worst, worst_weight;
    float *first_b, *first_a; /* of the first run: whatever the threads do, the others give the same bits */
    bool again;
};

static void same_bits(const struct golden *g, float *first, const float *got, size_t size)
{
    if (g->again)
        assert_memory_equal(first, got, size * sizeof *got);
    memcpy(first, got, size * sizeof *got);
}

/* The float64 payload of a version 1.0 .npy file. */
static double *load_f64(const char *path, size_t count)
{
    FILE *file = fopen(path, "rb");
    unsigned char head[10];
    assert_non_null(file);
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fseek(file, head[8] + 256 * head[9], SEEK_CUR), 0);
    double *data = malloc(count * sizeof *data);
    assert_int_equal(fread(data, sizeof *data, count, file), count);
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
    return data;
}

static void compare(struct golden *g, const float *got, const double *want, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)got[i] - want[i], 2);
        norm += want[i] * want[i];
    }
    g->worst = fmax(g->worst, sqrt(difference / norm));
}

/* codes x rows, of PyTorch's softmax. */
static void check_weights(struct golden *g, const struct encode_weights *got, const json_t *want)
{
    assert_non_null(got);
    assert_int_equal(got->codes, json_array_size(want));
    for (size_t code = 0; code < got->codes; code++) {
        const json_t *row = json_array_get(want, code);
        assert_int_equal(got->rows, json_array_size(row));
        for (size_t r = 0; r < got->rows; r++)
            g->worst_weight = fmax(g->worst_weight,
                fabs((double)got->at[code * got->rows + r] - json_number_value(json_array_get(row, r))));
    }
}

static int check_content(void *ctx, size_t index, uint64_t inputs, const float *b,
    const struct encode_weights *weights, struct err *err)
{
    struct golden *g = ctx;
    const struct model_config *c = &g->workspace->model->config;
    const size_t size = model_n(c) * c->d_model;
    (void)err;
    assert_true(inputs == workspace_content_inputs(g->workspace, index));
    compare(g, b, g->content + index * size, size);
    same_bits(g, g->first_b + index * size, b, size);
    check_weights(g, weights, json_object_get(json_array_get(g->weights, index), "weights"));
    g->contents++;
    return 0;
}

static int check_user(void *ctx, size_t index, uint64_t inputs, const float *a,
    const struct encode_user *user, const struct encode_weights *weights, struct err *err)
{
    struct golden *g = ctx;
    const struct model_config *c = &g->workspace->model->config;
    const size_t size = model_m(c) * c->d_model;
    const json_t *tokens = json_object_get(json_array_get(g->summaries, index), "tokens");
    (void)err;
    assert_true(inputs == workspace_user_inputs(g->workspace, index));
    compare(g, a, g->user + index * size, size);
    same_bits(g, g->first_a + index * size, a, size);
    check_weights(g, weights,
        json_object_get(json_array_get(g->weights, g->workspace->news.ids.count + index), "weights"));
    assert_int_equal(user->summary_count, json_array_size(tokens));
    for (size_t i = 0; i < user->summary_count; i++)
        assert_int_equal(user->summary[i], json_integer_value(json_array_get(tokens, i)));
    g->users++;
    return 0;
}

static json_t *load_lines(const char *path)
{
    json_t *all = json_array(), *line;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while ((line = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL)) != NULL)
        json_array_append_new(all, line);
    fclose(file);
    return all;
}

static void test_golden(void **state)
{
    (void)state;
    const struct workspace_options options = {
        .model = TINY, .news = TINY "news.tsv", .behaviors = TINY "behaviors.tsv", .rows.quiet = true};
    struct workspace w;
    struct err err = ERR_INIT;
    if (workspace_open(&w, &options, &err) < 0)
        fail_msg("%s", err.message);
    const struct model_config *c = &w.model->config;
    const size_t contents = w.news.ids.count, users = w.histories.users.count + 1;
    struct golden g = {&w, load_f64(TINY "expected/content.npy", contents * model_n(c) * c->d_model),
        load_f64(TINY "expected/user.npy", users * model_m(c) * c->d_model),
        load_lines(TINY "expected/summaries.jsonl"), load_lines(TINY "expected/weights.jsonl"), 0, 0, 0, 0,
        calloc(contents * model_n(c) * c->d_model, sizeof(float)),
        calloc(users * model_m(c) * c->d_model, sizeof(float)), false};
    const struct encode_sink sink = {check_content, check_user, &g};
    assert_int_equal(json_array_size(g.summaries), users);
    assert_int_equal(json_array_size(g.weights), contents + users);
    assert_true(g.first_b && g.first_a);
    for (long threads = 1; threads <= 4; threads++) {
        g.contents = g.users = 0;
        g.again = threads > 1;
        const struct encode_request request = {.content_count = contents,
            .user_count = users,
            .threads = threads,
            .quiet = true,
            .weights = true};
        struct encode_done done;
        assert_int_equal(encode_job(&done, &w, &sink, &request, &err), 0);
        assert_int_equal(done.contents, contents);
        assert_int_equal(done.users, users);
        assert_int_equal(g.contents, contents);
        assert_int_equal(g.users, users);
    }
    print_message("worst relative error of a matrix: %.1e\n", g.worst);
    print_message("worst error of a weight: %.1e\n", g.worst_weight);
    assert_true(g.worst < TOLERANCE);
    assert_true(g.worst_weight < TOLERANCE);
    free(g.content);
    free(g.user);
    free(g.first_b);
    free(g.first_a);
    json_decref(g.summaries);
    json_decref(g.weights);
    workspace_close(&w);
}

static int init(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests_name("encode_golden", tests, init, NULL);
}
