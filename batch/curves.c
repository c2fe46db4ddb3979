#include "batch/curves.h"

#include "batch/plot.h"
#include "core/array.h"

#include <stdlib.h>

enum {
    POINTS_MAX = 300, /* of a line: more cannot be seen */
    SMOOTH = 25       /* a smoothed point is a mean over 2/25 of the line, or 3 points */
};

void curves_done(struct curves *curves)
{
    free(curves->steps);
    free(curves->validations);
    *curves = (struct curves){0};
}

int curves_add_step(struct curves *c, const struct curves_step *step, struct err *err)
{
    const int result = array_grow(&c->steps, &c->step_size, c->step_count + 1, sizeof *c->steps, err);
    if (result == 0)
        c->steps[c->step_count++] = *step;
    return result;
}

int curves_add_validation(struct curves *c, const struct curves_validation *validation, struct err *err)
{
    const int result = array_grow(
        &c->validations, &c->validation_size, c->validation_count + 1, sizeof *c->validations, err);
    if (result == 0)
        c->validations[c->validation_count++] = *validation;
    return result;
}

/* y[i] = the mean of a stretch of steps, `points` of them; value() picks what is drawn. */
static void thin(
    double *y, const struct curves *c, size_t points, double (*value)(const struct curves_step *))
{
    for (size_t i = 0; i < points; i++) {
        const size_t first = c->step_count * i / points, end = c->step_count * (i + 1) / points;
        double sum = 0;
        for (size_t k = first; k < end; k++)
            sum += value(&c->steps[k]);
        y[i] = sum / (double)(end - first);
    }
}

/* The mean over as many points to the left as to the right, fewer at the ends, so that nothing is shifted. */
static void smooth(double *out, const double *y, size_t points)
{
    const size_t reach = points / SMOOTH > 1 ? points / SMOOTH : 1;
    for (size_t i = 0; i < points; i++) {
        size_t side = i < reach ? i : reach;
        side = points - 1 - i < side ? points - 1 - i : side;
        double sum = 0;
        for (size_t k = i - side; k <= i + side; k++)
            sum += y[k];
        out[i] = sum / (double)(2 * side + 1);
    }
}

static double value_step(const struct curves_step *s)
{
    return s->step;
}
static double value_loss(const struct curves_step *s)
{
    return s->loss;
}
static double value_nce(const struct curves_step *s)
{
    return s->nce;
}
static double value_sum(const struct curves_step *s)
{
    return s->sum;
}

struct figure {
    double x[POINTS_MAX];
    struct line {
        double y[POINTS_MAX], smooth[POINTS_MAX]; /* as it is, and smoothed */
        struct plot_series series[2];
    } lines[3];
    struct plot_series validation[2];
    struct plot_panel panels[4];
    size_t panel_count;
};

static void add_loss(struct figure *f, const struct curves *c, size_t points, const char *title,
    const char *name, size_t color, double (*value)(const struct curves_step *))
{
    struct line *line = &f->lines[f->panel_count];
    const struct plot_series both = {.count = points, .x = f->x, .y = line->y, .color = color, .faint = true};
    thin(line->y, c, points, value);
    smooth(line->smooth, line->y, points);
    line->series[0] = line->series[1] = both;
    line->series[1].name = name;
    line->series[1].y = line->smooth;
    line->series[1].faint = false;
    f->panels[f->panel_count++] =
        (struct plot_panel){.title = title, .x_label = "step", .series = line->series, .series_count = 2};
}

/* memory: room for 3 numbers a validation. */
static void add_validations(struct figure *f, const struct curves *c, double *memory)
{
    const size_t count = c->validation_count;
    for (size_t i = 0; i < count; i++) {
        memory[i] = c->validations[i].step;
        memory[count + i] = c->validations[i].auc;
        memory[2 * count + i] = c->validations[i].mrr;
    }
    f->validation[0] = (struct plot_series){.name = "AUC", .count = count, .x = memory, .y = memory + count};
    f->validation[1] =
        (struct plot_series){.name = "MRR", .count = count, .x = memory, .y = memory + 2 * count, .color = 2};
    f->panels[f->panel_count++] = (struct plot_panel){
        .title = "Validation", .x_label = "step", .series = f->validation, .series_count = 2};
}

int curves_write(const struct curves *c, const char *path, struct err *err)
{
    const size_t points = c->step_count < POINTS_MAX ? c->step_count : POINTS_MAX;
    struct figure *f = calloc(1, sizeof *f);
    double *memory = malloc((3 * c->validation_count + 1) * sizeof *memory);
    bool summaries = false;
    int result = f && memory ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < c->step_count; i++)
        summaries |= c->steps[i].sum > 0;
    if (result == 0) {
        thin(f->x, c, points, value_step);
        if (summaries) /* without them L is L_NCE */
            add_loss(f, c, points, "Loss of an example", "L = L_NCE + lambda L_sum", 0, value_loss);
        add_loss(f, c, points, "Ranking loss of an example", "L_NCE", 1, value_nce);
        if (summaries)
            add_loss(f, c, points, "Summary loss of an example", "L_sum", 3, value_sum);
        if (c->validation_count)
            add_validations(f, c, memory);
        const struct plot plot = {"Training",
            "The training losses over the steps, as they are and smoothed, and AUC and MRR of the "
            "validations.",
            f->panels, f->panel_count, f->panel_count < 2 ? 1 : 2};
        result = plot_write(path, &plot, err);
    }
    free(f);
    free(memory);
    return result;
}
