#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/train_job.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct train_args {
    struct workspace_options inputs;
    const char *summaries;
    const char *rate, *head_factor, *lambda, *dropout, *warmup, *clip, *decay; /* numbers with a point */
    long batch, micro, shared, epochs, negatives, threads, steps, every, seed;
    struct train_options options;
};

/* A decimal number of an option; the usage message names it. */
static bool number(const char *name, const char *text, double min, double max, double *out)
{
    char *end;
    const double value = strtod(text, &end);
    if (end != text && !*end && value >= min && value <= max) {
        *out = value;
        return true;
    }
    fprintf(stderr, "embsum: --%s must be a number between %g and %g, not %s\n", name, min, max, text);
    return false;
}

static bool set_options(struct train_args *a)
{
    struct train_options *o = &a->options;
    o->adam = (struct optimizer_config)OPTIMIZER_CONFIG_INIT;
    o->batch = (size_t)a->batch;
    o->step.micro_batch = (size_t)a->micro;
    o->epochs = (size_t)a->epochs;
    o->step.negatives = (size_t)a->negatives;
    o->step.shared_negatives = (size_t)a->shared;
    o->step.threads = (size_t)a->threads;
    o->max_steps = (size_t)a->steps;
    o->checkpoint_every = (size_t)a->every;
    o->step.seed = (uint64_t)a->seed;
    o->quiet = a->inputs.quiet;
    return number("rate", a->rate, 0, 1, &o->adam.rate) &&
           number("head-factor", a->head_factor, 0, 1e6, &o->adam.head_factor) &&
           number("lambda", a->lambda, 0, 1e6, &o->step.lambda) &&
           number("warmup", a->warmup, 0, 1, &o->adam.warmup) &&
           number("clip", a->clip, 0, 1e9, &o->adam.clip) &&
           number("weight-decay", a->decay, 0, 1, &o->adam.weight_decay) &&
           (!a->dropout || number("dropout", a->dropout, 0, 0.9, &o->step.dropout));
}

/* The vocabulary travels with the model. */
static int copy_vocab(const char *model, const char *out, struct err *err)
{
    char from[4096], to[4096];
    int result = file_path(from, model, "spiece.model", err);
    if (result == 0)
        result = file_path(to, out, "spiece.model", err);
    return result < 0 ? result : file_copy(from, to, err);
}

static int make_out(const struct train_args *a, struct err *err)
{
    const int result = file_make_dir(a->options.out, err);
    return result < 0 ? result : copy_vocab(a->inputs.model, a->options.out, err);
}

static int train_on(struct train_args *a, struct workspace *workspace, struct ranks *ranks, struct err *err)
{
    struct train_set set;
    const int opened = train_set_open(
        &set, workspace, a->inputs.behaviors, a->summaries, a->inputs.max_bad, a->inputs.quiet, err);
    int result = ranks_agree(ranks, opened, err);
    if (result == 0)
        result = ranks_agree(ranks, ranks->rank == 0 ? make_out(a, err) : 0, err);
    if (result == 0)
        result = train_job(workspace, &set, &a->options, ranks, err);
    if (opened == 0)
        train_set_close(&set);
    return result;
}

static int train(struct train_args *a, struct ranks *ranks, struct err *err)
{
    struct workspace workspace;
    a->inputs.quiet = a->options.quiet = a->inputs.quiet || ranks->rank > 0;
    if (a->threads == 0)
        a->options.step.threads = ranks_cores(ranks);
    const int opened = workspace_open(&workspace, &a->inputs, err);
    int result = ranks_agree(ranks, opened, err);
    if (result == 0 && !a->dropout)
        a->options.step.dropout = workspace.model->config.dropout_rate;
    if (result == 0)
        result = train_on(a, &workspace, ranks, err);
    if (opened == 0)
        workspace_close(&workspace);
    return result;
}

int command_train(int argc, char **argv)
{
    struct train_args a = {.rate = "2e-5",
        .head_factor = "5",
        .lambda = "0.05",
        .warmup = "0.1",
        .clip = "1",
        .decay = "0",
        .batch = 128,
        .micro = 8,
        .epochs = 10,
        .negatives = 4,
        .every = 500,
        .seed = 1};
    const struct option options[] = {
        {"model", "DIR", "the model to start from", true, OPTION_TEXT, &a.inputs.model, 0, 0},
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &a.inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv with labelled impressions", true, OPTION_TEXT,
            &a.inputs.behaviors, 0, 0},
        {"summaries", "FILE", "JSON lines of users' summaries", false, OPTION_TEXT, &a.summaries, 0, 0},
        {"out", "DIR", "folder of the trained model, made if it is missing", true, OPTION_TEXT,
            &a.options.out, 0, 0},
        {"epochs", "N", "10 unless given", false, OPTION_NUMBER, &a.epochs, 1, 100000},
        {"steps", "N", "at most so many steps; 0: as the epochs ask", false, OPTION_NUMBER, &a.steps, 0,
            2000000000},
        {"batch", "N", "examples a step; 128 unless given", false, OPTION_NUMBER, &a.batch, 1, 1000000},
        {"micro-batch", "N", "examples in memory at once in each thread; 8 unless given", false,
            OPTION_NUMBER, &a.micro, 1, 1000000},
        {"negatives", "N", "a positive; 4 unless given", false, OPTION_NUMBER, &a.negatives, 1, 10000},
        {"shared-negatives", "N", "at most so many more from the micro-batch's other users; 0 unless given",
            false, OPTION_NUMBER, &a.shared, 0, 1000000},
        {"rate", "X", "peak rate of T5's tensors; 2e-5 unless given", false, OPTION_TEXT, &a.rate, 0, 0},
        {"head-factor", "X", "times the rate for EmbSum's own; 5 unless given", false, OPTION_TEXT,
            &a.head_factor, 0, 0},
        {"lambda", "X", "weight of the summary loss; 0.05 unless given", false, OPTION_TEXT, &a.lambda, 0, 0},
        {"dropout", "X", "instead of the config's dropout_rate", false, OPTION_TEXT, &a.dropout, 0, 0},
        {"warmup", "X", "share of the steps; 0.1 unless given", false, OPTION_TEXT, &a.warmup, 0, 0},
        {"clip", "X", "largest norm of the gradient; 1 unless given, 0: none", false, OPTION_TEXT, &a.clip, 0,
            0},
        {"weight-decay", "X", "decoupled; 0 unless given", false, OPTION_TEXT, &a.decay, 0, 0},
        {"checkpoint-every", "N", "steps; 500 unless given", false, OPTION_NUMBER, &a.every, 1, 2000000000},
        {"resume", NULL, "go on from the checkpoint in --out, if there is one", false, OPTION_FLAG,
            &a.options.resume, 0, 0},
        {"seed", "N", "1 unless given", false, OPTION_NUMBER, &a.seed, 0, 2147483647},
        {"threads", "N", "of each rank; 0, its share of the cores, unless given", false, OPTION_NUMBER,
            &a.threads, 0, 1024},
        {"max-bad", "N", "bad rows allowed in a file; 0 unless given", false, OPTION_NUMBER,
            &a.inputs.max_bad, 0, 1000000000},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &a.inputs.quiet, 0, 0},
    };
    const struct command command = {
        "train --model DIR --news FILE --behaviors FILE --out DIR [--summaries FILE]",
        "Train a model on labelled impressions: L_NCE with negatives of the same impression, and L_sum where "
        "a user has a\n"
        "summary. Writes OUT/ as a model, train.safetensors to go on from, and train.jsonl, a line a step.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (!set_options(&a))
        return EXIT_USAGE;
    struct err err = ERR_INIT;
    struct ranks ranks;
    stop_on_signals();
    int result = ranks_open(&ranks, &err);
    if (result == 0)
        result = train(&a, &ranks, &err);
    int code = result < 0 ? EXIT_FAILED : EXIT_DONE;
    if (result < 0 &&
        (ranks.rank == 0 || ranks.broken)) /* all have the same message, unless they were cut off */
        code = command_failed("train", &err);
    ranks_close(&ranks);
    return code;
}
