#include "batch/commands.h"
#include "batch/stop.h"
#include "batch/train_args.h"
#include "core/file.h"

#include <stdio.h>

/* What the command line says, beside the settings of the run. */
struct folders {
    const char *model, *out;
    bool resume;
};

static int train(const struct train_args *args, const struct folders *folders, struct train_options *options,
    struct ranks *ranks, struct err *err)
{
    const bool quiet = args->quiet || ranks->rank > 0;
    const struct workspace_options inputs = {.model = folders->model,
        .news = args->news,
        .behaviors = args->behaviors,
        .rows = {.max_bad = args->max_bad, .quiet = quiet}};
    char vocab[4096];
    struct workspace workspace = {0};
    options->out = folders->out;
    options->resume = folders->resume;
    options->quiet = quiet;
    int opened = file_path(vocab, folders->model, "spiece.model", err);
    if (opened == 0)
        opened = workspace_open(&workspace, &inputs, err);
    if (opened == 0)
        opened = workspace_tokenise_all(&workspace, quiet, err);
    int result = ranks_agree(ranks, opened, err);
    if (result == 0)
        result = train_args_run(args, options, vocab, &workspace, ranks, NULL, err);
    workspace_close(&workspace);
    return result;
}

int command_train(int argc, char **argv)
{
    struct train_args args = train_args_defaults;
    struct train_options settings;
    struct folders folders = {0};
    struct ranks ranks = {0};
    enum { OWN = 5 };
    struct option options[OWN + TRAIN_ARGS_OPTIONS] = {
        {"model", "DIR", "the model to start from", true, OPTION_TEXT, &folders.model, 0, 0},
        {"out", "DIR", "folder of the trained model, made if it is missing", true, OPTION_TEXT, &folders.out,
            0, 0},
        {"valid", "FILE", "behaviors.tsv to validate on, ten times a run unless --validate-every is given",
            false, OPTION_TEXT, &args.valid, 0, 0},
        {"seed", "N", "of the order, the negatives and the dropout; 1 unless given", false, OPTION_NUMBER,
            &args.seed, 0, 2147483647},
        {"resume", NULL, "go on from the checkpoint in --out, if there is one", false, OPTION_FLAG,
            &folders.resume, 0, 0},
    };
    train_args_options(options + OWN, &args);
    const struct command command = {
        "train --model DIR --news FILE --behaviors FILE --out DIR [--summaries FILE] [--valid FILE]",
        "Train a model on labelled impressions: L_NCE with negatives of the same impression, and L_sum where "
        "a user has a\n"
        "summary. Writes OUT/ as a model, train.safetensors to go on from, train.jsonl, a line a step, and "
        "curves.svg. With\n"
        "--valid, OUT/best is the model with the highest AUC of all validations.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (!args.valid && (args.validate_every || args.valid_limit)) {
        fprintf(stderr, "embsum: --validate-every and --valid-limit need --valid\nusage: embsum %s\n",
            command.usage);
        return EXIT_USAGE;
    }
    struct err err = ERR_INIT;
    stop_on_signals();
    int result = ranks_open(&ranks, &err);
    if (result == 0 && !train_args_check(&settings, &args, &ranks)) {
        ranks_close(&ranks);
        return EXIT_USAGE;
    }
    if (result == 0)
        result = train(&args, &folders, &settings, &ranks, &err);
    int code = result < 0 ? EXIT_FAILED : EXIT_DONE;
    if (result < 0 &&
        (ranks.rank == 0 || ranks.broken)) /* all have the same message, unless they were cut off */
        code = command_failed("train", &err);
    ranks_close(&ranks);
    return code;
}
