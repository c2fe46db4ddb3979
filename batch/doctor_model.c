/* A model's folder: can it be read, is it whole, and is it the one that the live generation was made with? */
#include "batch/doctor.h"

#include "batch/workspace.h"
#include "core/file.h"
#include "core/tokenizer.h"

#include <string.h>

static void check_tokenizer(struct doctor *doctor, const struct model *model, const char *dir)
{
    static const char text[] = "News Title: What a model reads;";
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    char path[4096];
    int32_t ids[64];
    size_t count = 0;
    int rc = file_path(path, dir, "spiece.model", &err);
    if (rc == 0)
        rc = workspace_tokenizer(&tokenizer, model, path, &err);
    if (rc == 0)
        rc = tokenizer_encode(tokenizer, text, strlen(text), ids, sizeof ids / sizeof *ids, &count, &err);
    if (rc == 0 && count == 0)
        rc = err_set(&err, ERR_CORRUPT, "%s makes no tokens of a text", path);
    if (rc < 0)
        doctor_tell_err(
            doctor, "model.tokenizer", "Copy spiece.model anew from where the model was trained.", &err);
    else if ((size_t)model->config.sos_id < tokenizer_pieces(tokenizer))
        doctor_tell(doctor, FINDING_WARNING, "model.tokenizer",
            "Set sos_token_id to a free row of the embedding (32100 for T5's vocabulary), and train again.",
            "sos_token_id %d is a piece of the vocabulary, too, which has %zu", model->config.sos_id,
            tokenizer_pieces(tokenizer));
    else
        doctor_tell(doctor, FINDING_OK, "model.tokenizer", NULL, "%zu pieces, %zu rows of the embedding",
            tokenizer_pieces(tokenizer), model->config.vocab_size);
    tokenizer_free(tokenizer);
}

static void compare_with_live(struct doctor *doctor, const struct model *model, const char *dir)
{
    const struct manifest *const manifest = &doctor->manifest;
    uint64_t hash[LINEAR_DTYPES];
    char sha256[65];
    struct err err = ERR_INIT;
    if (workspace_identify(hash, sha256, dir, &err) < 0) {
        doctor_tell_err(doctor, "model.live", "Give this user the right to read the model's files.", &err);
        return;
    }
    if (!*doctor->live)
        return;
    bool known = false;
    for (size_t i = 0; i < LINEAR_DTYPES; i++)
        known |= hash[i] == manifest->settings;
    if (!*manifest->model_sha256) {
        doctor_tell(
            doctor, FINDING_OK, "model.live", NULL, "the live generation was imported: no model made it");
    } else if (strcmp(sha256, manifest->model_sha256) != 0) {
        const bool shapes = model_m(&model->config) == manifest->m &&
                            model_n(&model->config) == manifest->n && model->config.d_model == manifest->d;
        doctor_tell(doctor, FINDING_WARNING, "model.live",
            "If it is meant to be the same model, copy it anew; if not, the next embsum refresh makes a new "
            "generation.",
            "model.safetensors is not what the live generation was made with: SHA-256 %.12s... instead of "
            "%.12s...%s",
            sha256, manifest->model_sha256, shapes ? "" : ", and of other shapes");
    } else if (manifest->settings && !known) {
        doctor_tell(doctor, FINDING_WARNING, "model.live",
            "Copy config.json and spiece.model anew; with others the next embsum refresh makes a new "
            "generation.",
            "the weights are those of the live generation, but config.json or spiece.model are not");
    } else {
        doctor_tell(
            doctor, FINDING_OK, "model.live", NULL, "it made the live generation: SHA-256 %.12s...", sha256);
    }
}

void doctor_model(struct doctor *doctor, const char *dir)
{
    struct model *model = NULL;
    struct err err = ERR_INIT;
    const struct model_load_options options = {0};
    if (model_load(&model, dir, &options, &err) < 0) {
        doctor_tell_err(doctor, "model.weights",
            "Copy config.json and model.safetensors anew from where the model was trained, or name another "
            "folder.",
            &err);
        return;
    }
    const struct model_config *const config = &model->config;
    doctor_tell(doctor, FINDING_OK, "model.weights", NULL,
        "%zu tensors, %zu parameters, all finite; m %zu, n %zu, d %zu", model->tensor_count,
        model->param_count, model_m(config), model_n(config), config->d_model);
    check_tokenizer(doctor, model, dir);
    compare_with_live(doctor, model, dir);
    model_free(model);
}
