#include "batch/farm_job.h"

#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, SILENT_MOST_S = 86400 };

char *farm_job_write(const struct farm_job *job)
{
    char number[24], settings[24];
    snprintf(number, sizeof number, "%016" PRIx64, job->number);
    snprintf(settings, sizeof settings, "%016" PRIx64, job->settings);
    json_t *tree = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:s}", "version", VERSION, "job", number,
        "settings", settings, "model_sha256", job->model_sha256, "dtype", linear_dtype_name(job->dtype),
        "silent_ms", job->silent_ms, "generation", job->generation);
    char *text = tree ? json_write(tree, JSON_COMPACT) : NULL;
    json_decref(tree);
    return text;
}

/* The text under a name, at most so long; NULL if there is none. */
static const char *text_of(const json_t *tree, const char *name, size_t most)
{
    const json_t *value = json_object_get(tree, name);
    return json_is_string(value) && json_string_length(value) <= most ? json_string_value(value) : NULL;
}

static bool number_of(uint64_t *out, const json_t *tree, const char *name)
{
    const char *text = text_of(tree, name, 16);
    int end = 0;
    return text && sscanf(text, "%16" SCNx64 "%n", out, &end) == 1 && end == 16;
}

static int read_fields(struct farm_job *job, const json_t *tree, struct err *err)
{
    const char *sha = text_of(tree, "model_sha256", sizeof job->model_sha256 - 1),
               *dtype = text_of(tree, "dtype", 16),
               *generation = text_of(tree, "generation", sizeof job->generation - 1);
    const json_t *silent = json_object_get(tree, "silent_ms");
    struct farm_job read = {.number = 0};
    if (json_integer_value(json_object_get(tree, "version")) != VERSION || !sha || !dtype || !generation ||
        !number_of(&read.number, tree, "job") || !number_of(&read.settings, tree, "settings") ||
        !json_is_integer(silent) || json_integer_value(silent) < 0 ||
        json_integer_value(silent) > 1000 * SILENT_MOST_S)
        return err_set(err, ERR_INVALID, "the queue of work in the store is none that this program knows");
    const int result = linear_dtype_parse(&read.dtype, dtype, err);
    if (result < 0)
        return result;
    read.silent_ms = (int)json_integer_value(silent);
    strcpy(read.model_sha256, sha);
    strcpy(read.generation, generation);
    *job = read;
    return 0;
}

int farm_job_read(struct farm_job *job, const char *text, struct err *err)
{
    json_error_t where;
    json_t *tree = json_read(text, strlen(text), JSON_REJECT_DUPLICATES, &where);
    const int result = read_fields(job, tree, err);
    json_decref(tree);
    return result;
}
