#include "batch/study_report.h"

#include "batch/eval_figures.h"
#include "batch/plot.h"
#include "core/file.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* One figure of a variant over the seeds. */
struct spread {
    double mean, low, high, deviation; /* the deviation of a sample; NaN with one seed */
};

static struct spread spread_of(const struct study *study, size_t variant, size_t figure)
{
    const size_t seeds = study->grid.seed_count;
    struct spread s = {0, INFINITY, -INFINITY, NAN};
    double squares = 0;
    for (size_t i = 0; i < seeds; i++) {
        const double value = eval_figure(&study_result(study, variant, i)->eval, figure);
        s.mean += value / (double)seeds;
        s.low = fmin(s.low, value);
        s.high = fmax(s.high, value);
    }
    for (size_t i = 0; i < seeds; i++) {
        const double value = eval_figure(&study_result(study, variant, i)->eval, figure);
        squares += (value - s.mean) * (value - s.mean);
    }
    if (seeds > 1)
        s.deviation = sqrt(squares / (double)(seeds - 1));
    return s;
}

enum { AUC = 0, MRR = 1, NDCG10 = 3 }; /* of the figures of an evaluation */

static const char *verdict(const struct study *study, size_t variant)
{
    const struct spread base = spread_of(study, 0, AUC), own = spread_of(study, variant, AUC);
    if (variant == 0)
        return "";
    if (study->grid.seed_count == 1)
        return "one seed tells nothing of the spread";
    if (own.high < base.low)
        return "worse, with every seed";
    if (own.low > base.high)
        return "better, with every seed";
    return "within the spread of the seeds";
}

/* ---- text ---- */

static void print_axis(FILE *stream, const struct study *study, enum study_axis axis)
{
    static const size_t columns[] = {AUC, MRR, NDCG10};
    const struct study_grid *grid = &study->grid;
    const double base = spread_of(study, 0, AUC).mean;
    fprintf(stream, "\n%-14s", study_axis_name(axis));
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
        fprintf(stream, "%-27s", eval_figure_name(columns[c]));
    fprintf(stream, "%-9s parameters\n", "auc diff");
    for (size_t i = 0; i < grid->value_count[axis]; i++) {
        const struct study_value *value = &grid->values[axis][i];
        char name[32];
        if (axis == STUDY_ABLATION)
            snprintf(name, sizeof name, "%s", ablation_name((enum ablation)value->value));
        else
            snprintf(name, sizeof name, "%zu", value->value);
        fprintf(stream, "%-14s", name);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            const struct spread s = spread_of(study, value->variant, columns[c]);
            fprintf(stream, "%.4f (%.4f to %.4f)  ", s.mean, s.low, s.high);
        }
        fprintf(stream, "%+.4f  %10zu  %s\n", spread_of(study, value->variant, AUC).mean - base,
            study_result(study, value->variant, 0)->parameters, verdict(study, value->variant));
    }
}

void study_report_text(FILE *stream, const struct study *study)
{
    const struct study_grid *grid = &study->grid;
    fprintf(stream,
        "%zu variants x %zu seeds, %zu steps each, %zu impressions; mean (lowest to highest seed)\n",
        grid->variant_count, grid->seed_count, study_result(study, 0, 0)->steps,
        study_result(study, 0, 0)->eval.impressions);
    for (size_t axis = 0; axis < STUDY_AXES; axis++)
        if (grid->value_count[axis])
            print_axis(stream, study, (enum study_axis)axis);
}

/* ---- JSON ---- */

static json_t *number(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *variant_json(const struct study *study, size_t variant)
{
    const struct study_grid *grid = &study->grid;
    json_t *object = json_object(), *runs = json_array();
    json_object_set_new(object, "variant", json_string(grid->variants[variant].name));
    json_object_set_new(
        object, "parameters", json_integer((json_int_t)study_result(study, variant, 0)->parameters));
    for (size_t figure = 0; figure < EVAL_FIGURES; figure++) {
        const struct spread s = spread_of(study, variant, figure);
        json_t *own = json_object();
        json_object_set_new(own, "mean", number(s.mean));
        json_object_set_new(own, "low", number(s.low));
        json_object_set_new(own, "high", number(s.high));
        json_object_set_new(own, "deviation", number(s.deviation));
        json_object_set_new(object, eval_figure_name(figure), own);
    }
    if (variant)
        json_object_set_new(object, "verdict", json_string(verdict(study, variant)));
    for (size_t i = 0; i < grid->seed_count; i++) {
        json_t *run = json_object();
        json_object_set_new(run, "seed", json_integer((json_int_t)grid->seeds[i]));
        json_object_set_new(run, "eval", eval_figures_json(&study_result(study, variant, i)->eval, NULL));
        json_array_append_new(runs, run);
    }
    json_object_set_new(object, "runs", runs);
    return object;
}

/* {"ablation": [["none", "base"], ...], "m": [[8, "base"], ...], ...}: which variant stands for a value. */
static json_t *axes_json(const struct study_grid *grid)
{
    json_t *axes = json_object();
    for (size_t axis = 0; axis < STUDY_AXES; axis++) {
        json_t *values = json_array();
        for (size_t i = 0; i < grid->value_count[axis]; i++) {
            const struct study_value *value = &grid->values[axis][i];
            json_t *pair = json_array();
            json_array_append_new(pair, axis == STUDY_ABLATION
                                            ? json_string(ablation_name((enum ablation)value->value))
                                            : json_integer((json_int_t)value->value));
            json_array_append_new(pair, json_string(grid->variants[value->variant].name));
            json_array_append_new(values, pair);
        }
        json_object_set_new(axes, study_axis_name((enum study_axis)axis), values);
    }
    return axes;
}

static int write_json(const struct study *study, struct err *err)
{
    char path[4096];
    struct file_replacement file;
    json_t *object = json_object(), *variants = json_array();
    for (size_t v = 0; v < study->grid.variant_count; v++)
        json_array_append_new(variants, variant_json(study, v));
    json_object_set_new(object, "steps", json_integer((json_int_t)study_result(study, 0, 0)->steps));
    json_object_set_new(object, "axes", axes_json(&study->grid));
    json_object_set_new(object, "variants", variants);
    int result = file_path(path, study->dir, "study.json", err);
    if (result == 0)
        result = file_replace_begin(&file, path, err);
    if (result == 0 && json_dumpf(object, file.stream, EVAL_FIGURES_FORMAT | JSON_INDENT(2)) < 0) {
        file_replace_abort(&file);
        result = err_set(err, ERR_NOMEM, "out of memory for %s", path);
    } else if (result == 0) {
        fputc('\n', file.stream);
        result = file_replace_commit(&file, err);
    }
    json_decref(object);
    return result;
}

/* ---- SVG ---- */

struct axis_plot {
    double x[STUDY_VALUES], y[2][STUDY_VALUES], low[2][STUDY_VALUES], high[2][STUDY_VALUES];
    const char *names[STUDY_VALUES];
    struct plot_series series[2]; /* AUC, MRR */
};

static struct plot_panel ablations_panel(struct axis_plot *p, const struct study *study)
{
    const struct study_grid *grid = &study->grid;
    const double base = spread_of(study, 0, AUC).mean;
    size_t count = 0;
    for (size_t i = 0; i < grid->value_count[STUDY_ABLATION]; i++) {
        const struct study_value *value = &grid->values[STUDY_ABLATION][i];
        const struct spread s = spread_of(study, value->variant, AUC);
        if (value->variant == 0)
            continue;
        p->names[count] = ablation_name((enum ablation)value->value);
        p->y[0][count] = s.mean - base;
        p->low[0][count] = s.low - base;
        p->high[0][count++] = s.high - base;
    }
    p->series[0] = (struct plot_series){.count = count, .y = p->y[0], .low = p->low[0], .high = p->high[0]};
    return (struct plot_panel){.title = "Ablations: AUC against the base's",
        .kind = PLOT_BARS,
        .series = p->series,
        .series_count = 1,
        .names = p->names};
}

static struct plot_panel sizes_panel(struct axis_plot *p, const struct study *study, enum study_axis axis)
{
    static const char *const titles[STUDY_AXES] = {NULL, "User codes", "Content codes", "Session size"};
    static const char *const labels[STUDY_AXES] = {NULL, "m", "n", "items a session"};
    const struct study_grid *grid = &study->grid;
    const size_t count = grid->value_count[axis];
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < count; i++) {
            const struct study_value *value = &grid->values[axis][i];
            const struct spread s = spread_of(study, value->variant, k ? MRR : AUC);
            p->x[i] = (double)value->value;
            p->y[k][i] = s.mean;
            p->low[k][i] = s.low;
            p->high[k][i] = s.high;
        }
        p->series[k] = (struct plot_series){.name = k ? "MRR" : "AUC",
            .count = count,
            .x = p->x,
            .y = p->y[k],
            .low = p->low[k],
            .high = p->high[k],
            .color = k};
    }
    return (struct plot_panel){.title = titles[axis],
        .x_label = labels[axis],
        .series = p->series,
        .series_count = 2,
        .x_log = true};
}

static int write_svg(const struct study *study, struct err *err)
{
    char path[4096], about[160];
    struct axis_plot plots[STUDY_AXES];
    struct plot_panel panels[STUDY_AXES];
    size_t count = 0;
    for (size_t axis = 0; axis < STUDY_AXES; axis++)
        if (study->grid.value_count[axis]) {
            struct axis_plot *const own = &plots[count];
            panels[count++] = axis == STUDY_ABLATION ? ablations_panel(own, study)
                                                     : sizes_panel(own, study, (enum study_axis)axis);
        }
    snprintf(about, sizeof about,
        "%zu variants, %zu seeds, %zu steps each; whiskers reach to the lowest and highest seed.",
        study->grid.variant_count, study->grid.seed_count, study_result(study, 0, 0)->steps);
    const struct plot plot = {"Study", about, panels, count, count < 2 ? 1 : 2};
    const int result = file_path(path, study->dir, "study.svg", err);
    return result < 0 ? result : plot_write(path, &plot, err);
}

int study_report_write(const struct study *study, struct err *err)
{
    const int result = write_json(study, err);
    return result < 0 ? result : write_svg(study, err);
}
