#include "batch/commands.h"
#include "batch/exchange.h"
#include "batch/progress.h"
#include "batch/publish.h"
#include "batch/stop.h"
#include "batch/store_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* All matrices of one file into the generation. */
static int put_matrices(struct generation_writer *writer, enum blob_kind kind, const struct npy *npy,
    const struct id_map *ids, bool quiet, struct err *err)
{
    float *matrix = malloc(npy->item * sizeof *matrix);
    if (!matrix)
        return err_set(err, ERR_NOMEM, "out of memory");
    struct progress progress;
    progress_begin(&progress, kind == BLOB_USER ? "users" : "contents", ids->count, quiet);
    int result = 0;
    for (size_t i = 0; result == 0 && i < ids->count; i++) {
        result = npy_read(npy, matrix, i, 1, err);
        if (result < 0)
            break;
        const uint64_t inputs = XXH3_64bits(matrix, npy->item * sizeof *matrix);
        result = generation_put_matrix(writer, kind, id_map_get(ids, i), ids->length[i], inputs, matrix,
            npy->shape[1], npy->shape[2], err);
        if (result < 0)
            err_place(err, "%s, row %zu (id %s): ", npy->path, i, id_map_get(ids, i));
        else if (stop_asked())
            result = err_set(err, ERR_UNAVAILABLE, "stopped by a signal");
        progress_add(&progress, 1);
    }
    if (result == 0)
        progress_end(&progress);
    free(matrix);
    return result;
}

static int put_score_proj(struct generation_writer *writer, const struct npy *npy, struct err *err)
{
    const size_t d = npy->shape[0];
    float *matrix = malloc(d * d * sizeof *matrix);
    if (!matrix)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = npy_read(npy, matrix, 0, d, err);
    if (result == 0)
        result = generation_put_matrix(
            writer, BLOB_SCORE_PROJ, "", 0, XXH3_64bits(matrix, d * d * sizeof *matrix), matrix, d, d, err);
    free(matrix);
    return result;
}

static int put_summaries(struct generation_writer *writer, const struct exchange *x, struct err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < x->summaries; i++)
        if (x->summary[i])
            result = generation_put_summary(writer, id_map_get(&x->user_ids, i), x->user_ids.length[i],
                x->summary[i], strlen(x->summary[i]), err);
    return result;
}

static int put_titles(struct generation_writer *writer, const struct exchange *x, struct err *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < x->titles; i++)
        if (x->title[i])
            result = generation_put_title(writer, id_map_get(&x->content_ids, i), x->content_ids.length[i],
                x->title[i], strlen(x->title[i]), err);
    return result;
}

static int import(const struct exchange *x, struct store *store, enum blob_dtype dtype,
    const struct publish_options *options, struct err *err)
{
    struct generation_writer *writer;
    struct manifest manifest = {.m = x->user.shape[1], .n = x->content.shape[1], .d = x->content.shape[2]};
    int result = generation_begin(&writer, store, dtype, err);
    if (result < 0)
        return result;
    progress_say(options->quiet, "generation %s", generation_name(writer));
    if (id_map_find(&x->user_ids, "", 0) < 0)
        progress_say(options->quiet, "user.ids has no empty id: unknown users will not be ranked");
    result = put_score_proj(writer, &x->score_proj, err);
    if (result == 0)
        result = put_matrices(writer, BLOB_CONTENT, &x->content, &x->content_ids, options->quiet, err);
    if (result == 0)
        result = put_titles(writer, x, err);
    if (result == 0)
        result = put_matrices(writer, BLOB_USER, &x->user, &x->user_ids, options->quiet, err);
    if (result == 0)
        result = put_summaries(writer, x, err);
    if (result == 0)
        result = categories_put(&x->categories, &x->content_ids, NULL, writer, err);
    if (result == 0)
        return publish(writer, store, &manifest, options, err);
    generation_end(writer);
    return result;
}

int command_import(int argc, char **argv)
{
    struct store_args where = {0};
    struct publish_options how = PUBLISH_OPTIONS_INIT;
    const char *in = NULL;
    const struct option options[] = {
        {"in", "DIR",
            "content.npy, content.ids, user.npy, user.ids, score_proj.npy [summaries.jsonl, "
            "categories.tsv, titles.tsv]",
            true, OPTION_TEXT, &in, 0, 0},
        STORE_OPTIONS(where),
        PUBLISH_OPTIONS(how),
    };
    const struct command command = {"import --in DIR --store URL",
        "Store matrices that were made elsewhere as a new generation and make it live.\n"
        "An empty line in user.ids is the default user, who stands for unknown ones. A line of\n"
        "categories.tsv is a content's id, a tab, a category that /rank may be asked for; of titles.tsv\n"
        "a content's id, a tab, its title.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    struct exchange exchange;
    struct store *store = NULL;
    enum blob_dtype dtype;
    if (blob_dtype_parse(&dtype, how.dtype_name, &err) < 0) {
        fprintf(stderr, "embsum: --store-dtype: %s\n", err.message);
        return EXIT_USAGE;
    }
    stop_on_signals();
    int result = store_args_open(&store, &where, &err);
    if (result == 0)
        result = exchange_open(&exchange, in, &err);
    if (result == 0) {
        result = import(&exchange, store, dtype, &how, &err);
        exchange_close(&exchange);
    }
    store_close(store);
    return result < 0 ? command_failed("import", &err) : EXIT_DONE;
}
