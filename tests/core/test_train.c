/* Losses and the gradient of every parameter tensor against PyTorch's autograd in float64 (tests/golden/gradients.py),
 * and dropout's gradient against central differences. */
#include "batch/workspace.h"
#include "core/gemm.h"
#include "core/optimizer.h"
#include "core/train.h"
#include "tests/lib/scratch.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY "tests/golden/tiny/"
#define LAMBDA 0.05
#define TOLERANCE 1e-4 /* relative, Frobenius, of each tensor */

static struct workspace w;

/* The examples of gradients.py. */
struct case_memory {
    struct encode_item history[128], candidates[5];
    int32_t summary[16];
};

static struct train_example example(struct case_memory *m, size_t user)
{
    const size_t count = w.news.ids.count;
    size_t read;
    const uint32_t *const window = workspace_window(&w, user, &read);
    struct train_example x = {
        .user = user, .history = m->history, .candidates = m->candidates, .candidate_count = 5};
    for (size_t i = 0; i < read; i++)
        m->history[x.history_count++] = workspace_item(&w, window[i]);
    for (size_t i = 0; i < 5; i++)
        m->candidates[i] = workspace_item(&w, (7 * user + 3 + i) % count);
    if (user % 4 != 3) {
        const struct encode_item item = workspace_item(&w, (11 * user + 5) % count);
        for (size_t i = 1; i < 7 + user % 4 && i < item.count; i++)
            m->summary[x.summary_count++] = item.ids[i];
        m->summary[x.summary_count++] = w.model->config.eos_id;
        x.summary = m->summary;
    }
    return x;
}

/* All examples, `micro` at a time. */
static struct train_loss run_objective(float *grads, size_t micro, struct train_objective objective)
{
    struct trainer *trainer;
    struct train_loss loss = {0};
    struct err err = ERR_INIT;
    const size_t users = w.histories.users.count;
    objective.lambda = LAMBDA;
    objective.scale = 1.0 / (double)users;
    struct case_memory *memory = calloc(users, sizeof *memory);
    struct train_example *examples = calloc(users, sizeof *examples);
    assert_int_equal(trainer_new(&trainer, w.model, &err), 0);
    for (size_t u = 0; u < users; u++)
        examples[u] = example(&memory[u], u);
    for (size_t at = 0; at < users; at += micro) {
        const size_t some = users - at < micro ? users - at : micro;
        if (train_examples(trainer, grads, &loss, examples + at, some, &objective, &err) < 0)
            fail_msg("%s", err.message);
    }
    trainer_free(trainer);
    free(examples);
    free(memory);
    return loss;
}

static struct train_loss run(float *grads, size_t micro)
{
    return run_objective(grads, micro, (struct train_objective){0});
}

static float *load_gradients(size_t count)
{
    FILE *file = fopen(TINY "expected/gradients.npy", "rb");
    unsigned char head[10];
    assert_non_null(file);
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fseek(file, head[8] + 256 * head[9], SEEK_CUR), 0);
    float *data = malloc(count * sizeof *data);
    assert_int_equal(fread(data, sizeof *data, count, file), count);
    fclose(file);
    return data;
}

/* The losses before step `step` of gradients.py's Adam. */
static void check_loss(const struct train_loss *loss, size_t step, double tolerance)
{
    json_t *all = json_load_file(TINY "expected/loss.json", 0, NULL);
    const json_t *row = json_array_get(all, step);
    const double nce = json_real_value(json_object_get(row, "nce")),
                 sum = json_real_value(json_object_get(row, "sum"));
    print_message("step %2zu: L_NCE %.8f (%.8f), L_sum %.7f (%.7f)\n", step, loss->nce, nce, loss->sum, sum);
    assert_true(fabs(loss->nce - nce) < tolerance * nce && fabs(loss->sum - sum) < tolerance * sum);
    json_decref(all);
}

static void test_gradients(void **state)
{
    (void)state;
    const struct model *model = w.model;
    float *grads = calloc(model->param_count, sizeof *grads), *want = load_gradients(model->param_count);
    const struct train_loss loss = run(grads, 4);
    check_loss(&loss, 0, 1e-6);

    FILE *names = fopen(TINY "expected/names.txt", "r");
    char name[88];
    size_t count, at = 0;
    double worst = 0;
    assert_non_null(names);
    while (fscanf(names, "%87s %zu", name, &count) == 2) {
        size_t k = 0;
        while (k < model->tensor_count && strcmp(model->tensors[k].name, name) != 0)
            k++;
        assert_true(k < model->tensor_count && model->tensors[k].rows * model->tensors[k].cols == count);
        const float *got = grads + model->tensors[k].offset;
        double difference = 0, norm = 0;
        for (size_t i = 0; i < count; i++) {
            difference += pow((double)got[i] - (double)want[at + i], 2);
            norm += pow((double)want[at + i], 2);
        }
        const double error = sqrt(difference) / (sqrt(norm) + 1e-30);
        worst = fmax(worst, error);
        if (!(error <= TOLERANCE))
            print_error("%s: relative error %.2e (norm %.2e)\n", name, error, sqrt(norm));
        at += count;
    }
    fclose(names);
    assert_int_equal(at, model->param_count);
    print_message("worst relative error of a tensor's gradient: %.1e\n", worst);
    assert_true(worst <= TOLERANCE);
    free(grads);
    free(want);
}

/* What several examples have in common is encoded once: the gradient is that of the examples one by one. */
static void test_shared_texts(void **state)
{
    (void)state;
    const size_t count = w.model->param_count;
    float *alone = calloc(count, sizeof *alone), *together = calloc(count, sizeof *together);
    const struct train_loss one = run(alone, 1), all = run(together, SIZE_MAX);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)alone[i] - (double)together[i], 2);
        norm += pow((double)alone[i], 2);
    }
    print_message("%zu of %zu tokens encoded (one by one %zu); gradients differ by %.1e\n", all.encoded,
        all.tokens, one.encoded, sqrt(difference / norm));
    assert_true(all.tokens == one.tokens && all.encoded < one.encoded);
    assert_true(sqrt(difference / norm) < 1e-5);
    assert_true(fabs(all.nce - one.nce) < 1e-6 && fabs(all.sum - one.sum) < 1e-5 * one.sum);
    free(alone);
    free(together);
}

/* Along the gradient itself, the loss must grow by what the gradient promises. */
static void check_slope(const struct train_objective *objective)
{
    const struct model *model = w.model;
    float *grads = calloc(model->param_count, sizeof *grads),
          *ignored = calloc(model->param_count, sizeof *grads);
    float *kept = malloc(model->param_count * sizeof *kept);
    const struct train_loss middle = run_objective(grads, 4, *objective), plain = run(ignored, 4);
    assert_true(middle.nce != plain.nce); /* what is tested takes part */
    double norm = 0;
    for (size_t i = 0; i < model->param_count; i++)
        norm += (double)grads[i] * (double)grads[i];
    memcpy(kept, model->params, model->param_count * sizeof *kept);
    double side[2];
    const double step = 2.5e-4 / sqrt(norm);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < model->param_count; i++)
            w.model->params[i] = kept[i] + (float)((s ? 1 : -1) * step * (double)grads[i]);
        const struct train_loss loss = run_objective(ignored, 4, *objective);
        side[s] = loss.nce + LAMBDA * loss.sum;
    }
    memcpy(w.model->params, kept, model->param_count * sizeof *kept);
    const double slope = (side[1] - side[0]) / (2 * step);
    print_message("slope along the gradient %.6f, its square %.6f\n", slope, norm);
    assert_true(fabs(slope - norm) < 5e-3 * norm);
    free(grads);
    free(ignored);
    free(kept);
}

/* The same coins fall in the forward and in the backward pass. */
static void test_dropout_gradient(void **state)
{
    (void)state;
    check_slope(&(struct train_objective){.dropout = {0.2f, 77}});
}

static void test_shared_negatives(void **state)
{
    (void)state;
    check_slope(&(struct train_objective){.shared_negatives = 7});
}

static void test_ten_steps_of_adam(void **state)
{
    (void)state;
    struct optimizer_config config = OPTIMIZER_CONFIG_INIT;
    struct optimizer optimizer;
    const size_t size = w.model->param_count * sizeof(float);
    float *grads = malloc(size), *kept = malloc(size);
    config.rate = 1e-3;
    config.clip = 0;
    memcpy(kept, w.model->params, size);
    assert_int_equal(optimizer_init(&optimizer, w.model, &config, NULL), 0);
    for (size_t step = 0; step <= 10; step++) {
        memset(grads, 0, size);
        const struct train_loss loss = run(grads, 4);
        check_loss(&loss, step, 1e-4);
        double norm;
        assert_int_equal(optimizer_step(&optimizer, w.model, grads, &norm, NULL), 0);
    }
    memcpy(w.model->params, kept, size);
    optimizer_done(&optimizer);
    free(grads);
    free(kept);
}

static void test_schedule(void **state)
{
    (void)state;
    struct optimizer_config config = OPTIMIZER_CONFIG_INIT;
    assert_true(optimizer_schedule(&config, 5) == 1); /* no number of steps: constant */
    config.steps = 100;
    assert_true(fabs(optimizer_schedule(&config, 1) - 0.1) < 1e-12);
    assert_true(optimizer_schedule(&config, 10) == 1);
    assert_true(fabs(optimizer_schedule(&config, 56) - 0.5) < 1e-12);
    assert_true(fabs(optimizer_schedule(&config, 100) - 1.0 / 90) < 1e-12);
    assert_true(optimizer_schedule(&config, 101) == 0);
}

static int setup(void **state)
{
    (void)state;
    const struct workspace_options options = {
        .model = TINY, .news = TINY "news.tsv", .behaviors = TINY "behaviors.tsv", .rows.quiet = true};
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0 || workspace_open(&w, &options, &err) < 0 ||
        workspace_tokenise_all(&w, true, &err) < 0) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    workspace_close(&w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_shared_texts),
        cmocka_unit_test(test_dropout_gradient), cmocka_unit_test(test_shared_negatives),
        cmocka_unit_test(test_ten_steps_of_adam), cmocka_unit_test(test_schedule)};
    return cmocka_run_group_tests_name("train", tests, setup, teardown);
}
