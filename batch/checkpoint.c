#include "batch/checkpoint.h"

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"

#include <stdlib.h>
#include <string.h>

#define NAME "train.safetensors"

/* Counters as strings: safetensors' metadata knows no numbers. */
static int put_count(json_t *object, const char *name, size_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", value);
    return json_object_set_new(object, name, json_string(text));
}

static char *dump_counters(const struct checkpoint *c)
{
    const struct validation_state *v = &c->validation;
    json_t *object = json_pack("{s:s}", "run", c->run);
    int failed = put_count(object, "step", c->step) | put_count(object, "epoch", c->epoch) |
                 put_count(object, "next", c->next) | put_count(object, "workers", c->workers);
    if (v->step) {
        char auc[32];
        snprintf(auc, sizeof auc, "%.17g", v->best_auc); /* gives the float64 back to the bit */
        failed |= put_count(object, "validated", v->step) | put_count(object, "best_step", v->best_step) |
                  json_object_set_new(object, "best_auc", json_string(auc));
    }
    char *text = failed ? NULL : json_write(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

int checkpoint_save(const char *dir, const struct checkpoint *checkpoint, const struct model *model,
    const struct optimizer *optimizer, struct err *err)
{
    char path[4096];
    const size_t count = model->param_count;
    const struct safetensors_tensor tensors[] = {{"params", 1, {count}, model->params},
        {"first", 1, {count}, optimizer->first}, {"second", 1, {count}, optimizer->second}};
    int result = file_path(path, dir, NAME, err);
    if (result < 0)
        return result;
    char *counters = dump_counters(checkpoint);
    if (!counters)
        return err_set(err, ERR_NOMEM, "out of memory");
    result = safetensors_write(path, tensors, 3, counters, err);
    free(counters);
    return result;
}

static bool get_count(const json_t *object, const char *name, size_t *out)
{
    const char *text = json_string_value(json_object_get(object, name));
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

/* All or none of it: a run without validations has none. */
static bool get_validation(const json_t *object, struct validation_state *out)
{
    const char *auc = json_string_value(json_object_get(object, "best_auc"));
    char *end = NULL;
    *out = (struct validation_state){0};
    if (!auc)
        return true;
    out->best_auc = strtod(auc, &end);
    return end != auc && !*end && get_count(object, "validated", &out->step) &&
           get_count(object, "best_step", &out->best_step);
}

static int parse_counters(struct checkpoint *out, const char *metadata, const char *run, struct err *err)
{
    json_t *object = metadata ? json_read(metadata, strlen(metadata), 0, NULL) : NULL;
    const char *of = json_string_value(json_object_get(object, "run"));
    int result = 0;
    if (!of || !get_count(object, "step", &out->step) || !get_count(object, "epoch", &out->epoch) ||
        !get_count(object, "next", &out->next) || !get_count(object, "workers", &out->workers) ||
        !get_validation(object, &out->validation))
        result = err_set(err, ERR_CORRUPT, "no counters of a training run");
    else if (strcmp(of, run) != 0)
        result = err_set(
            err, ERR_INVALID, "this checkpoint is of another run: model, data or settings have changed");
    json_decref(object);
    return result;
}

static int read_all(const struct safetensors *file, float *const to[3], size_t count, struct err *err)
{
    static const char *const names[] = {"params", "first", "second"};
    for (size_t i = 0; i < 3; i++) {
        const struct safetensors_entry *entry = safetensors_find(file, names[i]);
        if (!entry || entry->dims != 1 || entry->shape[0] != count)
            return err_set(err, ERR_INVALID, "%s is missing or not of this model", names[i]);
        const int result = safetensors_read(file, entry, to[i], err);
        if (result < 0)
            return result;
    }
    return 0;
}

int checkpoint_load(const char *dir, struct checkpoint *checkpoint, struct model *model,
    struct optimizer *optimizer, struct err *err)
{
    char path[4096];
    struct safetensors file;
    struct checkpoint loaded = *checkpoint;
    const size_t count = model->param_count;
    int result = file_path(path, dir, NAME, err);
    if (result == 0)
        result = safetensors_open(&file, path, err);
    if (result < 0)
        return result;
    float *all = malloc(3 * count * sizeof *all);
    result = all ? parse_counters(&loaded, file.metadata, checkpoint->run, err)
                 : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0)
        result = read_all(&file, (float *const[]){all, all + count, all + 2 * count}, count, err);
    if (result == 0) {
        memcpy(model->params, all, count * sizeof *all);
        memcpy(optimizer->first, all + count, count * sizeof *all);
        memcpy(optimizer->second, all + 2 * count, count * sizeof *all);
        optimizer->step = loaded.step;
        *checkpoint = loaded;
    } else {
        err_place(err, "%s: ", path);
    }
    free(all);
    safetensors_close(&file);
    return result;
}
