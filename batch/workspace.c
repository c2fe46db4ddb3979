#include "batch/workspace.h"

#include "batch/digest.h"
#include "batch/progress.h"
#include "batch/token_cache.h"
#include "core/array.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { TOKEN_MB = 64 };

int workspace_dtype(struct workspace_options *options, const char *name)
{
    struct err err = ERR_INIT;
    if (!name || linear_dtype_parse(&options->dtype, name, &err) == 0)
        return EXIT_DONE;
    fprintf(stderr, "embsum: --dtype: %s\n", err.message);
    return EXIT_USAGE;
}

/* What the model is, as one number: a change in any of its files is a change of every text's inputs. */
int workspace_identify(uint64_t hash[LINEAR_DTYPES], char sha256[65], const char *dir, struct err *err)
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
    digest_hex(sha256, digest[0]);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++)
        hash[dtype] = XXH3_64bits_withSeed(digest, sizeof digest, (XXH64_hash_t)dtype);
    return 0;
}

static int identify(struct workspace *w, const char *dir, struct err *err)
{
    uint64_t hash[LINEAR_DTYPES];
    const int result = workspace_identify(hash, w->model_sha256, dir, err);
    if (result == 0)
        w->model_hash = hash[w->dtype];
    return result;
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

int workspace_no_model(const char *dir, struct err *err)
{
    char path[4096];
    const int result = file_path(path, dir, "model.safetensors", err);
    if (result < 0 || access(path, F_OK) != 0)
        return result;
    return err_set(err, ERR_INVALID, "%s is there already; a model is never overwritten", path);
}

int workspace_make_dir(const char *dir, const char *vocab, struct err *err)
{
    char path[4096];
    int result = file_make_dir(dir, err);
    if (result == 0)
        result = file_path(path, dir, "spiece.model", err);
    return result < 0 ? result : file_copy(vocab, path, err);
}

static void tell(const struct workspace *w, const struct workspace_options *options)
{
    if (options->behaviors)
        progress_say(options->rows.quiet, "%zu items; %zu users, %zu history ids without a text left out",
            w->news.ids.count, w->histories.users.count, histories_ids(&w->histories).missing);
    else
        progress_say(options->rows.quiet, "%zu items", w->news.ids.count);
}

static int read_files(struct workspace *w, const struct workspace_options *options,
    const struct tsv_options *rows, struct err *err)
{
    const int result = news_load(&w->news, options->news, rows, err);
    w->histories.keep = w->model->config.max_items;
    if (result < 0 || !options->behaviors)
        return result;
    return histories_load(&w->histories, options->behaviors, &w->news, w->model->config.max_items, rows, err);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whatever ends the reading, the bad rows up to there are kept. */
static int read_with_quarantine(struct workspace *w, const struct workspace_options *options, struct err *err)
{
    struct tsv_options rows = options->rows;
    struct quarantine quarantine;
    if (same_file(options->quarantine, options->news) || same_file(options->quarantine, options->behaviors))
        return err_set(
            err, ERR_INVALID, "%s is to be read: it cannot be the quarantine, too", options->quarantine);
    int result = quarantine_open(&quarantine, options->quarantine, err);
    if (result < 0)
        return result;
    rows.quarantine = &quarantine;
    result = read_files(w, options, &rows, err);
    const size_t kept = quarantine.rows;
    const int closed = quarantine_close(&quarantine, result < 0 ? NULL : err);
    if (closed == 0 && kept)
        progress_say(options->rows.quiet, "%zu bad rows are in %s", kept, options->quarantine);
    return result < 0 ? result : closed;
}

/* What there is beside a model: its vocabulary, the catalogue, histories. */
static int open_rest(
    struct workspace *w, const char *vocab, const struct workspace_options *options, struct err *err)
{
    const size_t token_mb = options->token_mb ? (size_t)options->token_mb : TOKEN_MB;
    int result = workspace_tokenizer(&w->tokenizer, w->model, vocab, err);
    if (result == 0)
        result = options->quarantine ? read_with_quarantine(w, options, err)
                                     : read_files(w, options, &options->rows, err);
    if (result == 0)
        result = token_cache_new(
            &w->cache, w->news.ids.count, text_item_max(&w->model->config), token_mb << 20, err);
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
    w->explain = options->explain;
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
        result = workspace_tokenise_all(w, options->rows.quiet, err);
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
    token_cache_free(w->cache);
    free(w->ids);
    free(w->offsets);
    *w = (struct workspace){0};
}

/* ---- tokens ---- */

void workspace_scratch_done(struct workspace_scratch *scratch)
{
    news_text_done(&scratch->text);
    text_scratch_done(&scratch->joined);
}

static int make_tokens(const struct workspace *w, size_t index, int32_t *ids, size_t *count,
    struct workspace_scratch *scratch, struct err *err)
{
    int result = news_item(&scratch->text, &w->news, index, err);
    if (result < 0)
        return result;
    result = text_item_tokens(
        &w->model->config, w->tokenizer, &scratch->text.item, ids, count, &scratch->joined, err);
    if (result < 0)
        err_place(err, "item %s: ", id_map_get(&w->news.ids, index));
    return result;
}

int workspace_tokens(const struct workspace *w, size_t index, int32_t *ids, size_t *count,
    struct workspace_scratch *scratch, struct err *err)
{
    if (token_cache_get(w->cache, index, ids, count))
        return 0;
    const int result = make_tokens(w, index, ids, count, scratch, err);
    if (result == 0)
        token_cache_put(w->cache, index, ids, *count);
    return result;
}

int workspace_tokenise_all(struct workspace *w, bool quiet, struct err *err)
{
    const size_t count = w->news.ids.count, most = text_item_max(&w->model->config);
    struct workspace_scratch scratch = {0};
    size_t used = 0, size = 0;
    int result = 0;
    w->offsets = calloc(count + 1, sizeof *w->offsets);
    if (!w->offsets)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < count; i++) {
        size_t found = 0;
        result = array_grow(&w->ids, &size, used + most, sizeof *w->ids, err);
        if (result == 0)
            result = make_tokens(w, i, w->ids + used, &found, &scratch, err);
        used += found;
        w->offsets[i + 1] = used;
    }
    workspace_scratch_done(&scratch);
    if (result == 0)
        progress_say(quiet, "%zu tokens", used);
    return result;
}

/* ---- users ---- */

const uint32_t *workspace_window(const struct workspace *w, size_t user, size_t *count)
{
    *count = 0;
    if (user >= w->histories.users.count)
        return NULL;
    const struct history history = histories_get(&w->histories, user);
    *count = history.total - text_window_start(&w->model->config, history.total); /* at most max_items */
    return *count ? history.items + history.count - *count : NULL;
}

/* ---- inputs ---- */

uint64_t workspace_settings(const struct workspace *w)
{
    static const char explained[] = "explained";
    return w->explain ? XXH3_64bits_withSeed(explained, sizeof explained, w->model_hash) : w->model_hash;
}

static uint64_t never_0(uint64_t hash)
{
    return hash ? hash : 1;
}

/* The kind and the model begin a chain, in which each text's hash is hashed with the one before it as the seed: neither
 * can be taken for another, nor an order for another. */
static uint64_t inputs_of(const struct workspace *w, char kind, const uint32_t *items, size_t count)
{
    uint64_t hash = XXH3_64bits_withSeed(&kind, 1, workspace_settings(w));
    for (size_t i = 0; i < count; i++)
        hash = XXH3_64bits_withSeed(&w->news.rows[items[i]].hash, sizeof w->news.rows->hash, hash);
    return never_0(hash);
}

uint64_t workspace_content_inputs(const struct workspace *w, size_t index)
{
    return inputs_of(w, 'c', &(const uint32_t){(uint32_t)index}, 1);
}

uint64_t workspace_user_inputs(const struct workspace *w, size_t user)
{
    size_t count;
    const uint32_t *items = workspace_window(w, user, &count);
    return inputs_of(w, 'u', items, count);
}
