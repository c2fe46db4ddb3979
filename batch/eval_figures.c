#include "batch/eval_figures.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} figures[EVAL_FIGURES] = {
    {"auc", offsetof(struct eval_result, mean.auc)},
    {"mrr", offsetof(struct eval_result, mean.mrr)},
    {"ndcg@5", offsetof(struct eval_result, mean.ndcg5)},
    {"ndcg@10", offsetof(struct eval_result, mean.ndcg10)},
    {"auc_pooled", offsetof(struct eval_result, auc_pooled)},
    {"mrr_first", offsetof(struct eval_result, mean.mrr_first)},
};

const char *eval_figure_name(size_t index)
{
    return figures[index].name;
}

double eval_figure(const struct eval_result *result, size_t index)
{
    double value;
    memcpy(&value, (const char *)result + figures[index].offset, sizeof value);
    return value;
}

json_t *eval_figures_json(const struct eval_result *result, struct err *err)
{
    json_t *object = json_pack(
        "{s:I, s:I}", "impressions", (json_int_t)result->impressions, "skipped", (json_int_t)result->skipped);
    int failed = object ? 0 : -1;
    for (size_t i = 0; i < EVAL_FIGURES; i++) {
        const double value = eval_figure(result, i);
        failed |= json_object_set_new(object, figures[i].name, isnan(value) ? json_null() : json_real(value));
    }
    if (!failed)
        return object;
    json_decref(object);
    err_set(err, ERR_NOMEM, "out of memory");
    return NULL;
}

int eval_figures_parse(struct eval_result *out, const json_t *object)
{
    const json_t *impressions = json_object_get(object, "impressions"),
                 *skipped = json_object_get(object, "skipped");
    struct eval_result found = {.impressions = (size_t)json_integer_value(impressions),
        .skipped = (size_t)json_integer_value(skipped)};
    bool good = json_is_integer(impressions) && json_is_integer(skipped);
    for (size_t i = 0; i < EVAL_FIGURES; i++) {
        const json_t *value = json_object_get(object, figures[i].name);
        const double number = json_is_number(value) ? json_number_value(value) : NAN;
        good &= json_is_number(value) || json_is_null(value);
        memcpy((char *)&found + figures[i].offset, &number, sizeof number);
    }
    if (!good)
        return -ERR_INVALID;
    *out = found;
    return 0;
}
