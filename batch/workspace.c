#include "batch/workspace.h"

#include "batch/progress.h"
#include "core/file.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int sha256_file(uint8_t digest[SHA256_DIGEST_SIZE], const char *path, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    uint8_t chunk[65536];
    size_t got;
    struct sha256_ctx sha;
    sha256_init(&sha);
    while ((got = fread(chunk, 1, sizeof chunk, stream)) > 0)
        sha256_update(&sha, got, chunk);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
    const int result = ferror(stream) ? err_errno(err, "read %s", path) : 0;
    fclose(stream);
    return result;
}

/* What the model is, as one number: a change in any of its files is a change of every text's inputs. */
static int identify(struct workspace *w, const char *dir, struct err *err)
{
    static const char *const files[] = {"model.safetensors", "config.json", "spiece.model"};
    uint8_t digest[3][SHA256_DIGEST_SIZE];
    for (size_t i = 0; i < 3; i++) {
        char path[4096];
        int result = file_path(path, dir, files[i], err);
        if (result == 0)
            result = sha256_file(digest[i], path, err);
        if (result < 0)
            return result;
    }
    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++)
        snprintf(w->model_sha256 + 2 * i, 3, "%02x", digest[0][i]);
    w->model_hash = XXH3_64bits(digest, sizeof digest);
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

int workspace_open(struct workspace *w, const struct workspace_options *options, struct err *err)
{
    char path[4096];
    *w = (struct workspace){0};
    int result = model_load(&w->model, options->model, NULL, err);
    if (result == 0)
        result = file_path(path, options->model, "spiece.model", err);
    if (result == 0)
        result = workspace_tokenizer(&w->tokenizer, w->model, path, err);
    if (result == 0)
        result = identify(w, options->model, err);
    if (result == 0)
        result = news_load(&w->news, options->news, (size_t)options->max_bad, options->quiet, err);
    if (result == 0 && options->behaviors)
        result = histories_load(
            &w->histories, options->behaviors, &w->news, (size_t)options->max_bad, options->quiet, err);
    if (result == 0)
        result = tokenise(w, err);
    if (result < 0)
        workspace_close(w);
    else
        tell(w, options);
    return result;
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
