#include "batch/train_log.h"

#include "batch/eval_figures.h"
#include "core/file.h"
#include "core/json.h"

#include <stdlib.h>
#include <unistd.h>

/* Take a line of a former process into the curves. 1: taken; 0 where the run had not come to it, or it is no such line. */
static int take(struct train_log *log, const json_t *line, size_t step, size_t validated, struct err *err)
{
    const json_t *validation = json_object_get(line, "validation");
    const json_int_t number = json_integer_value(json_object_get(line, "step"));
    int result;
    if (number < 1 || (size_t)number > (validation ? validated : step))
        return 0;
    if (validation) {
        const struct curves_validation point = {(double)number,
            json_number_value(json_object_get(validation, "auc")),
            json_number_value(json_object_get(validation, "mrr"))};
        result = curves_add_validation(&log->curves, &point, err);
    } else {
        const struct curves_step point = {(double)number, json_number_value(json_object_get(line, "loss")),
            json_number_value(json_object_get(line, "nce")), json_number_value(json_object_get(line, "sum"))};
        result = curves_add_step(&log->curves, &point, err);
    }
    return result < 0 ? result : 1;
}

/* *keep = the bytes of the lines that stay. */
static int read_back(struct train_log *log, size_t step, size_t validated, long *keep, struct err *err)
{
    char *text = NULL;
    size_t size = 0;
    int taken = 1;
    *keep = 0;
    for (ssize_t got; taken > 0 && (got = getline(&text, &size, log->stream)) > 0;) {
        json_t *line = text[got - 1] == '\n' ? json_read(text, (size_t)got, 0, NULL) : NULL;
        taken = line ? take(log, line, step, validated, err) : 0;
        *keep += taken > 0 ? got : 0;
        json_decref(line);
    }
    free(text);
    if (taken > 0 && !feof(log->stream))
        return err_errno(err, "read train.jsonl");
    return taken < 0 ? taken : 0;
}

int train_log_open(struct train_log *log, const char *dir, size_t step, size_t validated, struct err *err)
{
    char path[4096];
    *log = (struct train_log){.dir = dir};
    const int result = file_path(path, dir, "train.jsonl", err);
    if (result < 0)
        return result;
    log->stream = fopen(path, step ? "r+e" : "we");
    if (!log->stream)
        return err_errno(err, "open %s", path);
    long keep = 0;
    int taken = step ? read_back(log, step, validated, &keep, err) : 0;
    if (taken == 0 && (fseek(log->stream, keep, SEEK_SET) != 0 || ftruncate(fileno(log->stream), keep) != 0))
        taken = err_errno(err, "truncate %s", path);
    if (taken < 0)
        train_log_close(log);
    return taken;
}

void train_log_close(struct train_log *log)
{
    if (log->stream)
        fclose(log->stream);
    curves_done(&log->curves);
    *log = (struct train_log){0};
}

int train_log_step(struct train_log *log, const struct train_log_step *s, struct err *err)
{
    const struct curves_step point = {(double)s->step, s->loss, s->nce, s->sum};
    fprintf(log->stream,
        "{\"step\":%zu,\"epoch\":%zu,\"loss\":%.9g,\"nce\":%.9g,\"sum\":%.9g,\"norm\":%.6g,\"rate\":%.6g,"
        "\"tokens\":%zu,\"encoded\":%zu,\"tokens_per_second\":%.1f}\n",
        s->step, s->epoch, s->loss, s->nce, s->sum, s->norm, s->rate, s->tokens, s->encoded,
        s->tokens_per_second);
    if (fflush(log->stream) != 0)
        return err_errno(err, "write train.jsonl");
    return curves_add_step(&log->curves, &point, err);
}

int train_log_validation(struct train_log *log, const struct validation_state *state,
    const struct eval_result *result, struct err *err)
{
    const struct curves_validation point = {(double)state->step, result->mean.auc, result->mean.mrr};
    json_t *figures = eval_figures_json(result, err);
    if (!figures)
        return -ERR_NOMEM;
    fprintf(log->stream, "{\"step\":%zu,\"validation\":", state->step);
    json_dumpf(figures, log->stream, EVAL_FIGURES_FORMAT | JSON_COMPACT);
    fprintf(log->stream, ",\"best\":%s}\n", state->best_step == state->step ? "true" : "false");
    json_decref(figures);
    if (fflush(log->stream) != 0)
        return err_errno(err, "write train.jsonl");
    return curves_add_validation(&log->curves, &point, err);
}

int train_log_draw(const struct train_log *log, struct err *err)
{
    char path[4096];
    const int result = file_path(path, log->dir, "curves.svg", err);
    return result < 0 ? result : curves_write(&log->curves, path, err);
}
