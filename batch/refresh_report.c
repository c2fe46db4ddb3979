#include "batch/refresh_report.h"

#include "batch/lines.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void refresh_report_print(const struct refresh_report *report)
{
    const struct refresh_done *d = report->done;
    printf(
        "{\"generation\":\"%s\",\"state\":\"%s\",\"users\":%zu,\"contents\":%zu,\"encoded\":{\"users\":%zu,"
        "\"contents\":%zu,\"tokens\":%zu},\"deleted\":{\"users\":%zu,\"contents\":%zu},\"bad_rows\":%zu,"
        "\"refused\":%zu,\"seconds\":%.3f,\"complete\":%s,\"stopped\":\"%s\"}\n",
        d->generation, d->state, d->users, d->contents, d->encoded_users, d->encoded_contents, d->tokens,
        d->deleted_users, d->deleted_contents, report->bad_rows, d->refused, d->seconds,
        d->complete ? "true" : "false", report->stopped);
    fflush(stdout); /* whoever follows reads it now */
}

/* ---- Prometheus ---- */

#define LAST_SUCCESS "embsum_refresh_last_success_timestamp_seconds"

static int find_last(void *ctx, const char *line, size_t len, struct err *err)
{
    (void)err;
    const size_t name = strlen(LAST_SUCCESS " ");
    if (len > name && strncmp(line, LAST_SUCCESS " ", name) == 0)
        *(double *)ctx = strtod(line + name, NULL);
    return 0;
}

static void gauge(FILE *out, const char *name, const char *help, double value)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %.17g\n", name, help, name, name, value);
}

static void by_kind(FILE *out, const char *name, const char *help, size_t users, size_t contents)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s{kind=\"user\"} %zu\n%s{kind=\"content\"} %zu\n", name,
        help, name, name, users, name, contents);
}

int refresh_report_metrics(const struct refresh_report *report, const char *path, struct err *err)
{
    const struct refresh_done *d = report->done;
    const time_t seconds = time(NULL);
    const double now = (double)seconds;
    double last = 0; /* a file that is not there says the same as one without the line */
    struct file_replacement file;
    lines_read(path, SIZE_MAX, find_last, &last, NULL);
    const int result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    FILE *out = file.stream;
    gauge(out, "embsum_refresh_last_run_timestamp_seconds", "When the last run ended.", now);
    gauge(out, LAST_SUCCESS, "When the last run ended that brought everything up to date.",
        report->success && d->complete ? now : last);
    gauge(out, "embsum_refresh_success", "1 if the last run did not fail.", report->success);
    gauge(out, "embsum_refresh_complete", "1 if the last run brought everything up to date.", d->complete);
    gauge(out, "embsum_refresh_duration_seconds", "How long the last run took, reading its inputs aside.",
        d->seconds);
    by_kind(out, "embsum_refresh_entries", "Entries there are after the last run.", d->users, d->contents);
    by_kind(out, "embsum_refresh_encoded", "Entries that the last run encoded.", d->encoded_users,
        d->encoded_contents);
    by_kind(out, "embsum_refresh_deleted", "Entries that the last run deleted.", d->deleted_users,
        d->deleted_contents);
    gauge(out, "embsum_refresh_tokens", "Tokens that went through the encoder in the last run.",
        (double)d->tokens);
    gauge(out, "embsum_refresh_bad_rows", "Bad rows of the input files in the last run.",
        (double)report->bad_rows);
    gauge(out, "embsum_refresh_refused", "Matrices of the last run that were not fit to be stored.",
        (double)d->refused);
    return file_replace_commit(&file, err);
}
