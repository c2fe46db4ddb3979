#include "batch/categories.h"
#include "batch/commands.h"
#include "batch/encode_job.h"
#include "batch/npy.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/titles.h"
#include "core/file.h"
#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of one run. Matrices go to their place as they come; summaries wait for their order. */
struct output {
    const struct workspace *workspace;
    struct npy content, user;
    int32_t **summary; /* of each user */
    size_t *summary_count;
};

static int put_content(void *ctx, size_t index, uint64_t inputs, const float *b,
    const struct encode_weights *weights, struct err *err)
{
    struct output *out = ctx;
    (void)inputs, (void)weights;
    return npy_write(&out->content, b, index, 1, err);
}

static int put_user(void *ctx, size_t index, uint64_t inputs, const float *a, const struct encode_user *user,
    const struct encode_weights *weights, struct err *err)
{
    struct output *out = ctx;
    (void)inputs, (void)weights;
    out->summary[index] = malloc((user->summary_count + 1) * sizeof *user->summary);
    if (!out->summary[index])
        return err_set(err, ERR_NOMEM, "out of memory");
    memcpy(out->summary[index], user->summary, user->summary_count * sizeof *user->summary);
    out->summary_count[index] = user->summary_count;
    return npy_write(&out->user, a, index, 1, err);
}

static int write_ids(
    const char *dir, const char *name, const struct id_map *ids, bool empty_last, struct err *err)
{
    char path[4096];
    struct file_replacement file;
    int result = file_path(path, dir, name, err);
    if (result == 0)
        result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < ids->count; i++)
        fprintf(file.stream, "%s\n", id_map_get(ids, i));
    if (empty_last)
        fputc('\n', file.stream);
    return file_replace_commit(&file, err);
}

static int write_summary(FILE *stream, const struct output *out, size_t index, struct err *err)
{
    const struct workspace *w = out->workspace;
    char *text;
    int result = tokenizer_decode(w->tokenizer, out->summary[index], out->summary_count[index], &text, err);
    if (result < 0)
        return result;
    const char *id = index < w->histories.users.count ? id_map_get(&w->histories.users, index) : "";
    const size_t failures = json_failures();
    json_t *tokens = json_array();
    for (size_t i = 0; i < out->summary_count[index]; i++)
        json_array_append_new(tokens, json_integer(out->summary[index][i]));
    json_t *line = json_pack("{s:s, s:s, s:o}", "user", id, "summary", text, "tokens", tokens);
    if (failures != json_failures())
        result = err_set(err, ERR_NOMEM, "out of memory");
    else if (!line || json_dumpf(line, stream, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0)
        result = err_set(err, ERR_IO, "cannot write the summary of user %s", id);
    fputc('\n', stream);
    json_decref(line);
    free(text);
    return result;
}

static int write_summaries(const char *dir, const struct output *out, struct err *err)
{
    char path[4096];
    struct file_replacement file;
    int result = file_path(path, dir, "summaries.jsonl", err);
    if (result == 0)
        result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    for (size_t i = 0; result == 0 && i <= out->workspace->histories.users.count; i++)
        result = write_summary(file.stream, out, i, err);
    if (result == 0)
        return file_replace_commit(&file, err);
    file_replace_abort(&file);
    return result;
}

static int write_categories(const char *dir, const struct news *news, bool quiet, struct err *err)
{
    char path[4096];
    struct categories categories;
    int result = file_path(path, dir, "categories.tsv", err);
    if (result == 0)
        result = categories_of_news(&categories, news, quiet, err);
    if (result < 0)
        return result;
    result = categories_write(&categories, &news->ids, path, err);
    categories_done(&categories);
    return result;
}

static int write_titles(const char *dir, const struct news *news, struct err *err)
{
    char path[4096];
    const int result = file_path(path, dir, "titles.tsv", err);
    return result < 0 ? result : titles_write(news, path, err);
}

static int write_score_proj(const char *dir, const struct model *model, struct err *err)
{
    char path[4096];
    struct npy npy;
    const size_t d = model->config.d_model, shape[2] = {d, d};
    int result = file_path(path, dir, "score_proj.npy", err);
    if (result == 0)
        result = npy_create(&npy, path, 2, shape, err);
    if (result < 0)
        return result;
    result = npy_write(&npy, model->score_proj, 0, d, err);
    const int closed = npy_close(&npy, result < 0 ? NULL : err);
    return result < 0 ? result : closed;
}

static int create(struct output *out, const char *dir, struct err *err)
{
    char path[4096];
    const struct workspace *w = out->workspace;
    const struct model_config *c = &w->model->config;
    const size_t users = w->histories.users.count + 1; /* and the default user */
    const size_t content[3] = {w->news.ids.count, model_n(c), c->d_model},
                 user[3] = {users, model_m(c), c->d_model};
    out->summary = calloc(users, sizeof *out->summary);
    out->summary_count = calloc(users, sizeof *out->summary_count);
    if (!out->summary || !out->summary_count)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = file_make_dir(dir, err);
    if (result == 0)
        result = file_path(path, dir, "content.npy", err);
    if (result == 0)
        result = npy_create(&out->content, path, 3, content, err);
    if (result == 0)
        result = file_path(path, dir, "user.npy", err);
    if (result == 0)
        result = npy_create(&out->user, path, 3, user, err);
    return result;
}

static int encode(const struct workspace *w, const char *dir, long threads, bool quiet, struct err *err)
{
    struct output out = {.workspace = w, .content.fd = -1, .user.fd = -1};
    const struct encode_sink sink = {put_content, put_user, &out};
    const struct encode_request request = {.content_count = w->news.ids.count,
        .user_count = w->histories.users.count + 1,
        .threads = threads,
        .quiet = quiet};
    struct encode_done done;
    int result = create(&out, dir, err);
    if (result == 0)
        result = encode_job(&done, w, &sink, &request, err);
    if (result == 0)
        result = write_ids(dir, "content.ids", &w->news.ids, false, err);
    if (result == 0)
        result = write_ids(dir, "user.ids", &w->histories.users, true, err);
    if (result == 0)
        result = write_summaries(dir, &out, err);
    if (result == 0)
        result = write_categories(dir, &w->news, quiet, err);
    if (result == 0)
        result = write_titles(dir, &w->news, err);
    if (result == 0)
        result = write_score_proj(dir, w->model, err);
    const int content = npy_close(&out.content, result < 0 ? NULL : err);
    const int user = npy_close(&out.user, result < 0 || content < 0 ? NULL : err);
    for (size_t i = 0; out.summary && i <= w->histories.users.count; i++)
        free(out.summary[i]);
    free(out.summary);
    free(out.summary_count);
    return result < 0 ? result : content < 0 ? content : user;
}

int command_encode(int argc, char **argv)
{
    struct workspace_options inputs = {0};
    const char *out = NULL, *dtype = NULL;
    long threads = 0;
    const struct option options[] = {
        {"model", "DIR", "the model's folder", true, OPTION_TEXT, &inputs.model, 0, 0},
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv", true, OPTION_TEXT, &inputs.behaviors, 0, 0},
        {"out", "DIR",
            "folder for content.npy, user.npy, their .ids, score_proj.npy, summaries.jsonl, categories.tsv, "
            "titles.tsv",
            true, OPTION_TEXT, &out, 0, 0},
        WORKSPACE_DTYPE_OPTION(dtype),
        {"threads", "N", "0, one a core, unless given", false, OPTION_NUMBER, &threads, 0, 1024},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &inputs.rows.max_bad, 0, 0},
        {"quarantine", "FILE", "replaced by a file with the bad rows: file, line, reason, the row", false,
            OPTION_TEXT, &inputs.quarantine, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &inputs.rows.quiet, 0, 0},
    };
    const struct command command = {"encode --model DIR --news FILE --behaviors FILE --out DIR",
        "Encode all contents and users to matrices. The last user, with an empty id, is the default user.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    if (workspace_dtype(&inputs, dtype) != EXIT_DONE)
        return EXIT_USAGE;
    struct err err = ERR_INIT;
    struct workspace workspace;
    stop_on_signals();
    int result = workspace_open(&workspace, &inputs, &err);
    if (result == 0) {
        result = encode(&workspace, out, threads, inputs.rows.quiet, &err);
        workspace_close(&workspace);
    }
    return result < 0 ? command_failed("encode", &err) : EXIT_DONE;
}
