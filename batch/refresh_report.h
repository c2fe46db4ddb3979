/* What a refresh tells when it is over: one JSON line for whoever started it, a file for Prometheus' node exporter. */
#ifndef EMBSUM_BATCH_REFRESH_REPORT_H
#define EMBSUM_BATCH_REFRESH_REPORT_H

#include "batch/refresh.h"

struct refresh_report {
    const struct refresh_done *done;
    size_t bad_rows;
    const char
        *stopped; /* why it ended before everything was done: "time", "signal", "error"; "" if it did not */
    bool success;
};

/* {"generation":...,"state":"live","users":61,...}, a line on stdout. */
void refresh_report_print(const struct refresh_report *report);

/* Replace the file in one step. When a run has failed, the time of the last that did not is kept from the file before. */
int refresh_report_metrics(const struct refresh_report *report, const char *path, struct err *err);

#endif
