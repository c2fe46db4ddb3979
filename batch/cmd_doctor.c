#include "batch/commands.h"
#include "batch/doctor.h"
#include "batch/store_args.h"

#include <stdio.h>
#include <stdlib.h>

static void tell_sum(const struct doctor *doctor)
{
    const size_t warnings = doctor->findings[FINDING_WARNING], errors = doctor->findings[FINDING_ERROR];
    if (!doctor->as_json)
        fprintf(doctor->screen->out, "\n%zu checks are well, %zu warnings, %zu errors\n",
            doctor->findings[FINDING_OK], warnings, errors);
}

static void examine(
    struct doctor *doctor, const struct store_args *where, const char *file, const char *model)
{
    struct err err = ERR_INIT;
    doctor_libraries(doctor);
    doctor_kernels(doctor);
    const bool usable = doctor_config(doctor, file);
    doctor_machine(doctor, "");
    if (store_args_apply(&doctor->config, where, &err) < 0)
        doctor_tell_err(doctor, "store.url", "Correct --store, --prefix or --password-file.", &err);
    else if (where->url || getenv("EMBSUM_STORE_URL") || (file && usable))
        doctor_store(doctor);
    if (model)
        doctor_model(doctor, model);
}

int command_doctor(int argc, char **argv)
{
    struct store_args where = {0};
    const char *model = NULL, *file = NULL;
    struct screen screen;
    struct doctor doctor = {.screen = &screen};
    const struct option options[] = {
        STORE_OPTIONS(where),
        {"model", "DIR", "a model's folder to look at, beside the live generation", false, OPTION_TEXT,
            &model, 0, 0},
        {"config", "FILE", "embsumd's configuration to look at, and its store", false, OPTION_TEXT, &file, 0,
            0},
        {"json", NULL, "a line of JSON for each finding", false, OPTION_FLAG, &doctor.as_json, 0, 0},
    };
    const struct command command = {"doctor [--store URL] [--model DIR] [--config FILE]",
        "Check this machine, and what is named, and say what to do. It changes nothing, waits for no\n"
        "writer, and reads no more than a sample: it may be run beside a service at any time.\n"
        "Ends with 0 where there is no error (there may be warnings), else with 1.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    config_init(&doctor.config);
    screen_init(&screen, stdout);
    examine(&doctor, &where, file, model);
    tell_sum(&doctor);
    screen_done(&screen);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        struct err err = ERR_INIT;
        err_errno(&err, "write to stdout");
        return command_failed("doctor", &err);
    }
    return doctor.findings[FINDING_ERROR] ? EXIT_FAILED : EXIT_DONE;
}
