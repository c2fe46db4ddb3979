#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/study_report.h"
#include "core/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* The command line, beside what it shares with train. */
struct study_args {
    struct train_args training;
    const char *config, *vocab, *start, *out, *seeds, *lists[STUDY_AXES];
};

/* Where the base's config and the vocabulary are: given, or the start model's. */
static int find_inputs(
    struct study *study, const struct study_args *a, char config[4096], char vocab[4096], struct err *err)
{
    int result = a->config ? 0 : file_path(config, a->start, "config.json", err);
    if (result == 0 && !a->vocab)
        result = file_path(vocab, a->start, "spiece.model", err);
    study->config_path = a->config ? a->config : config;
    study->vocab = a->vocab ? a->vocab : vocab;
    return result;
}

static int plan(struct study *study, const struct study_args *a, struct err *err)
{
    struct model_config base;
    int result = file_read(&study->config_text, &study->config_len, study->config_path, 1u << 20, err);
    if (result < 0)
        return result;
    result = model_config_parse(&base, study->config_text, study->config_len, err);
    if (result < 0) {
        err_place(err, "%s: ", study->config_path);
        return result;
    }
    result = study_grid_make(&study->grid, &base, a->lists, a->seeds, err);
    if (result < 0)
        return result;
    study->results = calloc(study->grid.variant_count * study->grid.seed_count, sizeof *study->results);
    return study->results ? study_data(study, err) : err_set(err, ERR_NOMEM, "out of memory");
}

/* The folders, and a lock on them: two processes would train the same runs. The lock dies with its process. */
static int make_folders(int *lock, const struct study *study, struct err *err)
{
    char path[4096];
    int result = file_make_dir(study->dir, err);
    if (result == 0)
        result = file_path(path, study->dir, "runs", err);
    if (result == 0)
        result = file_make_dir(path, err);
    if (result == 0)
        result = file_path(path, study->dir, "study.lock", err);
    if (result < 0)
        return result;
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0)
        return err_errno(err, "open %s", path);
    return flock(*lock, LOCK_EX | LOCK_NB) == 0
               ? 0
               : err_set(err, ERR_BUSY, "another process is at work on %s", study->dir);
}

/* All that was done before; their number. Any run that is another one's fails the study before anything is trained. */
static int recall(struct study *study, size_t *done, struct err *err)
{
    int result = 0;
    for (size_t v = 0; result == 0 && v < study->grid.variant_count; v++)
        for (size_t s = 0; result == 0 && s < study->grid.seed_count; s++) {
            result = study_recall(study, v, s, err);
            *done += study_result(study, v, s)->done;
        }
    return result;
}

static int stopped(const char *run, size_t done, size_t runs, struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE,
        "stopped by a signal in %s, %zu of %zu runs done; the same command goes on", run, done, runs);
}

/* All variants at the first seed before any at the second, so that there is a whole table early. */
static int run_all(struct study *study, struct err *err)
{
    const size_t runs = study->grid.variant_count * study->grid.seed_count;
    const bool quiet = study->args->quiet;
    size_t done = 0;
    int result = recall(study, &done, err);
    if (result == 0)
        result = study_write(study, err);
    if (result == 0)
        progress_say(quiet, "%zu runs: %zu variants, %zu seeds; %zu are done already", runs,
            study->grid.variant_count, study->grid.seed_count, done);
    for (size_t i = 0; result == 0 && i < runs; i++) {
        const size_t seed = i / study->grid.variant_count, variant = i % study->grid.variant_count;
        const struct study_result *r = study_result(study, variant, seed);
        char name[64], label[128];
        if (r->done)
            continue;
        study_run_name(name, &study->grid, variant, seed);
        snprintf(label, sizeof label, "run %zu/%zu %s", done + 1, runs, name);
        result = study_run(study, variant, seed, label, runs - done - 1, err);
        if (result < 0 && stop_asked())
            return stopped(name, done, runs, err);
        if (result < 0)
            err_place(err, "%s: ", name);
        else
            result = study_write(study, err);
        if (result == 0)
            progress_say(quiet, "%s: AUC %.4f, MRR %.4f; %zu of %zu runs done", name, r->eval.mean.auc,
                r->eval.mean.mrr, ++done, runs);
    }
    return result;
}

static int run_study(
    const struct study_args *a, const struct train_options *options, struct ranks *ranks, struct err *err)
{
    char config[4096], vocab[4096];
    struct study *study = calloc(1, sizeof *study);
    int lock = -1;
    if (!study)
        return err_set(err, ERR_NOMEM, "out of memory");
    study->args = &a->training;
    study->options = options;
    study->ranks = ranks;
    study->start = a->start;
    study->dir = a->out;
    int result = find_inputs(study, a, config, vocab, err);
    if (result == 0)
        result = plan(study, a, err);
    if (result == 0)
        result = make_folders(&lock, study, err);
    if (result == 0)
        result = study_check_start(study, err);
    if (result == 0)
        result = run_all(study, err);
    if (result == 0) {
        study_print(study, stdout);
        result = fflush(stdout) == 0 ? 0 : err_errno(err, "write the tables");
    }
    if (lock >= 0)
        close(lock);
    if (study->opened)
        workspace_close(&study->workspace);
    free(study->config_text);
    free(study->results);
    free(study);
    return result;
}

/* How the arguments fit together; NULL when they do. */
static const char *contradiction(const struct study_args *a)
{
    bool varied = false;
    for (size_t i = 0; i < STUDY_AXES; i++)
        varied |= a->lists[i] != NULL;
    if (!varied)
        return "a study needs at least one of --ablations, --m, --n and --session-size";
    if (!a->start && (!a->config || !a->vocab))
        return "a study needs --config and --vocab, or --model";
    if (a->training.valid_limit && !a->training.validate_every)
        return "--valid-limit is for the validations of --validate-every; the runs are judged by all of "
               "--valid";
    return NULL;
}

int command_study(int argc, char **argv)
{
    struct study_args a = {.training = train_args_defaults, .seeds = "1,2"};
    struct train_options settings;
    enum { OWN = 10 };
    struct option options[OWN + TRAIN_ARGS_OPTIONS] = {
        {"config", "FILE", "the base's config.json", false, OPTION_TEXT, &a.config, 0, 0},
        {"vocab", "FILE", "SentencePiece model", false, OPTION_TEXT, &a.vocab, 0, 0},
        {"model", "DIR", "start from this model or T5 checkpoint, not from random weights", false,
            OPTION_TEXT, &a.start, 0, 0},
        {"valid", "FILE", "behaviors.tsv that every run is judged by", true, OPTION_TEXT, &a.training.valid,
            0, 0},
        {"out", "DIR", "folder of the study, made if it is missing", true, OPTION_TEXT, &a.out, 0, 0},
        {"seeds", "LIST", "1,2 unless given; each has weights and an order of its own", false, OPTION_TEXT,
            &a.seeds, 0, 0},
        {"ablations", "LIST", "of no_cpe,no_upe,no_grouping,no_lsum", false, OPTION_TEXT,
            &a.lists[STUDY_ABLATION], 0, 0},
        {"m", "LIST", "numbers of user codes: 4,8,16,32", false, OPTION_TEXT, &a.lists[STUDY_M], 0, 0},
        {"n", "LIST", "numbers of content codes: 1,2,4,8", false, OPTION_TEXT, &a.lists[STUDY_N], 0, 0},
        {"session-size", "LIST", "items of a session: 1,2,4,8", false, OPTION_TEXT,
            &a.lists[STUDY_SESSION_SIZE], 0, 0},
    };
    train_args_options(options + OWN, &a.training);
    const struct command command = {
        "study --config FILE --vocab FILE --news FILE --behaviors FILE --valid FILE --out DIR [--ablations "
        "LIST] [--m LIST] ...",
        "Train and evaluate a grid: each axis alone around the config's own values, every run with the same "
        "budget, every\n"
        "value with all seeds. Prints the ablation table and the size curves, and writes them to "
        "OUT/study.json and OUT/study.svg.\n"
        "The same command goes on where an earlier one was stopped, and does no run twice.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    const char *wrong = contradiction(&a);
    if (wrong) {
        fprintf(stderr, "embsum: %s\nusage: embsum %s\n", wrong, command.usage);
        return EXIT_USAGE;
    }
    struct err err = ERR_INIT;
    struct ranks ranks = {0};
    stop_on_signals();
    int result = ranks_open(&ranks, &err);
    if (result == 0 && ranks.size > 1)
        result =
            err_set(&err, ERR_INVALID, "a study is one process; give it more threads, or train under mpirun");
    if (result == 0 && !train_args_check(&settings, &a.training, &ranks)) {
        ranks_close(&ranks);
        return EXIT_USAGE;
    }
    if (!settings.validation.every)
        settings.validation.path =
            NULL; /* a run is judged at its end, and before only if that is asked for */
    if (result == 0)
        result = run_study(&a, &settings, &ranks, &err);
    const int code = result < 0 ? command_failed("study", &err) : EXIT_DONE;
    ranks_close(&ranks);
    return code;
}
