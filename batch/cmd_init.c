#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/workspace.h"
#include "core/file.h"

#include <stdio.h>

static int make(const char *config, const char *t5, const char *vocab, const char *out, long seed, bool quiet,
    struct err *err)
{
    struct model *model = NULL;
    struct tokenizer *tokenizer = NULL;
    int result = workspace_no_model(out, err);
    if (result == 0 && t5) {
        const struct model_load_options options = {true, (unsigned long)seed, config};
        result = model_load(&model, t5, &options, err);
    } else if (result == 0) {
        result = model_init(&model, config, (unsigned long)seed, err);
    }
    if (result == 0)
        result = workspace_tokenizer(&tokenizer, model, vocab, err);
    if (result == 0)
        result = workspace_make_dir(out, vocab, err);
    if (result == 0)
        result = model_save(model, out, err);
    if (result == 0)
        progress_say(quiet, "%s: %zu tensors, %zu parameters (%.1f MB), seed %ld", out, model->tensor_count,
            model->param_count, 4e-6 * (double)model->param_count, seed);
    tokenizer_free(tokenizer);
    model_free(model);
    return result;
}

int command_init(int argc, char **argv)
{
    const char *config = NULL, *t5 = NULL, *vocab = NULL, *out = NULL;
    long seed = 1;
    bool quiet = false;
    char in_t5[4096];
    const struct option options[] = {
        {"config", "FILE", "the model's config.json; with --t5, instead of the checkpoint's", false,
            OPTION_TEXT, &config, 0, 0},
        {"t5", "DIR", "start from this T5 checkpoint; EmbSum's own tensors are drawn from the seed", false,
            OPTION_TEXT, &t5, 0, 0},
        {"vocab", "FILE", "SentencePiece model; with --t5, instead of the checkpoint's spiece.model", false,
            OPTION_TEXT, &vocab, 0, 0},
        {"out", "DIR", "the model's folder, made if it is missing", true, OPTION_TEXT, &out, 0, 0},
        {"seed", "N", "of the random weights; 1 unless given", false, OPTION_NUMBER, &seed, 0, 2147483647},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &quiet, 0, 0},
    };
    const struct command command = {"init --config FILE --vocab FILE --out DIR [--t5 DIR] [--seed N]",
        "Make a model: config.json, model.safetensors and spiece.model in one folder.", options,
        sizeof options / sizeof *options, NULL, 0};
    struct err err = ERR_INIT;
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (!t5 && (!config || !vocab)) {
        fprintf(
            stderr, "embsum: init needs --config and --vocab, or --t5\nusage: embsum %s\n", command.usage);
        return EXIT_USAGE;
    }
    if (!vocab) {
        if (file_path(in_t5, t5, "spiece.model", &err) < 0)
            return command_failed("init", &err);
        vocab = in_t5;
    }
    return make(config, t5, vocab, out, seed, quiet, &err) < 0 ? command_failed("init", &err) : EXIT_DONE;
}
