#include "batch/doctor.h"

#include "core/scorer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* As embsumd would read it: the file, then the environment. */
static bool read_config(struct doctor *doctor, const char *path)
{
    struct err err = ERR_INIT;
    int rc = path ? config_load(&doctor->config, path, &err) : 0;
    if (rc < 0) {
        doctor_tell_err(doctor, "config.file",
            "Mend the file: config/REFERENCE.md has every key and what it takes.", &err);
        return false;
    }
    rc = config_env(&doctor->config, environ, &err);
    if (rc < 0) {
        doctor_tell_err(
            doctor, "config.environment", "Set the variable to what its key takes, or unset it.", &err);
        return false;
    }
    rc = path ? config_check(&doctor->config, &err) : 0;
    if (rc < 0)
        doctor_tell_err(doctor, "config.file", "Change one of the keys that are named.", &err);
    else if (path)
        doctor_tell(
            doctor, FINDING_OK, "config.file", NULL, "%s: every key is known and takes its value", path);
    return rc == 0;
}

static void check_kernel(struct doctor *doctor)
{
    const struct config *const config = &doctor->config;
    struct scorer *scorer = NULL;
    struct err err = ERR_INIT;
    enum scorer_dtype dtype = SCORER_F32;
    while (dtype + 1 < SCORER_DTYPES && strcmp(config->scoring.dtype, scorer_dtype_name(dtype)) != 0)
        dtype++;
    const char *const kernel = strcmp(config->scoring.kernel, "auto") == 0 ? NULL : config->scoring.kernel;
    if (scorer_new(&scorer, dtype, kernel, 1, 1, 1, &err) < 0)
        doctor_tell_err(doctor, "config.scoring",
            "Set scoring.kernel to auto, or to one that this processor runs.", &err);
    else
        doctor_tell(doctor, FINDING_OK, "config.scoring", NULL, "scores in %s by the kernel %s",
            config->scoring.dtype, scorer_kernel(scorer));
    scorer_free(scorer);
}

static void check_secret(struct doctor *doctor, const char *key, const char *path)
{
    if (!*path)
        return;
    if (access(path, R_OK) == 0)
        doctor_tell(doctor, FINDING_OK, "config.secrets", NULL, "%s: %s can be read", key, path);
    else
        doctor_tell(doctor, FINDING_ERROR, "config.secrets",
            "Put the file there, readable by the daemon's user alone.", "%s: %s: %s", key, path,
            strerror(errno));
}

bool doctor_config(struct doctor *doctor, const char *path)
{
    doctor->configured = path != NULL;
    if (!read_config(doctor, path))
        return false;
    if (!path)
        return true;
    check_kernel(doctor);
    check_secret(doctor, "server.token_file", doctor->config.server.token_file);
    check_secret(doctor, "admin.token_file", doctor->config.admin.token_file);
    check_secret(doctor, "store.password_file", doctor->config.store.password_file);
    return true;
}
