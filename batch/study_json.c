/* study.json: every run, and every axis with its figures. */
#include "batch/eval_figures.h"
#include "batch/study_report.h"
#include "core/file.h"
#include "core/json.h"

#include <math.h>

static json_t *real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *describe_figure(const struct study *study, size_t variant, size_t index)
{
    static const char *const verdicts[] = {[STUDY_LOWER] = "lower",
        [STUDY_HIGHER] = "higher",
        [STUDY_WITHIN] = "no",
        [STUDY_UNKNOWN] = "unknown"};
    const struct study_figure f = study_figure(study, variant, index), base = study_figure(study, 0, index);
    json_t *object = json_pack("{s:I, s:o, s:o, s:o}", "runs", (json_int_t)f.runs, "mean", real(f.mean),
        "min", real(f.low), "max", real(f.high));
    if (variant && object) {
        json_object_set_new(object, "difference", real(f.difference));
        json_object_set_new(object, "difference_min", real(f.difference_low));
        json_object_set_new(object, "difference_max", real(f.difference_high));
        json_object_set_new(object, "beyond_spread", json_string(verdicts[study_verdict(&f, &base)]));
    }
    return object;
}

static json_t *describe_value(const struct study *study, enum study_axis axis, const struct study_value *v)
{
    json_t *object = json_object();
    json_object_set_new(object, "value",
        axis == STUDY_ABLATION ? json_string(ablation_name((enum ablation)v->value))
                               : json_integer((json_int_t)v->value));
    json_object_set_new(object, "variant", json_string(study->grid.variants[v->variant].name));
    for (size_t i = 0; i < EVAL_FIGURES; i++)
        json_object_set_new(object, eval_figure_name(i), describe_figure(study, v->variant, i));
    return object;
}

static json_t *describe_run(const struct study *study, size_t variant, size_t seed)
{
    const struct study_result *r = study_result(study, variant, seed);
    char name[64];
    study_run_name(name, &study->grid, variant, seed);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "run", name, "variant",
        study->grid.variants[variant].name, "seed", (json_int_t)study->grid.seeds[seed], "parameters",
        (json_int_t)r->parameters, "steps", (json_int_t)r->steps, "eval", eval_figures_json(&r->eval, NULL));
}

/* NULL when memory is short. */
static json_t *describe(const struct study *study)
{
    const struct study_grid *grid = &study->grid;
    const size_t failures = json_failures();
    json_t *object = json_object(), *runs = json_array(), *axes = json_object();
    json_object_set_new(
        object, "planned", json_integer((json_int_t)(grid->variant_count * grid->seed_count)));
    json_object_set_new(object, "batch", json_integer((json_int_t)study->options->batch));
    for (size_t s = 0; s < grid->seed_count; s++)
        for (size_t v = 0; v < grid->variant_count; v++)
            if (study_result(study, v, s)->done)
                json_array_append_new(runs, describe_run(study, v, s));
    for (size_t axis = 0; axis < STUDY_AXES; axis++) {
        json_t *values = json_array();
        for (size_t k = 0; k < grid->value_count[axis]; k++)
            json_array_append_new(
                values, describe_value(study, (enum study_axis)axis, &grid->values[axis][k]));
        if (grid->value_count[axis])
            json_object_set_new(axes, study_axis_name((enum study_axis)axis), values);
        else
            json_decref(values);
    }
    json_object_set_new(object, "runs", runs);
    json_object_set_new(object, "axes", axes);
    if (failures == json_failures())
        return object;
    json_decref(object);
    return NULL;
}

int study_json(const struct study *study, const char *path, struct err *err)
{
    struct file_replacement file;
    json_t *object = describe(study);
    if (!object)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = file_replace_begin(&file, path, err);
    if (result == 0) {
        json_dumpf(
            object, file.stream, EVAL_FIGURES_FORMAT | JSON_INDENT(2)); /* a failure stays in the stream */
        fputc('\n', file.stream);
        result = file_replace_commit(&file, err);
    }
    json_decref(object);
    return result;
}
