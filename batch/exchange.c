#include "batch/exchange.h"

#include "batch/lines.h"
#include "batch/summaries.h"
#include "batch/titles.h"
#include "core/file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct id_lines {
    struct id_map *ids;
    bool empty_allowed; /* one line may be empty */
};

static int take_id(void *ctx, const char *line, size_t len, struct err *err)
{
    const struct id_lines *lines = ctx;
    bool added;
    len = lines_trim(line, len);
    const int result = lines->empty_allowed && !len ? 0 : id_check(line, len, err);
    if (result < 0)
        return result;
    if (id_map_add(lines->ids, line, len, &added) < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    return added ? 0 : err_set(err, ERR_INVALID, "the id %.*s comes twice", (int)len, line);
}

static int open_matrices(struct npy *npy, struct id_map *ids, const char *dir, const char *npy_name,
    const char *ids_name, bool empty_allowed, struct err *err)
{
    char path[4096];
    int result = file_path(path, dir, npy_name, err);
    if (result == 0)
        result = npy_open(npy, path, 3, err);
    if (result == 0)
        result = file_path(path, dir, ids_name, err);
    if (result == 0)
        result = lines_read(path, SIZE_MAX, take_id, &(struct id_lines){ids, empty_allowed}, err);
    if (result == 0 && ids->count != npy->shape[0])
        result = err_set(err, ERR_INVALID, "%s has %zu ids, but %s has %zu matrices", path, ids->count,
            npy->path, npy->shape[0]);
    return result;
}

static int take_summary(void *ctx, const char *user, size_t user_len, const char *summary, struct err *err)
{
    struct exchange *x = ctx;
    const ptrdiff_t index = id_map_find(&x->user_ids, user, user_len);
    if (index < 0)
        return err_set(err, ERR_INVALID, "user %.64s is not in user.ids", user);
    free(x->summary[index]);
    x->summary[index] = strdup(summary);
    return x->summary[index] ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int read_summaries(struct exchange *x, const char *path, struct err *err)
{
    x->summary = calloc(x->user_ids.count + 1, sizeof *x->summary);
    if (!x->summary)
        return err_set(err, ERR_NOMEM, "out of memory");
    x->summaries = x->user_ids.count;
    return access(path, F_OK) == 0 ? summaries_read(path, take_summary, x, err) : 0;
}

static int read_categories(struct exchange *x, const char *dir, struct err *err)
{
    char path[4096];
    const int result = file_path(path, dir, "categories.tsv", err);
    if (result < 0 || access(path, F_OK) != 0)
        return result;
    return categories_read(&x->categories, path, &x->content_ids, err);
}

static int read_titles(struct exchange *x, const char *dir, struct err *err)
{
    char path[4096];
    const int result = file_path(path, dir, "titles.tsv", err);
    if (result < 0 || access(path, F_OK) != 0)
        return result;
    x->title = calloc(x->content_ids.count + 1, sizeof *x->title);
    if (!x->title)
        return err_set(err, ERR_NOMEM, "out of memory");
    x->titles = x->content_ids.count;
    return titles_read(x->title, path, &x->content_ids, err);
}

static int check_dimensions(const struct exchange *x, struct err *err)
{
    const size_t d = x->content.shape[2];
    if (!x->content.shape[0] || !x->content.shape[1] || !d || !x->user.shape[0] || !x->user.shape[1])
        return err_set(err, ERR_INVALID, "%s or %s is empty", x->content.path, x->user.path);
    if (x->user.shape[2] != d)
        return err_set(err, ERR_INVALID, "%s is %zu wide, but %s is %zu", x->user.path, x->user.shape[2],
            x->content.path, d);
    if (x->score_proj.shape[0] != d || x->score_proj.shape[1] != d)
        return err_set(err, ERR_INVALID, "%s is %zu x %zu; %zu x %zu is wanted", x->score_proj.path,
            x->score_proj.shape[0], x->score_proj.shape[1], d, d);
    return 0;
}

int exchange_open(struct exchange *x, const char *dir, struct err *err)
{
    char path[4096];
    *x = (struct exchange){.content.fd = -1, .user.fd = -1, .score_proj.fd = -1};
    int result = open_matrices(&x->content, &x->content_ids, dir, "content.npy", "content.ids", false, err);
    if (result == 0)
        result = open_matrices(&x->user, &x->user_ids, dir, "user.npy", "user.ids", true, err);
    if (result == 0)
        result = file_path(path, dir, "score_proj.npy", err);
    if (result == 0)
        result = npy_open(&x->score_proj, path, 2, err);
    if (result == 0)
        result = check_dimensions(x, err);
    if (result == 0)
        result = file_path(path, dir, "summaries.jsonl", err);
    if (result == 0)
        result = read_summaries(x, path, err);
    if (result == 0)
        result = read_categories(x, dir, err);
    if (result == 0)
        result = read_titles(x, dir, err);
    if (result < 0)
        exchange_close(x);
    return result;
}

void exchange_close(struct exchange *x)
{
    npy_close(&x->content, NULL);
    npy_close(&x->user, NULL);
    npy_close(&x->score_proj, NULL);
    id_map_done(&x->content_ids);
    id_map_done(&x->user_ids);
    for (size_t i = 0; i < x->summaries; i++)
        free(x->summary[i]);
    free(x->summary);
    for (size_t i = 0; i < x->titles; i++)
        free(x->title[i]);
    free(x->title);
    categories_done(&x->categories);
    *x = (struct exchange){.content.fd = -1, .user.fd = -1, .score_proj.fd = -1};
}
