#include "batch/study_run.h"

#include "batch/digest.h"
#include "batch/eval_figures.h"
#include "core/file.h"
#include "core/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define RESULT_MAX (1u << 16)

static int run_path(
    char out[4096], const struct study *study, size_t variant, size_t seed, const char *name, struct err *err)
{
    char run[64], relative[128];
    study_run_name(run, &study->grid, variant, seed);
    snprintf(relative, sizeof relative, "runs/%s%s%s", run, name ? "/" : "", name ? name : "");
    return file_path(out, study->dir, relative, err);
}

/* ---- what a run is ---- */

int study_data(struct study *study, struct err *err)
{
    char weights[4096] = "";
    if (study->start && file_path(weights, study->start, "model.safetensors", err) < 0)
        return -ERR_INVALID;
    const char *const files[] = {study->args->news, study->args->behaviors, study->args->valid,
        study->args->summaries, study->vocab, study->start ? weights : NULL};
    enum { FILES = sizeof files / sizeof *files };
    uint8_t digests[FILES][DIGEST_SIZE] = {{0}};
    for (size_t i = 0; i < FILES; i++) {
        const int result = files[i] ? digest_file(digests[i], files[i], err) : 0;
        if (result < 0)
            return result;
    }
    study->data = XXH3_64bits(digests, sizeof digests);
    return 0;
}

/* Data, model and every setting that changes the result; threads change no more than the rounding of sums. */
static int identify(char out[17], const struct study *study, size_t variant, size_t seed, struct err *err)
{
    const struct train_options *o = study->options;
    const double numbers[] = {o->adam.rate, o->adam.head_factor, o->adam.weight_decay, o->adam.clip,
        o->adam.warmup, (double)o->batch, (double)o->epochs, (double)o->max_steps,
        (double)o->step.micro_batch, (double)o->step.negatives, (double)o->step.shared_negatives,
        o->step.lambda, o->step.dropout, (double)study->grid.seeds[seed]};
    char *config =
        model_config_dump(&study->grid.variants[variant].config, study->config_text, study->config_len);
    if (!config)
        return err_set(err, ERR_NOMEM, "out of memory");
    uint64_t hash = XXH3_64bits_withSeed(config, strlen(config), study->data);
    hash = XXH3_64bits_withSeed(numbers, sizeof numbers, hash);
    free(config);
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
    return 0;
}

/* ---- its result in a file ---- */

static int write_result(const struct study *study, size_t variant, size_t seed, struct err *err)
{
    const struct study_result *r = study_result(study, variant, seed);
    const struct model_config *config = &study->grid.variants[variant].config;
    char path[4096], run[64], identity[17];
    struct file_replacement file;
    study_run_name(run, &study->grid, variant, seed);
    int result = identify(identity, study, variant, seed, err);
    if (result == 0)
        result = run_path(path, study, variant, seed, "result.json", err);
    if (result < 0)
        return result;
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "run", run,
        "identity", identity, "variant", study->grid.variants[variant].name, "seed",
        (json_int_t)study->grid.seeds[seed], "ablation", ablation_name(config->ablation), "m",
        (json_int_t)model_m(config), "n", (json_int_t)model_n(config), "session_size",
        (json_int_t)model_session_size(config), "parameters", (json_int_t)r->parameters, "steps",
        (json_int_t)r->steps, "eval", eval_figures_json(&r->eval, err));
    if (!object)
        return err_set(err, ERR_NOMEM, "out of memory");
    result = file_replace_begin(&file, path, err);
    if (result == 0) {
        json_dumpf(
            object, file.stream, EVAL_FIGURES_FORMAT | JSON_INDENT(2)); /* a failure stays in the stream */
        fputc('\n', file.stream);
        result = file_replace_commit(&file, err);
    }
    json_decref(object);
    return result;
}

static int take_result(struct study_result *out, const json_t *object, const char *identity, struct err *err)
{
    const char *of = json_string_value(json_object_get(object, "identity"));
    if (of && strcmp(of, identity) != 0)
        return err_set(err, ERR_INVALID,
            "is of another study: data, config or settings have changed; take another --out, or remove the "
            "run's folder");
    if (!of || eval_figures_parse(&out->eval, json_object_get(object, "eval")) < 0)
        return err_set(err, ERR_CORRUPT, "is no result of a run; remove the run's folder to do it again");
    out->parameters = (size_t)json_integer_value(json_object_get(object, "parameters"));
    out->steps = (size_t)json_integer_value(json_object_get(object, "steps"));
    out->done = true;
    return 0;
}

/* What a finished run is resumed from takes three times its model on the disk, and nobody will resume it. */
static int drop_checkpoint(const struct study *study, size_t variant, size_t seed, struct err *err)
{
    char path[4096];
    const int result = run_path(path, study, variant, seed, "train.safetensors", err);
    if (result < 0)
        return result;
    return unlink(path) == 0 || errno == ENOENT ? 0 : err_errno(err, "remove %s", path);
}

int study_recall(struct study *study, size_t variant, size_t seed, struct err *err)
{
    char path[4096], identity[17], *text;
    size_t len;
    int result = identify(identity, study, variant, seed, err);
    if (result == 0)
        result = run_path(path, study, variant, seed, "result.json", err);
    if (result < 0 || access(path, F_OK) != 0)
        return result;
    result = file_read(&text, &len, path, RESULT_MAX, err);
    if (result < 0)
        return result;
    json_t *object = json_read(text, len, 0, NULL);
    result = take_result(study_result(study, variant, seed), object, identity, err);
    if (result < 0)
        err_place(err, "%s ", path);
    json_decref(object);
    free(text);
    return result < 0 ? result : drop_checkpoint(study, variant, seed, err);
}

/* ---- doing it ---- */

/* The config of a run as a file, which the model is made from. */
static int write_config(
    char path[4096], const struct study *study, size_t variant, size_t seed, struct err *err)
{
    struct file_replacement file;
    int result = run_path(path, study, variant, seed, NULL, err);
    if (result == 0)
        result = file_make_dir(path, err);
    if (result == 0)
        result = run_path(path, study, variant, seed, "config.json", err);
    if (result < 0)
        return result;
    char *text =
        model_config_dump(&study->grid.variants[variant].config, study->config_text, study->config_len);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    result = file_replace_begin(&file, path, err);
    if (result == 0) {
        fprintf(file.stream, "%s\n", text);
        result = file_replace_commit(&file, err);
    }
    free(text);
    return result;
}

static int make_model(
    struct model **out, const struct study *study, size_t variant, size_t seed, struct err *err)
{
    char config[4096];
    const int result = write_config(config, study, variant, seed, err);
    if (result < 0)
        return result;
    if (!study->start)
        return model_init(out, config, study->grid.seeds[seed], err);
    const struct model_load_options options = {true, study->grid.seeds[seed], config};
    return model_load(out, study->start, &options, err);
}

int study_check_start(const struct study *study, struct err *err)
{
    for (size_t v = 0; study->start && v < study->grid.variant_count; v++) {
        struct model *model;
        const int result = make_model(&model, study, v, 0, err);
        if (result < 0) {
            err_place(err, "%s cannot start from %s: ", study->grid.variants[v].name, study->start);
            return result;
        }
        model_free(model);
    }
    return 0;
}

/* The catalogue is read and tokenised once: no axis changes what an item's tokens are. */
static int take_model(struct study *study, struct model *model, struct err *err)
{
    const struct workspace_options options = {
        .news = study->args->news, .rows = {.max_bad = study->args->max_bad, .quiet = study->args->quiet}};
    if (study->opened)
        return workspace_replace_model(&study->workspace, model, err);
    int result = workspace_open_around(&study->workspace, model, study->vocab, &options, err);
    study->opened = result == 0;
    if (result == 0)
        result = validation_check(&study->workspace,
            &(struct validation_options){.path = study->args->valid, .max_bad = study->args->max_bad},
            study->args->quiet, err);
    return result;
}

static size_t count_parameters(const struct model *model)
{
    size_t count = 0; /* without the tensors that the ablation leaves unused */
    for (size_t i = 0; i < model->tensor_count; i++)
        count += model->tensors[i].optional ? 0 : model->tensors[i].rows * model->tensors[i].cols;
    return count;
}

static int evaluate(struct study_result *out, const struct study *study, struct err *err)
{
    const struct train_args *a = study->args;
    const struct eval_options options = {
        .impressions = {.path = a->valid, .max_bad = a->max_bad, .label_needed = true, .quiet = a->quiet},
        .threads = (long)study->options->step.threads,
        .quiet = a->quiet};
    const int result = eval_job(&out->eval, &study->workspace, &options, err);
    if (result == 0 && isnan(out->eval.mean.auc))
        return err_set(err, ERR_INVALID, "%s has no impression with a positive and a negative", a->valid);
    return result;
}

int study_run(
    struct study *study, size_t variant, size_t seed, const char *label, size_t following, struct err *err)
{
    struct study_result *out = study_result(study, variant, seed);
    struct train_options options = *study->options;
    struct model *model;
    char dir[4096];
    int result = run_path(dir, study, variant, seed, NULL, err);
    if (result == 0)
        result = make_model(&model, study, variant, seed, err);
    if (result == 0)
        result = take_model(study, model, err);
    if (result < 0)
        return result;
    options.out = dir;
    options.resume = true;
    options.label = label;
    options.following = following;
    options.step.seed = study->grid.seeds[seed];
    result = train_args_run(
        study->args, &options, study->vocab, &study->workspace, study->ranks, &out->steps, err);
    if (result == 0)
        result = evaluate(out, study, err);
    if (result < 0)
        return result;
    out->parameters = count_parameters(study->workspace.model);
    result = write_result(study, variant, seed, err);
    if (result == 0)
        result = drop_checkpoint(study, variant, seed, err);
    out->done = result == 0;
    return result;
}
