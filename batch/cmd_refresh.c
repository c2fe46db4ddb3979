#include "batch/categories.h"
#include "batch/commands.h"
#include "batch/encode_job.h"
#include "batch/progress.h"
#include "batch/publish.h"
#include "batch/stop.h"
#include "batch/store_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct refresh {
    const struct workspace *workspace;
    struct generation_writer *writer;
};

static int put_content(void *ctx, size_t index, uint64_t inputs, const float *b, struct err *err)
{
    const struct refresh *refresh = ctx;
    const struct model_config *c = &refresh->workspace->model->config;
    const struct id_map *ids = &refresh->workspace->news.ids;
    return generation_put_matrix(refresh->writer, BLOB_CONTENT, id_map_get(ids, index), ids->length[index],
        inputs, b, model_n(c), c->d_model, err);
}

static int put_user(
    void *ctx, size_t index, uint64_t inputs, const float *a, const struct encode_user *user, struct err *err)
{
    const struct refresh *refresh = ctx;
    const struct workspace *w = refresh->workspace;
    const struct model_config *c = &w->model->config;
    const struct id_map *ids = &w->histories.users;
    const bool known = index < ids->count; /* the default user is stored under the empty id */
    const char *id = known ? id_map_get(ids, index) : "";
    const size_t len = known ? ids->length[index] : 0;
    char *text;
    int result =
        generation_put_matrix(refresh->writer, BLOB_USER, id, len, inputs, a, model_m(c), c->d_model, err);
    if (result == 0)
        result = tokenizer_decode(w->tokenizer, user->summary, user->summary_count, &text, err);
    if (result < 0)
        return result;
    result = generation_put_summary(refresh->writer, id, len, text, strlen(text), err);
    free(text);
    return result;
}

static int put_categories(
    struct generation_writer *writer, const struct news *news, bool quiet, struct err *err)
{
    struct categories categories;
    int result = categories_of_news(&categories, news, quiet, err);
    if (result < 0)
        return result;
    result = categories_put(&categories, &news->ids, writer, err);
    categories_done(&categories);
    return result;
}

/* A new generation with everything in it; the live one is not touched before the last step. */
static int fill(const struct workspace *w, struct store *store, enum blob_dtype dtype, long threads,
    const struct publish_options *options, struct err *err)
{
    const struct model_config *c = &w->model->config;
    struct refresh refresh = {.workspace = w};
    const struct encode_sink sink = {put_content, put_user, &refresh};
    struct manifest manifest = {.m = model_m(c), .n = model_n(c), .d = c->d_model};
    strcpy(manifest.model_sha256, w->model_sha256);
    int result = generation_begin(&refresh.writer, store, dtype, err);
    if (result < 0)
        return result;
    progress_say(options->quiet, "generation %s", generation_name(refresh.writer));
    result = generation_put_matrix(refresh.writer, BLOB_SCORE_PROJ, "", 0, w->model_hash,
        w->model->score_proj, c->d_model, c->d_model, err);
    if (result == 0)
        result = encode_job(w, &sink, threads, options->quiet, err);
    if (result == 0)
        result = put_categories(refresh.writer, &w->news, options->quiet, err);
    if (result == 0)
        return publish(refresh.writer, store, &manifest, options, err);
    generation_end(refresh.writer);
    return result;
}

int command_refresh(int argc, char **argv)
{
    struct workspace_options inputs = {0};
    struct store_args where = {0};
    struct publish_options how = PUBLISH_OPTIONS_INIT;
    long threads = 0;
    const struct option options[] = {
        {"model", "DIR", "the model's folder", true, OPTION_TEXT, &inputs.model, 0, 0},
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv", true, OPTION_TEXT, &inputs.behaviors, 0, 0},
        STORE_OPTIONS(where),
        {"threads", "N", "0, one a core, unless given", false, OPTION_NUMBER, &threads, 0, 1024},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &inputs.rows.max_bad, 0, 0},
        {"quarantine", "FILE", "replaced by a file with the bad rows: file, line, reason, the row", false,
            OPTION_TEXT, &inputs.quarantine, 0, 0},
        PUBLISH_OPTIONS(how),
    };
    const struct command command = {"refresh --model DIR --news FILE --behaviors FILE --store URL",
        "Encode all contents and users into a new generation and make it live.\n"
        "The second column of news.tsv becomes the categories that /rank may be asked for.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    struct workspace workspace;
    struct store *store = NULL;
    enum blob_dtype dtype;
    if (blob_dtype_parse(&dtype, how.dtype_name, &err) < 0) {
        fprintf(stderr, "embsum: --store-dtype: %s\n", err.message);
        return EXIT_USAGE;
    }
    inputs.rows.quiet = how.quiet;
    stop_on_signals();
    int result = store_args_open(&store, &where, &err);
    if (result == 0)
        result = workspace_open(&workspace, &inputs, &err);
    if (result == 0) {
        result = fill(&workspace, store, dtype, threads, &how, &err);
        workspace_close(&workspace);
    }
    store_close(store);
    return result < 0 ? command_failed("refresh", &err) : EXIT_DONE;
}
