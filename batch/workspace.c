#include "batch/workspace.h"

#include "batch/digest.h"
#include "batch/progress.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int workspace_dtype(struct workspace_options *options, const char *name)
{
    struct err err = ERR_INIT;
    if (!name || linear_dtype_parse(&options->dtype, name, &err) == 0)
        return EXIT_DONE;
    fprintf(stderr, "embsum: --dtype: %s\n", err.message);
    return EXIT_USAGE;
}

/* What the model is, as one number: a change in any of its files is a change of every text's inputs. */
static int identify(struct workspace *w, const char *dir, struct err *err)
{
    static const char *const files[] = {"model.safetensors", "config.json", "spiece.model"};
    uint8_t digest[3][DIGEST_SIZE];
    for (size_t i = 0; i < 3; i++) {
        char path[4096];
        int result = file_path(path, dir, files[i], err);
        if (result == 0)
            result = digest_file(digest[i], path, err);
        if (result < 0)
            return result;
    }
    digest_hex(w->model_sha256, digest[0]);
    w->model_hash = XXH3_64bits_withSeed(digest, sizeof digest, (XXH64_hash_t)w->dtype);
    return 0;
}

int workspace_tokenizer(struct tokenizer **out, const struct model *model, const char *path, struct err *err)
{
    struct tokenizer *tokenizer;
    const int result = tokenizer_load(&tokenizer, path, err);
    if (result < 0)
        return result;
    const size_t pieces = tokenizer_pieces(tokenizer);
    if (pieces > model->config.vocab_size) {
        tokenizer_free(tokenizer);
        return err_set(err, ERR_INVALID, "%s has %zu pieces, but the model's vocab_size is %zu", path, pieces,
            model->config.vocab_size);
    }
    *out = tokenizer;
    return 0;
}

static int tokenise(struct workspace *w, struct err *err)
{
    const struct model_config *config = &w->model->config;
    const size_t count = w->news.ids.count, most = text_item_max(config);
    struct text_scratch scratch = {0};
    size_t used = 0, size = 0;
    int result = 0;
    w->offsets = calloc(count + 1, sizeof *w->offsets);
    if (!w->offsets)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (size - used < most) {
            size = 2 * size + most + 65536;
            int32_t *more = realloc(w->ids, size * sizeof *more);
            if (!more) {
                result = err_set(err, ERR_NOMEM, "out of memory");
                break;
            }
            w->ids = more;
        }
        const struct text_item item = news_item(&w->news, i);
        size_t found = 0;
        result = text_item_tokens(config, w->tokenizer, &item, w->ids + used, &found, &scratch, err);
        used += found;
        w->offsets[i + 1] = used;
        if (result < 0)
            err_place(err, "item %s: ", id_map_get(&w->news.ids, i));
    }
    text_scratch_done(&scratch);
    return result;
}

static void tell(const struct workspace *w, const struct workspace_options *options)
{
    const size_t items = w->news.ids.count, tokens = w->offsets[items];
    if (options->behaviors)
        progress_say(options->quiet,
            "%zu items, %zu tokens; %zu users, %zu history ids without a text left out", items, tokens,
            w->histories.users.count, w->histories.dropped);
    else
        progress_say(options->quiet, "%zu items, %zu tokens", items, tokens);
}

/* What there is beside a model: its vocabulary, the catalogue, histories, tokens. */
static int open_rest(
    struct workspace *w, const char *vocab, const struct workspace_options *options, struct err *err)
{
    int result = workspace_tokenizer(&w->tokenizer, w->model, vocab, err);
    if (result == 0)
        result = news_load(&w->news, options->news, (size_t)options->max_bad, options->quiet, err);
    if (result == 0 && options->behaviors)
        result = histories_load(
            &w->histories, options->behaviors, &w->news, (size_t)options->max_bad, options->quiet, err);
    if (result == 0)
        result = tokenise(w, err);
    if (result == 0)
        tell(w, options);
    return result;
}

static int open_model(
    struct workspace *w, char vocab[4096], const char *dir, enum linear_dtype dtype, struct err *err)
{
    *w = (struct workspace){.dtype = dtype};
    int result = model_load(&w->model, dir, NULL, err);
    if (result == 0)
        result = identify(w, dir, err);
    return result == 0 ? file_path(vocab, dir, "spiece.model", err) : result;
}

int workspace_open(struct workspace *w, const struct workspace_options *options, struct err *err)
{
    char vocab[4096];
    int result = open_model(w, vocab, options->model, options->dtype, err);
    if (result == 0)
        result = open_rest(w, vocab, options, err);
    if (result < 0)
        workspace_close(w);
    return result;
}

int workspace_open_model(struct workspace *w, const char *dir, enum linear_dtype dtype, struct err *err)
{
    char vocab[4096];
    int result = open_model(w, vocab, dir, dtype, err);
    if (result == 0)
        result = workspace_tokenizer(&w->tokenizer, w->model, vocab, err);
    if (result < 0)
        workspace_close(w);
    return result;
}

/* A model in memory is its config and its parameters; the vocabulary shows in the tokens. */
static int identify_in_memory(struct workspace *w, struct err *err)
{
    const struct model *model = w->model;
    char *config = model_config_dump(&model->config, NULL, 0);
    if (!config)
        return err_set(err, ERR_NOMEM, "out of memory");
    uint64_t hash =
        XXH3_64bits_withSeed(w->ids, w->offsets[w->news.ids.count] * sizeof *w->ids, (XXH64_hash_t)w->dtype);
    hash = XXH3_64bits_withSeed(config, strlen(config), hash);
    w->model_hash = XXH3_64bits_withSeed(model->params, model->param_count * sizeof *model->params, hash);
    free(config);
    return 0;
}

int workspace_open_around(struct workspace *w, struct model *model, const char *vocab,
    const struct workspace_options *options, struct err *err)
{
    *w = (struct workspace){.model = model, .dtype = options->dtype};
    int result = open_rest(w, vocab, options, err);
    if (result == 0)
        result = identify_in_memory(w, err);
    if (result < 0)
        workspace_close(w);
    return result;
}

static bool reads_alike(const struct model_config *a, const struct model_config *b)
{
    bool alike = a->vocab_size == b->vocab_size && a->sos_id == b->sos_id && a->eos_id == b->eos_id &&
                 a->field_count == b->field_count;
    for (size_t i = 0; alike && i < a->field_count; i++)
        alike = a->fields[i].column == b->fields[i].column &&
                a->fields[i].max_tokens == b->fields[i].max_tokens &&
                strcmp(a->fields[i].prefix, b->fields[i].prefix) == 0 &&
                strcmp(a->fields[i].suffix, b->fields[i].suffix) == 0;
    return alike;
}

int workspace_replace_model(struct workspace *w, struct model *model, struct err *err)
{
    const bool alike = reads_alike(&w->model->config, &model->config);
    model_free(w->model);
    w->model = model;
    w->model_sha256[0] = '\0';
    return alike ? identify_in_memory(w, err)
                 : err_set(err, ERR_INVALID, "the model reads texts as other tokens than the one before it");
}

void workspace_close(struct workspace *w)
{
    model_free(w->model);
    tokenizer_free(w->tokenizer);
    news_done(&w->news);
    histories_done(&w->histories);
    free(w->ids);
    free(w->offsets);
    *w = (struct workspace){0};
}

uint64_t workspace_content_inputs(const struct workspace *w, size_t index)
{
    const struct encode_item item = workspace_item(w, index);
    return XXH3_64bits_withSeed(item.ids, item.count * sizeof *item.ids, w->model_hash + 'c');
}

uint64_t workspace_user_inputs(const struct workspace *w, size_t index)
{
    uint64_t hash = w->model_hash + 'u';
    if (index >= w->histories.users.count)
        return hash;
    const struct history *history = &w->histories.history[index];
    for (size_t i = text_window_start(&w->model->config, history->count); i < history->count; i++) {
        const struct encode_item item = workspace_item(w, history->items[i]);
        hash = XXH3_64bits_withSeed(item.ids, item.count * sizeof *item.ids, hash);
    }
    return hash;
}
