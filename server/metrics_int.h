/* What the files of the metrics' page share:
 *
 *     metrics.c       counting, and the requests, workers and rankings of the page
 *     metrics_live.c  the generation in memory, the store, the process */
#ifndef EMBSUM_SERVER_METRICS_INT_H
#define EMBSUM_SERVER_METRICS_INT_H

#include "server/metrics.h"

struct service;

/* The two lines before a family's samples. */
void metrics_head(struct writer *w, const char *name, const char *type, const char *help);
/* A family of one sample without labels. */
void metrics_single(struct writer *w, const char *name, const char *type, const char *help, uint64_t value);

/* The sum over the threads of the counter at this offset in struct metrics. */
uint64_t metrics_sum(const struct service *service, size_t offset);
#define METRICS_SUM(service, member) metrics_sum(service, offsetof(struct metrics, member))

/* The samples of the histogram at this offset; labels are "a=\"b\"", or "". */
void metrics_write_histogram(
    struct writer *w, const struct service *service, const char *name, const char *labels, size_t offset);

/* metrics_live.c */
void metrics_write_store(struct writer *w, struct service *service);
void metrics_write_generation(struct writer *w, const struct service *service);
void metrics_write_process(struct writer *w, const struct service *service);

#endif
