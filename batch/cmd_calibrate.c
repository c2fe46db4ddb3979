#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/workspace.h"
#include "core/array.h"
#include "core/file.h"
#include "core/t5.h"
#include "core/t5_smooth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Texts from all over the catalogue, as tokens. */
struct sample {
    int32_t *ids;
    size_t *offsets, count;
};

static void sample_done(struct sample *sample)
{
    free(sample->ids);
    free(sample->offsets);
}

static int sample_texts(struct sample *sample, const struct workspace *w, size_t most, struct err *err)
{
    const size_t all = w->news.ids.count, count = all < most ? all : most,
                 longest = text_item_max(&w->model->config);
    struct workspace_scratch scratch = {0};
    int result = 0;
    *sample = (struct sample){malloc((count + 1) * longest * sizeof *sample->ids),
        calloc(count + 1, sizeof *sample->offsets), count};
    if (!sample->ids || !sample->offsets)
        result = err_set(err, ERR_NOMEM, "out of memory for %zu texts", count);
    for (size_t i = 0; result == 0 && i < count; i++) {
        size_t length;
        result =
            workspace_tokens(w, i * all / count, sample->ids + sample->offsets[i], &length, &scratch, err);
        if (result == 0)
            sample->offsets[i + 1] = sample->offsets[i] + length;
    }
    workspace_scratch_done(&scratch);
    return result;
}

/* What the whole encoder loses in int8, relative in the Frobenius norm of all states; exact: float32's. */
static int measure(
    double *out, const struct model *model, const struct sample *sample, const float *exact, struct err *err)
{
    const size_t d = model->config.d_model;
    double squares = 0, total = 0;
    struct engine *engine = NULL;
    struct engine_scratch *scratch = NULL;
    float *const states = array_floats(sample->offsets[sample->count] * d, false);
    int result = states ? engine_new(&engine, model, LINEAR_INT8, NULL, err)
                        : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0)
        result = engine_scratch_new(&scratch, err);
    for (size_t i = 0; result == 0 && i < sample->count; i++) {
        const size_t first = sample->offsets[i];
        const struct engine_sequence sequence = {
            sample->ids + first, sample->offsets[i + 1] - first, states + first * d, NULL};
        result = engine_encode(engine, &sequence, 1, scratch, err);
    }
    for (size_t i = 0; result == 0 && i < sample->offsets[sample->count] * d; i++) {
        squares += pow((double)states[i] - (double)exact[i], 2);
        total += (double)exact[i] * (double)exact[i];
    }
    *out = total > 0 ? sqrt(squares / total) : 0;
    engine_scratch_free(scratch);
    engine_free(engine);
    free(states);
    return result;
}

static void tell(void *ctx, const struct t5_smoothed *product)
{
    const bool *const quiet = ctx;
    progress_say(*quiet, "layer %zu %-3s  strength %.2f  %.3f %% off, was %.3f %%", product->layer,
        product->name, product->strength, 100 * product->after, 100 * product->before);
}

static int calibrate(const struct workspace *w, const struct sample *sample, bool quiet, struct err *err)
{
    const size_t tokens = sample->offsets[sample->count];
    double before = 0, after = 0;
    struct t5_scratch *scratch = NULL;
    float *const exact = array_floats(tokens * w->model->config.d_model, false);
    int result = exact ? t5_scratch_new(&scratch, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0)
        result = t5_encode(exact, w->model, sample->ids, sample->offsets, sample->count, scratch, err);
    if (result == 0)
        result = measure(&before, w->model, sample, exact, err);
    if (result == 0)
        result = t5_smooth(w->model, sample->ids, sample->offsets, sample->count, tell, &quiet, err);
    if (result == 0)
        result = measure(&after, w->model, sample, exact, err);
    if (result == 0)
        printf("%zu texts, %zu tokens: states in int8 are %.3f %% off, were %.3f %%\n", sample->count, tokens,
            100 * after, 100 * before);
    t5_scratch_free(scratch);
    free(exact);
    return result;
}

static int run(
    const struct workspace *w, const char *vocab, const char *out, size_t texts, bool quiet, struct err *err)
{
    struct sample sample;
    int result = sample_texts(&sample, w, texts, err);
    if (result == 0)
        result = calibrate(w, &sample, quiet, err);
    if (result == 0 && stop_asked())
        result = err_set(err, ERR_UNAVAILABLE, "stopped by a signal");
    if (result == 0)
        result = workspace_make_dir(out, vocab, err);
    if (result == 0)
        result = model_save(w->model, out, err);
    sample_done(&sample);
    return result;
}

int command_calibrate(int argc, char **argv)
{
    struct workspace_options inputs = {0};
    const char *out = NULL;
    char vocab[4096];
    long texts = 128;
    const struct option options[] = {
        {"model", "DIR", "the model's folder", true, OPTION_TEXT, &inputs.model, 0, 0},
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &inputs.news, 0, 0},
        {"out", "DIR", "folder of the calibrated model, made if it is missing", true, OPTION_TEXT, &out, 0,
            0},
        {"texts", "N", "calibrate on so many, from all over the file; 128 unless given", false, OPTION_NUMBER,
            &texts, 1, 4096},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &inputs.rows.max_bad, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &inputs.rows.quiet, 0, 0},
    };
    const struct command command = {"calibrate --model DIR --news FILE --out DIR",
        "Make a model that loses less with --dtype int8: large channels of the encoder are moved from the\n"
        "activations into the weights, as far as it helps on the given texts. With --dtype float32 or\n"
        "bfloat16 it gives what it gave before, bit for bit.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    struct workspace workspace;
    stop_on_signals();
    int result = workspace_no_model(out, &err);
    if (result == 0)
        result = file_path(vocab, inputs.model, "spiece.model", &err);
    if (result == 0)
        result = workspace_open(&workspace, &inputs, &err);
    if (result == 0) {
        result = run(&workspace, vocab, out, (size_t)texts, inputs.rows.quiet, &err);
        workspace_close(&workspace);
    }
    return result < 0 ? command_failed("calibrate", &err) : EXIT_DONE;
}
