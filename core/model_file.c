/* Models drawn from a seed, and models in files. */
#include "core/file.h"
#include "core/model_int.h"
#include "core/rng.h"
#include "core/safetensors.h"

#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX (1u << 20)

static int build_from(struct model **out, const char *config_path, struct err *err)
{
    char *text;
    size_t len;
    int result = file_read(&text, &len, config_path, CONFIG_MAX, err);
    if (result < 0)
        return result;
    result = model_build(out, text, len, err);
    if (result < 0)
        err_place(err, "%s: ", config_path);
    free(text);
    return result;
}

/* Each tensor has a stream of its own, so that it does not depend on the tensors before it. */
static void draw(struct model *model, size_t index, unsigned long seed)
{
    const struct model_tensor *tensor = &model->tensors[index];
    float *data = model->params + tensor->offset;
    struct rng rng = rng_seed(seed, index);
    for (size_t i = 0; i < tensor->rows * tensor->cols; i++)
        data[i] = (float)(tensor->mean + (tensor->deviation > 0 ? tensor->deviation * rng_normal(&rng) : 0));
}

int model_init(struct model **out, const char *config_path, unsigned long seed, struct err *err)
{
    struct model *model;
    const int result = build_from(&model, config_path, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < model->tensor_count; i++)
        draw(model, i, seed);
    const size_t d = model->config.d_model;
    float *sos = model->params + (model->shared - model->params) + (size_t)model->config.sos_id * d;
    for (size_t i = 0; i < d; i++)
        sos[i] *= 0.5f;
    *out = model;
    return 0;
}

static int check_shape(
    const struct model_tensor *tensor, const struct safetensors_entry *entry, struct err *err)
{
    const size_t *s = entry->shape;
    if (entry->dims == tensor->dims &&
        (tensor->dims == 1 ? s[0] == tensor->cols : s[0] == tensor->rows && s[1] == tensor->cols))
        return 0;
    char found[SAFETENSORS_DIMS * 21 + 3] = "[";
    for (size_t i = 0; i < entry->dims; i++)
        sprintf(found + strlen(found), "%s%zu", i ? ", " : "", s[i]);
    if (tensor->dims == 1)
        return err_set(err, ERR_INVALID, "tensor %s has shape %s], but the config asks for [%zu]",
            tensor->name, found, tensor->cols);
    return err_set(err, ERR_INVALID, "tensor %s has shape %s], but the config asks for [%zu, %zu]",
        tensor->name, found, tensor->rows, tensor->cols);
}

/* Copies of the shared embedding that Hugging Face's checkpoints may carry under other names, and a table
 * that T5's first release wrote and nobody ever used. */
static bool is_redundant(const struct model *model, const char *name)
{
    return strcmp(name, "encoder.embed_tokens.weight") == 0 ||
           strcmp(name, "decoder.embed_tokens.weight") == 0 ||
           (model->config.tied && strcmp(name, "lm_head.weight") == 0) ||
           strcmp(name, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight") == 0;
}

static int check_names(const struct model *model, const struct safetensors *file, struct err *err)
{
    for (size_t i = 0; i < file->count; i++) {
        const char *name = file->entries[i].name;
        bool known = is_redundant(model, name);
        for (size_t k = 0; k < model->tensor_count && !known; k++)
            known = strcmp(model->tensors[k].name, name) == 0;
        if (!known)
            return err_set(err, ERR_INVALID, "unknown tensor %.128s", name);
    }
    return 0;
}

static int read_tensors(struct model *model, const struct safetensors *file,
    const struct model_load_options *options, struct err *err)
{
    int result = check_names(model, file, err);
    bool any_head = false;
    for (size_t i = 0; i < model->tensor_count; i++)
        any_head |= model->tensors[i].head && safetensors_find(file, model->tensors[i].name);
    for (size_t i = 0; result == 0 && i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        const struct safetensors_entry *entry = safetensors_find(file, tensor->name);
        if (entry) {
            result = check_shape(tensor, entry, err);
            if (result == 0)
                result = safetensors_read(file, entry, model->params + tensor->offset, err);
        } else if (tensor->head && options->plain_t5 && !any_head) {
            draw(model, i, options->seed);
        } else if (!tensor->optional) {
            result = err_set(err, ERR_INVALID, "tensor %s is missing", tensor->name);
        }
    }
    return result;
}

int model_load(struct model **out, const char *dir, const struct model_load_options *options, struct err *err)
{
    static const struct model_load_options defaults = {0};
    char path[4096];
    struct model *model = NULL;
    struct safetensors file = {.fd = -1};
    if (!options)
        options = &defaults;
    int result = file_path(path, dir, "config.json", err);
    if (result == 0)
        result = build_from(&model, options->config_path ? options->config_path : path, err);
    if (result == 0)
        result = file_path(path, dir, "model.safetensors", err);
    if (result == 0)
        result = safetensors_open(&file, path, err);
    if (result == 0) {
        result = read_tensors(model, &file, options, err);
        if (result < 0)
            err_place(err, "%s: ", path);
    }
    safetensors_close(&file);
    if (result < 0)
        model_free(model);
    else
        *out = model;
    return result;
}

static int save_config(const struct model *model, const char *dir, struct err *err)
{
    char path[4096];
    struct file_replacement file;
    int result = file_path(path, dir, "config.json", err);
    if (result < 0)
        return result;
    char *text = model_config_dump(&model->config, model->config_text, model->config_len);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    result = file_replace_begin(&file, path, err);
    if (result == 0) {
        fprintf(file.stream, "%s\n", text);
        result = file_replace_commit(&file, err);
    }
    free(text);
    return result;
}

int model_save(const struct model *model, const char *dir, struct err *err)
{
    char path[4096];
    int result = save_config(model, dir, err);
    if (result == 0)
        result = file_path(path, dir, "model.safetensors", err);
    if (result < 0)
        return result;
    struct safetensors_tensor *tensors = calloc(model->tensor_count, sizeof *tensors);
    if (!tensors)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        tensors[i].name = tensor->name;
        tensors[i].dims = tensor->dims;
        tensors[i].shape[0] = tensor->dims == 1 ? tensor->cols : tensor->rows;
        tensors[i].shape[1] = tensor->cols;
        tensors[i].data = model->params + tensor->offset;
    }
    result = safetensors_write(path, tensors, model->tensor_count, NULL, err);
    free(tensors);
    return result;
}
