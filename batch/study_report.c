#include "batch/study_report.h"

#include "batch/eval_figures.h"
#include "core/file.h"

#include <math.h>

enum { AUC, MRR, NDCG10 = 3 };

struct study_figure study_figure(const struct study *study, size_t variant, size_t figure)
{
    struct study_figure f = {
        .low = INFINITY, .high = -INFINITY, .difference_low = INFINITY, .difference_high = -INFINITY};
    for (size_t s = 0; s < study->grid.seed_count; s++) {
        const struct study_result *r = study_result(study, variant, s), *base = study_result(study, 0, s);
        if (!r->done)
            continue;
        const double value = eval_figure(&r->eval, figure);
        f.runs++;
        f.mean += value;
        f.low = fmin(f.low, value);
        f.high = fmax(f.high, value);
        if (!base->done)
            continue;
        const double difference = value - eval_figure(&base->eval, figure);
        f.pairs++;
        f.difference += difference;
        f.difference_low = fmin(f.difference_low, difference);
        f.difference_high = fmax(f.difference_high, difference);
    }
    f.mean /= (double)f.runs;
    f.difference /= (double)f.pairs;
    if (!f.runs)
        f.low = f.high = NAN;
    if (!f.pairs)
        f.difference_low = f.difference_high = NAN;
    return f;
}

enum study_verdict study_verdict(const struct study_figure *figure, const struct study_figure *base)
{
    if (figure->runs < 2 || base->runs < 2)
        return STUDY_UNKNOWN;
    return figure->high < base->low ? STUDY_LOWER : figure->low > base->high ? STUDY_HIGHER : STUDY_WITHIN;
}

/* ---- text ---- */

/* Within the spread of both, a difference may still have the same sign at every seed: that is worth knowing. */
static const char *verdict_text(const struct study_figure *f, enum study_verdict verdict)
{
    switch (verdict) {
    case STUDY_LOWER:
        return "yes, lower";
    case STUDY_HIGHER:
        return "yes, higher";
    case STUDY_WITHIN:
        return f->difference_high < 0  ? "no; lower at each seed"
               : f->difference_low > 0 ? "no; higher at each seed"
                                       : "no";
    default:
        return "unknown: one seed";
    }
}

static const char *ablation_title(size_t ablation)
{
    static const char *const titles[] = {[ABLATION_NONE] = "full model",
        [ABLATION_NO_CPE] = "without CPE",
        [ABLATION_NO_UPE] = "without UPE",
        [ABLATION_NO_GROUPING] = "without grouping",
        [ABLATION_NO_LSUM] = "without L_sum"};
    return titles[ablation];
}

/* Padded to 25 letters, but for the last of a line. */
static void print_figure(FILE *stream, const struct study_figure *f, bool last)
{
    char text[64] = "-";
    if (f->runs > 1)
        snprintf(text, sizeof text, "%.4f (%.4f .. %.4f)", f->mean, f->low, f->high);
    else if (f->runs)
        snprintf(text, sizeof text, "%.4f", f->mean);
    fprintf(stream, "  %-*s", last ? 0 : 25, text);
}

static void print_row(
    const struct study *study, FILE *stream, enum study_axis axis, const struct study_value *v)
{
    const struct study_figure base = study_figure(study, 0, AUC), auc = study_figure(study, v->variant, AUC),
                              mrr = study_figure(study, v->variant, MRR),
                              ndcg = study_figure(study, v->variant, NDCG10);
    char title[32], difference[16] = "the base";
    if (axis == STUDY_ABLATION)
        snprintf(title, sizeof title, "%s", ablation_title(v->value));
    else
        snprintf(title, sizeof title, "%s %zu", study_axis_name(axis), v->value);
    if (v->variant)
        snprintf(difference, sizeof difference, "%+.4f", auc.difference);
    fprintf(stream, "%-18s  %4zu", title, auc.runs);
    print_figure(stream, &auc, false);
    fprintf(stream, "  %10s  %-23s", difference,
        v->variant ? verdict_text(&auc, study_verdict(&auc, &base)) : "");
    print_figure(stream, &mrr, false);
    print_figure(stream, &ndcg, true);
    fputc('\n', stream);
}

/* The paper says that each of the four parts helps. */
static void print_claim(const struct study *study, FILE *stream)
{
    static const struct {
        enum study_verdict verdict;
        const char *text;
    } lines[] = {
        {STUDY_LOWER, "AUC falls, beyond the spread, as the paper says:"},
        {STUDY_WITHIN,
            "AUC changes by no more than the seeds do, so that the paper's claim is not shown here:"},
        {STUDY_HIGHER, "AUC rises, beyond the spread, against what the paper says:"},
        {STUDY_UNKNOWN, "with one seed nothing can be told:"},
    };
    const struct study_figure base = study_figure(study, 0, AUC);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const char *between = NULL;
        for (size_t k = 0; k < study->grid.value_count[STUDY_ABLATION]; k++) {
            const struct study_value *v = &study->grid.values[STUDY_ABLATION][k];
            const struct study_figure auc = study_figure(study, v->variant, AUC);
            if (!v->variant || v->value == ABLATION_NONE || study_verdict(&auc, &base) != lines[i].verdict)
                continue;
            fprintf(stream, "%s%s", between ? between : lines[i].text, between ? "" : " ");
            fputs(ablation_title(v->value), stream);
            between = ", ";
        }
        if (between)
            fputc('\n', stream);
    }
}

void study_print(const struct study *study, FILE *stream)
{
    static const char *const titles[] = {[STUDY_ABLATION] = "Ablations",
        [STUDY_M] = "User codes m",
        [STUDY_N] = "Content codes n",
        [STUDY_SESSION_SIZE] = "Items of a session"};
    const struct study_result *first = study_result(study, 0, 0);
    const size_t seeds = study->grid.seed_count;
    fprintf(stream,
        "%zu seed%s, %zu steps of %zu examples a run, %zu impressions. Means, with the lowest and the "
        "highest run.\n"
        "Differences are to the base; beyond the spread: the ranges over the seeds do not touch.\n",
        seeds, seeds == 1 ? "" : "s", first->steps, study->options->batch, first->eval.impressions);
    for (size_t axis = 0; axis < STUDY_AXES; axis++) {
        if (!study->grid.value_count[axis])
            continue;
        fprintf(stream, "\n%-18s  %4s  %-25s  %10s  %-23s  %-25s  %s\n", titles[axis], "runs", "AUC",
            "difference", "beyond the spread?", "MRR", "nDCG@10");
        for (size_t k = 0; k < study->grid.value_count[axis]; k++)
            print_row(study, stream, (enum study_axis)axis, &study->grid.values[axis][k]);
        if (axis == STUDY_ABLATION)
            print_claim(study, stream);
    }
}

int study_write(const struct study *study, struct err *err)
{
    char json[4096], svg[4096];
    int result = file_path(json, study->dir, "study.json", err);
    if (result == 0)
        result = file_path(svg, study->dir, "study.svg", err);
    if (result == 0)
        result = study_json(study, json, err);
    return result < 0 ? result : study_draw(study, svg, err);
}
