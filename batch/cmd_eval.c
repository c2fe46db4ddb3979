#include "batch/commands.h"
#include "batch/eval_figures.h"
#include "batch/progress.h"
#include "batch/stop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MODELS_MAX = 32 };

/* Leave something out of a model that was made with it, in memory alone. The other way round is refused where
 * the file has none of the tensors that are wanted back: they are zero then, and would rank at random. */
static int ablate(struct model *model, enum ablation ablation, struct err *err)
{
    if (model->config.ablation == ablation)
        return 0;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        size_t at = 0;
        while (
            tensor->optional && at < tensor->rows * tensor->cols && model->params[tensor->offset + at] == 0)
            at++;
        if (tensor->optional && at == tensor->rows * tensor->cols)
            return err_set(err, ERR_INVALID, "the model was made with the ablation %s and has no %s",
                ablation_name(model->config.ablation), tensor->name);
    }
    model->config.ablation = ablation;
    return 0;
}

static json_t *describe(
    const struct eval_result *result, const struct workspace *workspace, double seconds, struct err *err)
{
    json_t *object = eval_figures_json(result, err);
    if (!object)
        return NULL;
    int failed = 0;
    failed |= json_object_set_new(object, "model_sha256", json_string(workspace->model_sha256));
    failed |= json_object_set_new(
        object, "ablation", json_string(ablation_name(workspace->model->config.ablation)));
    failed |= json_object_set_new(object, "dtype", json_string(linear_dtype_name(workspace->dtype)));
    failed |= json_object_set_new(object, "seconds", json_real(seconds));
    if (!failed)
        return object;
    json_decref(object);
    err_set(err, ERR_NOMEM, "out of memory");
    return NULL;
}

/* By how much each figure of the dtype is above the reference's; NULL when memory is short. */
static json_t *differences(const struct eval_comparison *comparison)
{
    json_t *object = json_object();
    int failed = 0;
    for (size_t k = 0; k < EVAL_FIGURES; k++) {
        const double by = eval_figure(&comparison->found, k) - eval_figure(&comparison->reference, k);
        failed |= json_object_set_new(object, eval_figure_name(k), isnan(by) ? json_null() : json_real(by));
    }
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

/* Add to the object of the dtype that was asked for what it is worth against the reference. */
static int describe_against(
    json_t *object, const struct eval_comparison *comparison, enum linear_dtype reference, struct err *err)
{
    json_t *figures = eval_figures_json(&comparison->reference, err),
           *agreement = eval_agreement_json(&comparison->agreement, err);
    int failed = json_object_set_new(object, "against", json_string(linear_dtype_name(reference)));
    failed |= json_object_set_new(object, "reference", figures);
    failed |= json_object_set_new(object, "difference", differences(comparison));
    failed |= json_object_set_new(object, "agreement", agreement);
    return failed ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

/* What was asked: the same data and options for every model. */
struct request {
    struct workspace_options inputs; /* .model is set for each in turn */
    struct eval_options options;
    const char *ablation; /* NULL: as each model's config has it */
    bool two_dtypes;
    enum linear_dtype reference; /* that inputs.dtype is compared with */
};

/* One model: its results, and the JSON object about them (the caller's to decref). */
static int eval(struct eval_result *out, json_t **object, const struct request *request, const char *model,
    struct err *err)
{
    const double started = progress_now();
    struct workspace_options inputs = request->inputs;
    struct workspace workspace;
    enum ablation wanted = ABLATION_NONE;
    inputs.model = model;
    int result = request->ablation ? ablation_parse(&wanted, request->ablation, err) : 0;
    if (result == 0)
        result = workspace_open(&workspace, &inputs, err);
    if (result < 0)
        return result;
    result = workspace_tokenise_all(&workspace, inputs.rows.quiet, err);
    if (result == 0 && request->ablation)
        result = ablate(workspace.model, wanted, err);
    struct eval_comparison comparison = {0};
    if (result == 0 && request->two_dtypes) {
        result = eval_job_against(&comparison, &workspace, request->reference, &request->options, err);
        *out = comparison.found;
    } else if (result == 0)
        result = eval_job(out, &workspace, &request->options, err);
    if (result == 0) {
        *object = describe(out, &workspace, progress_now() - started, err);
        result = *object ? 0 : -ERR_NOMEM;
    }
    if (result == 0 && request->two_dtypes)
        result = describe_against(*object, &comparison, request->reference, err);
    eval_agreement_done(&comparison.agreement);
    workspace_close(&workspace);
    return result;
}

static void print_table(const char *const *models, const struct eval_result *results, size_t count)
{
    int width = 5;
    for (size_t i = 0; i < count; i++)
        width = (int)strlen(models[i]) > width ? (int)strlen(models[i]) : width;
    fprintf(stderr, "%-*s", width, "model");
    for (size_t k = 0; k < EVAL_FIGURES; k++)
        fprintf(stderr, "  %10s", eval_figure_name(k));
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "\n%-*s", width, models[i]);
        for (size_t k = 0; k < EVAL_FIGURES; k++) {
            const double value = eval_figure(&results[i], k);
            if (isnan(value))
                fprintf(stderr, "  %10s", "-");
            else
                fprintf(stderr, "  %10.4f", value);
        }
    }
    fputc('\n', stderr);
}

static int print_json(const json_t *value, struct err *err)
{
    if (json_dumpf(value, stdout, EVAL_FIGURES_FORMAT) == 0 && puts("") >= 0 && fflush(stdout) == 0)
        return 0;
    return err_errno(err, "write the results");
}

/* Several models side by side: a table on stderr, a list of their objects on stdout. */
static int compare(const struct request *request, const char *const *models, size_t count, struct err *err)
{
    struct eval_result results[1 + MODELS_MAX];
    json_t *list = json_array();
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        json_t *object = NULL;
        progress_say(request->options.quiet, "%s", models[i]);
        result = eval(&results[i], &object, request, models[i], err);
        if (result < 0)
            err_place(err, "%s: ", models[i]);
        else if (json_object_set_new(object, "model", json_string(models[i])) < 0 ||
                 json_array_append(list, object) < 0)
            result = err_set(err, ERR_NOMEM, "out of memory");
        json_decref(object);
    }
    if (result == 0 && !request->options.quiet)
        print_table(models, results, count);
    if (result == 0)
        result = print_json(list, err);
    json_decref(list);
    return result;
}

static int eval_one(const struct request *request, const char *model, struct err *err)
{
    struct eval_result results;
    json_t *object = NULL;
    int result = eval(&results, &object, request, model, err);
    if (result == 0)
        result = print_json(object, err);
    json_decref(object);
    return result;
}

/* How the arguments fit together; NULL when they do. */
static const char *contradiction(const struct request *request, bool comparing, int others)
{
    enum ablation ignored;
    if (!comparing && others)
        return "more than one model needs --compare";
    if (comparing && !others)
        return "--compare needs the folders of the other models behind it; --against compares dtypes";
    if (comparing && request->two_dtypes)
        return "--against is for one model";
    if (request->two_dtypes && request->inputs.dtype == request->reference)
        return "--against must be another dtype than --dtype, which is float32 unless given";
    if (comparing && request->options.predictions)
        return "--predictions is for one model";
    if (request->ablation && ablation_parse(&ignored, request->ablation, NULL) < 0)
        return "--ablate must be none, no_cpe, no_upe, no_grouping or no_lsum";
    return NULL;
}

static const char about[] =
    "Rank the candidates of every impression and print MIND's metrics as one JSON object. An impression\n"
    "without a positive or without a negative is counted as skipped and is in no mean. Memory grows with\n"
    "the contents that occur (8 n d bytes each), not with the impressions, but for 4 bytes a candidate\n"
    "for auc_pooled.\n"
    "--dtype int8 --against float32 evaluates in both, in one pass and twice the memory, and adds\n"
    "`reference` (float32's metrics), `difference` and `agreement`: Kendall's tau of the two rankings of\n"
    "an impression with two candidates or more (mean, least), the share of these with the same candidate\n"
    "on top, and the relative errors (Frobenius; count, mean, largest) of B of all contents, of A of all\n"
    "histories, and of each impression's scores.";

int command_eval(int argc, char **argv)
{
    const char *models[1 + MODELS_MAX] = {NULL}, *behaviors = NULL, *dtype = NULL, *against = NULL;
    struct request request = {0};
    bool comparing = false, quiet = false;
    struct tsv_limit max_bad = {0};
    long limit = 0;
    const struct option options[] = {
        {"model", "DIR", "the model's folder", true, OPTION_TEXT, &models[0], 0, 0},
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &request.inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv, a file that can be read twice", true, OPTION_TEXT, &behaviors,
            0, 0},
        {"ablate", "NAME", "none, no_cpe, no_upe, no_grouping or no_lsum, in place of the model's own", false,
            OPTION_TEXT, &request.ablation, 0, 0},
        {"predictions", "FILE", "write MIND's prediction.txt; the candidates may then have no labels", false,
            OPTION_TEXT, &request.options.predictions, 0, 0},
        {"compare", NULL, "evaluate the models named behind it, too: a table on stderr, a list on stdout",
            false, OPTION_FLAG, &comparing, 0, 0},
        {"limit", "N", "the first N impressions; 0, all of them, unless given", false, OPTION_NUMBER, &limit,
            0, 1000000000},
        WORKSPACE_DTYPE_OPTION(dtype),
        {"against", "NAME", "evaluate in this dtype, too, and tell what --dtype loses by it", false,
            OPTION_TEXT, &against, 0, 0},
        {"threads", "N", "0, one a core, unless given", false, OPTION_NUMBER, &request.options.threads, 0,
            1024},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &max_bad, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &quiet, 0, 0},
    };
    const struct command command = {"eval --model DIR --news FILE --behaviors FILE [--ablate NAME] "
                                    "[--predictions FILE] [--against NAME] [--compare DIR...]",
        about, options, sizeof options / sizeof *options, models + 1, MODELS_MAX};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (workspace_dtype(&request.inputs, dtype) != EXIT_DONE)
        return EXIT_USAGE;
    struct err unknown = ERR_INIT;
    if (against && linear_dtype_parse(&request.reference, against, &unknown) < 0) {
        fprintf(stderr, "embsum eval: --against: %s\n", unknown.message);
        return EXIT_USAGE;
    }
    request.two_dtypes = against != NULL;
    const char *wrong = contradiction(&request, comparing, parsed);
    if (wrong) {
        fprintf(stderr, "embsum eval: %s\n", wrong);
        return EXIT_USAGE;
    }
    request.inputs.rows = (struct tsv_options){.max_bad = max_bad, .quiet = quiet};
    request.options.quiet = quiet;
    request.options.impressions = (struct impressions_options){.path = behaviors,
        .max_bad = max_bad,
        .limit = (size_t)limit,
        .label_needed = !request.options.predictions,
        .quiet = quiet};
    struct err err = ERR_INIT;
    stop_on_signals();
    const int result =
        comparing ? compare(&request, models, 1 + (size_t)parsed, &err) : eval_one(&request, models[0], &err);
    return result < 0 ? command_failed("eval", &err) : EXIT_DONE;
}
