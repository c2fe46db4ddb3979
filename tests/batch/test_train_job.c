/* Training as a job of ranks: run by itself, of one; test_mpi.sh starts it with mpirun as several. What goes wrong on one
 * rank must end all of them, with the same error and without a checkpoint. */
#include "batch/train_job.h"
#include "core/file.h"
#include "core/gemm.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TINY "tests/golden/tiny/"

static struct ranks ranks;

struct outcome {
    int result;
    bool checkpoint; /* rank 0 has written one; told to all */
    struct err err;
};

/* Three steps, from a model whose first value the last rank changes by `change` once it is loaded. */
static struct outcome train(float change)
{
    const struct workspace_options inputs = {
        .model = TINY, .news = TINY "news.tsv", .behaviors = TINY "behaviors.tsv", .rows.quiet = true};
    struct train_options options = {.adam = OPTIMIZER_CONFIG_INIT,
        .step = {.lambda = 0.05, .micro_batch = 1, .negatives = 2, .threads = 1, .seed = 1},
        .batch = 4,
        .epochs = 1,
        .max_steps = 3,
        .checkpoint_every = 3,
        .out = "/nowhere/for/this/rank",
        .quiet = true};
    struct outcome outcome = {.err = ERR_INIT};
    struct workspace workspace;
    struct train_set set;
    char out[256], path[4096];
    assert_int_equal(workspace_open(&workspace, &inputs, &outcome.err), 0);
    assert_int_equal(workspace_tokenise_all(&workspace, true, &outcome.err), 0);
    assert_int_equal(
        train_set_open(&set, &workspace, inputs.behaviors, NULL, (struct tsv_limit){0}, true, &outcome.err),
        0);
    if (ranks.rank == 0)
        options.out = scratch_make(out);
    if (ranks.rank + 1 == ranks.size)
        workspace.model->params[0] += change;
    outcome.result = train_job(&workspace, &set, &options, &ranks, &outcome.err);
    if (ranks.rank == 0) {
        assert_int_equal(file_path(path, out, "train.safetensors", NULL), 0);
        outcome.checkpoint = access(path, F_OK) == 0;
        scratch_remove(out);
    }
    assert_int_equal(ranks_share(&ranks, &outcome.checkpoint, sizeof outcome.checkpoint, NULL), 0);
    train_set_close(&set);
    workspace_close(&workspace);
    return outcome;
}

static void trains(void **state)
{
    (void)state;
    const struct outcome outcome = train(0);
    assert_int_equal(outcome.result, 0);
    assert_true(outcome.checkpoint);
}

static void replicas_that_have_come_apart_are_no_checkpoint(void **state)
{
    (void)state;
    const struct outcome outcome = train(1e-3f);
    if (ranks.size == 1) {
        assert_int_equal(outcome.result, 0);
        return;
    }
    char expected[64];
    snprintf(expected, sizeof expected, "rank %zu: not rank 0's parameters", ranks.size - 1);
    assert_int_equal(outcome.result, -ERR_CORRUPT);
    assert_string_equal(outcome.err.message, expected);
    assert_false(outcome.checkpoint);
}

static void a_gradient_that_is_not_finite_ends_all(void **state)
{
    (void)state;
    const struct outcome outcome = train(NAN);
    assert_int_equal(outcome.result, -ERR_CORRUPT);
    assert_non_null(strstr(outcome.err.message, "step 1: the gradient is not finite"));
    assert_false(outcome.checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains),
        cmocka_unit_test(replicas_that_have_come_apart_are_no_checkpoint),
        cmocka_unit_test(a_gradient_that_is_not_finite_ends_all),
    };
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0 || ranks_open(&ranks, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ranks_close(&ranks);
    return failed;
}
