/* study.svg: a panel an axis, and the ablations as what each costs. */
#include "batch/plot.h"
#include "batch/study_report.h"

#include <stdlib.h>

enum { AUC };

/* One panel's numbers. */
struct panel {
    double x[STUDY_VALUES], y[STUDY_VALUES], low[STUDY_VALUES], high[STUDY_VALUES];
    const char *names[STUDY_VALUES];
    struct plot_series series;
};

/* Bars begin at 0, and a tenth of a point of AUC is not seen on a bar of 70: so it is the differences that are drawn. */
static struct plot_panel draw_ablations(struct panel *p, const struct study *study)
{
    size_t count = 0;
    for (size_t k = 0; k < study->grid.value_count[STUDY_ABLATION]; k++) {
        const struct study_value *v = &study->grid.values[STUDY_ABLATION][k];
        const struct study_figure f = study_figure(study, v->variant, AUC);
        if (!v->variant)
            continue;
        p->y[count] = f.difference;
        p->low[count] = f.difference_low;
        p->high[count] = f.difference_high;
        p->names[count++] = study->grid.variants[v->variant].name;
    }
    p->series = (struct plot_series){.count = count, .y = p->y, .low = p->low, .high = p->high};
    return (struct plot_panel){.title = "Ablations: AUC against the base",
        .y_label = "difference of AUC",
        .kind = PLOT_BARS,
        .series = &p->series,
        .series_count = 1,
        .names = p->names};
}

static struct plot_panel draw_curve(struct panel *p, const struct study *study, enum study_axis axis)
{
    static const char *const titles[] = {
        [STUDY_M] = "User codes", [STUDY_N] = "Content codes", [STUDY_SESSION_SIZE] = "Items of a session"};
    const size_t count = study->grid.value_count[axis];
    for (size_t k = 0; k < count; k++) {
        const struct study_value *v = &study->grid.values[axis][k];
        const struct study_figure f = study_figure(study, v->variant, AUC);
        p->x[k] = (double)v->value;
        p->y[k] = f.mean;
        p->low[k] = f.low;
        p->high[k] = f.high;
    }
    p->series = (struct plot_series){.count = count, .x = p->x, .y = p->y, .low = p->low, .high = p->high};
    return (struct plot_panel){.title = titles[axis],
        .x_label = study_axis_name(axis),
        .y_label = "AUC",
        .series = &p->series,
        .series_count = 1,
        .x_log = true};
}

int study_draw(const struct study *study, const char *path, struct err *err)
{
    struct panel *memory = calloc(STUDY_AXES, sizeof *memory);
    struct plot_panel panels[STUDY_AXES];
    size_t count = 0;
    if (!memory)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t axis = 0; axis < STUDY_AXES; axis++) {
        if (!study->grid.value_count[axis])
            continue;
        panels[count++] = axis == STUDY_ABLATION ? draw_ablations(&memory[axis], study)
                                                 : draw_curve(&memory[axis], study, (enum study_axis)axis);
    }
    const struct plot plot = {"Study: means over the seeds, with the lowest and the highest run",
        "AUC of the ablations as differences to the base, and AUC over m, n and the session size. Whiskers "
        "span the seeds.",
        panels, count, count < 2 ? 1 : 2};
    const int result = plot_write(path, &plot, err);
    free(memory);
    return result;
}
