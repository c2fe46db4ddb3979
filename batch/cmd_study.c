#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/study_report.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONFIG_MAX = 1 << 20 };

/* What earlier processes have done already; how many runs are left. */
static int recall(struct study *study, size_t *left, struct err *err)
{
    *left = 0;
    for (size_t v = 0; v < study->grid.variant_count; v++)
        for (size_t s = 0; s < study->grid.seed_count; s++) {
            const int result = study_recall(study, v, s, err);
            if (result < 0)
                return result;
            *left += !study_result(study, v, s)->done;
        }
    return 0;
}

/* Seed by seed, so that a study that is stopped has all variants of the first seeds. */
static int run_all(struct study *study, struct err *err)
{
    const size_t all = study->grid.variant_count * study->grid.seed_count;
    size_t left;
    int result = recall(study, &left, err);
    if (result == 0 && left < all)
        progress_say(study->args->quiet, "%zu of %zu runs are done already", all - left, all);
    for (size_t s = 0; s < study->grid.seed_count; s++)
        for (size_t v = 0; result == 0 && v < study->grid.variant_count; v++) {
            char name[64], label[96];
            if (study_result(study, v, s)->done)
                continue;
            study_run_name(name, &study->grid, v, s);
            snprintf(label, sizeof label, "%zu/%zu %s", all - left + 1, all, name);
            result = study_run(study, v, s, label, --left, err);
        }
    return result;
}

static int prepare(
    struct study *study, const char *const lists[STUDY_AXES], const char *seeds, struct err *err)
{
    char runs[4096];
    struct model_config base;
    int result = file_read(&study->config_text, &study->config_len, study->config_path, CONFIG_MAX, err);
    if (result == 0) {
        result = model_config_parse(&base, study->config_text, study->config_len, err);
        if (result < 0)
            err_place(err, "%s: ", study->config_path);
    }
    if (result == 0)
        result = study_grid_make(&study->grid, &base, lists, seeds, err);
    if (result == 0)
        result = study_data(study, err);
    if (result == 0)
        result = file_make_dir(study->dir, err);
    if (result == 0)
        result = file_path(runs, study->dir, "runs", err);
    if (result == 0)
        result = file_make_dir(runs, err);
    if (result < 0)
        return result;
    study->results = calloc(study->grid.variant_count * study->grid.seed_count, sizeof *study->results);
    if (!study->results)
        return err_set(err, ERR_NOMEM, "out of memory");
    return study_check_start(study, err);
}

static int run(struct study *study, const char *const lists[STUDY_AXES], const char *seeds, struct err *err)
{
    struct ranks ranks;
    int result = ranks_open(&ranks, err);
    if (result == 0 && ranks.size > 1)
        result = err_set(err, ERR_INVALID, "a study runs in one process; mpirun is for embsum train");
    if (result == 0)
        result = prepare(study, lists, seeds, err);
    study->ranks = &ranks;
    if (result == 0)
        result = run_all(study, err);
    if (result == 0)
        result = study_report_write(study, err);
    if (result == 0)
        study_report_text(stdout, study);
    if (study->opened)
        workspace_close(&study->workspace);
    free(study->results);
    free(study->config_text);
    ranks_close(&ranks);
    return result;
}

int command_study(int argc, char **argv)
{
    struct train_args args = train_args_defaults;
    struct train_options settings;
    struct study study = {.args = &args, .options = &settings};
    const char *lists[STUDY_AXES] = {NULL}, *seeds = "1,2";
    enum { OWN = 10 };
    struct option options[OWN + TRAIN_ARGS_OPTIONS] = {
        {"config", "FILE", "config.json of the base, around which each axis varies", true, OPTION_TEXT,
            &study.config_path, 0, 0},
        {"vocab", "FILE", "SentencePiece model", true, OPTION_TEXT, &study.vocab, 0, 0},
        {"model", "DIR", "start every run from this model or T5 checkpoint, not from random weights", false,
            OPTION_TEXT, &study.start, 0, 0},
        {"out", "DIR", "folder of the study, made if it is missing; a study that is there goes on", true,
            OPTION_TEXT, &study.dir, 0, 0},
        {"valid", "FILE", "behaviors.tsv that every model is evaluated on", true, OPTION_TEXT, &args.valid, 0,
            0},
        {"seeds", "LIST", "of weights, order, negatives and dropout; 1,2 unless given", false, OPTION_TEXT,
            &seeds, 0, 0},
        {"ablations", "LIST", "no_cpe,no_upe,no_grouping,no_lsum or some of them", false, OPTION_TEXT,
            &lists[STUDY_ABLATION], 0, 0},
        {"m", "LIST", "numbers of user codes, 4,8,16 say", false, OPTION_TEXT, &lists[STUDY_M], 0, 0},
        {"n", "LIST", "numbers of content codes", false, OPTION_TEXT, &lists[STUDY_N], 0, 0},
        {"session-size", "LIST", "numbers of items a session", false, OPTION_TEXT, &lists[STUDY_SESSION_SIZE],
            0, 0},
    };
    train_args_options(options + OWN, &args);
    const struct command command = {
        "study --config FILE --vocab FILE --news FILE --behaviors FILE --valid FILE --out DIR [AXES]",
        "Train and evaluate a grid of models, each axis alone around the base, every run with the same "
        "budget and "
        "every\n"
        "variant with every seed. Prints the table of the ablations and the curves of the sizes; "
        "DIR/study.json and\n"
        "DIR/study.svg have them, too. A study that was stopped goes on where it was.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (!train_args_check(&settings, &args))
        return EXIT_USAGE;
    if (!args.validate_every)
        settings.validation.path = NULL; /* the end is what counts */
    struct err err = ERR_INIT;
    stop_on_signals();
    return run(&study, lists, seeds, &err) < 0 ? command_failed("study", &err) : EXIT_DONE;
}
