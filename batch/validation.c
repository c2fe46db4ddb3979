#include "batch/validation.h"

#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int validation_check(
    const struct workspace *workspace, const struct validation_options *o, bool quiet, struct err *err)
{
    const struct impressions_options options = {
        .path = o->path, .max_bad = o->max_bad, .limit = o->limit, .label_needed = true, .quiet = quiet};
    struct impressions in;
    size_t useful = 0;
    int result = impressions_open(&in, &options, &workspace->news, err);
    if (result < 0)
        return result;
    while ((result = impressions_next(&in, err)) > 0) {
        size_t positives = 0;
        for (size_t i = 0; i < in.row.candidate_count; i++)
            positives += in.row.labels[i];
        useful += positives > 0 && positives < in.row.candidate_count;
    }
    impressions_close(&in);
    if (result == 0 && !useful)
        return err_set(err, ERR_INVALID, "%s has no impression with a positive and a negative", o->path);
    return result;
}

bool validation_due(
    const struct validation_options *o, const struct validation_state *state, size_t step, size_t steps)
{
    if (!o->path || step == 0 || state->step == step)
        return false;
    const size_t tenth = steps / 10 > 1 ? steps / 10 : 1, every = o->every ? o->every : tenth;
    return step == steps || step % every == 0;
}

/* Is it a file of a model, or one that was being written when its writer was killed? */
static bool is_of_model(const char *name)
{
    static const char *const files[] = {"model.safetensors", "config.json", "spiece.model"};
    bool found = false;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        found |= strncmp(name, files[i], strlen(files[i])) == 0;
    return found;
}

/* Remove a folder of a model, however much of one it is. */
static int remove_model(const char *dir, struct err *err)
{
    DIR *folder = opendir(dir);
    if (!folder)
        return errno == ENOENT ? 0 : err_errno(err, "open %s", dir);
    const struct dirent *entry;
    int result = 0;
    while (result == 0 && (entry = readdir(folder)) != NULL)
        if (is_of_model(entry->d_name) && unlinkat(dirfd(folder), entry->d_name, 0) != 0)
            result = err_errno(err, "remove %s/%s", dir, entry->d_name);
    closedir(folder);
    if (result == 0 && rmdir(dir) != 0)
        result = err_errno(err, "remove the folder %s", dir);
    return result;
}

/* The folders: the best model, and one that is being written or removed. */
static int paths(char best[4096], char aside[4096], const char *out_dir, struct err *err)
{
    const int result = file_path(best, out_dir, "best", err);
    return result < 0 ? result : file_path(aside, out_dir, "best.part", err);
}

/* First aside, then away: at no time half of a model is called best. */
int validation_clear(const char *out_dir, struct err *err)
{
    char best[4096], aside[4096];
    int result = paths(best, aside, out_dir, err);
    if (result == 0)
        result = remove_model(aside, err);
    if (result < 0)
        return result;
    if (rename(best, aside) != 0)
        return errno == ENOENT ? 0 : err_errno(err, "move %s aside", best);
    return remove_model(aside, err);
}

static int sync_folder(const char *path, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int result = fd < 0 || fsync(fd) != 0 ? err_errno(err, "sync the folder %s", path) : 0;
    if (fd >= 0)
        close(fd);
    return result;
}

/* The first best model is written aside and gets its name when it is whole. From then on config and vocabulary stay as
 * they are, and the weights are replaced in one step. */
static int keep(const struct workspace *workspace, const char *out_dir, struct err *err)
{
    char best[4096], aside[4096], vocab[4096];
    struct stat status;
    int result = paths(best, aside, out_dir, err);
    if (result < 0)
        return result;
    if (stat(best, &status) == 0)
        return model_save(workspace->model, best, err);
    result = file_path(vocab, out_dir, "spiece.model", err);
    if (result == 0)
        result = workspace_make_dir(aside, vocab, err);
    if (result == 0)
        result = model_save(workspace->model, aside, err);
    if (result == 0 && rename(aside, best) != 0)
        result = err_errno(err, "rename %s", aside);
    return result < 0 ? result : sync_folder(out_dir, err);
}

int validation_run(struct validation_state *state, struct eval_result *out, const struct workspace *workspace,
    const struct validation_options *o, const char *out_dir, size_t step, size_t threads, struct err *err)
{
    const struct eval_options options = {.impressions = {.path = o->path,
                                             .max_bad = o->max_bad,
                                             .limit = o->limit,
                                             .label_needed = true,
                                             .quiet = true},
        .threads = (long)threads,
        .quiet = true};
    struct eval_result found;
    int result = eval_job(&found, workspace, &options, err);
    if (result == 0 && isnan(found.mean.auc))
        result = err_set(err, ERR_INVALID, "%s has no impression with a positive and a negative", o->path);
    const bool better = result == 0 && (!state->best_step || found.mean.auc > state->best_auc);
    if (better)
        result = keep(workspace, out_dir, err);
    if (result < 0)
        return result;
    if (better) {
        state->best_step = step;
        state->best_auc = found.mean.auc;
    }
    state->step = step;
    *out = found;
    return 0;
}
