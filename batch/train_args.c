#include "batch/train_args.h"

#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct train_args train_args_defaults = {.rate = "2e-5",
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

void train_args_options(struct option rows[TRAIN_ARGS_OPTIONS], struct train_args *a)
{
    const struct option table[TRAIN_ARGS_OPTIONS] = {
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &a->news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv with labelled impressions", true, OPTION_TEXT, &a->behaviors, 0,
            0},
        {"summaries", "FILE", "JSON lines of users' summaries", false, OPTION_TEXT, &a->summaries, 0, 0},
        {"epochs", "N", "10 unless given", false, OPTION_NUMBER, &a->epochs, 1, 100000},
        {"steps", "N", "at most so many steps; 0: as the epochs ask", false, OPTION_NUMBER, &a->steps, 0,
            2000000000},
        {"batch", "N", "examples a step; 128 unless given", false, OPTION_NUMBER, &a->batch, 1, 1000000},
        {"micro-batch", "N", "examples in memory at once in each thread; 8 unless given", false,
            OPTION_NUMBER, &a->micro, 1, 1000000},
        {"negatives", "N", "a positive; 4 unless given", false, OPTION_NUMBER, &a->negatives, 1, 10000},
        {"shared-negatives", "N", "at most so many more from the micro-batch's other users; 0 unless given",
            false, OPTION_NUMBER, &a->shared, 0, 1000000},
        {"rate", "X", "peak rate of T5's tensors; 2e-5 unless given", false, OPTION_TEXT, &a->rate, 0, 0},
        {"head-factor", "X", "times the rate for EmbSum's own; 5 unless given", false, OPTION_TEXT,
            &a->head_factor, 0, 0},
        {"lambda", "X", "weight of the summary loss; 0.05 unless given", false, OPTION_TEXT, &a->lambda, 0,
            0},
        {"dropout", "X", "instead of the config's dropout_rate", false, OPTION_TEXT, &a->dropout, 0, 0},
        {"warmup", "X", "share of the steps; 0.1 unless given", false, OPTION_TEXT, &a->warmup, 0, 0},
        {"clip", "X", "largest norm of the gradient; 1 unless given, 0: none", false, OPTION_TEXT, &a->clip,
            0, 0},
        {"weight-decay", "X", "decoupled; 0 unless given", false, OPTION_TEXT, &a->decay, 0, 0},
        {"checkpoint-every", "N", "steps; 500 unless given", false, OPTION_NUMBER, &a->every, 1, 2000000000},
        {"validate-every", "N", "steps between two validations while training", false, OPTION_NUMBER,
            &a->validate_every, 1, 2000000000},
        {"valid-limit", "N", "validate on the first N impressions; 0, all of them, unless given", false,
            OPTION_NUMBER, &a->valid_limit, 0, 1000000000},
        {"threads", "N", "of each rank; 0, its share of the cores, unless given", false, OPTION_NUMBER,
            &a->threads, 0, 1024},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &a->max_bad, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &a->quiet, 0, 0},
    };
    memcpy(rows, table, sizeof table);
}

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

bool train_args_check(struct train_options *o, const struct train_args *a, const struct ranks *ranks)
{
    *o = (struct train_options){.adam = OPTIMIZER_CONFIG_INIT,
        .batch = (size_t)a->batch,
        .epochs = (size_t)a->epochs,
        .max_steps = (size_t)a->steps,
        .checkpoint_every = (size_t)a->every,
        .quiet = a->quiet};
    o->step.micro_batch = (size_t)a->micro;
    o->step.negatives = (size_t)a->negatives;
    o->step.shared_negatives = (size_t)a->shared;
    o->step.threads = a->threads > 0 ? (size_t)a->threads : ranks_cores(ranks);
    o->step.seed = (uint64_t)a->seed;
    o->step.dropout = -1;
    o->validation =
        (struct validation_options){a->valid, (size_t)a->validate_every, (size_t)a->valid_limit, a->max_bad};
    return number("rate", a->rate, 0, 1, &o->adam.rate) &&
           number("head-factor", a->head_factor, 0, 1e6, &o->adam.head_factor) &&
           number("lambda", a->lambda, 0, 1e6, &o->step.lambda) &&
           number("warmup", a->warmup, 0, 1, &o->adam.warmup) &&
           number("clip", a->clip, 0, 1e9, &o->adam.clip) &&
           number("weight-decay", a->decay, 0, 1, &o->adam.weight_decay) &&
           (!a->dropout || number("dropout", a->dropout, 0, 0.9, &o->step.dropout));
}

int train_args_run(const struct train_args *a, const struct train_options *options, const char *vocab,
    struct workspace *workspace, struct ranks *ranks, size_t *steps, struct err *err)
{
    struct train_options own = *options;
    struct train_set set;
    if (own.step.dropout < 0)
        own.step.dropout = workspace->model->config.dropout_rate;
    const int opened =
        train_set_open(&set, workspace, a->behaviors, a->summaries, a->max_bad, own.quiet, err);
    int result = ranks_agree(ranks, opened, err);
    if (result == 0)
        result = ranks_agree(ranks, ranks->rank == 0 ? workspace_make_dir(own.out, vocab, err) : 0, err);
    if (result == 0)
        result = train_job(workspace, &set, &own, ranks, err);
    if (result == 0 && steps)
        *steps = train_job_steps(&own, set.example_count);
    if (opened == 0)
        train_set_close(&set);
    return result;
}
