/* The daemon's log: one JSON object a line on stderr.
 *
 *     struct log_line line;
 *     log_begin(&line, log, LOG_INFO, "listening");
 *     log_text(&line, "address", address);
 *     log_end(&line);
 *
 *     {"ts":"2026-11-24T03:00:00.123Z","level":"info","msg":"listening","address":"127.0.0.1:8080"}
 *
 * Fields of a line below the log's level cost nothing but the call. Everything from outside is escaped, and a
 * line is written by one write(2): threads need no lock. */
#ifndef EMBSUM_SERVER_LOG_H
#define EMBSUM_SERVER_LOG_H

#include "core/err.h"
#include "server/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log {
    int fd;
    enum log_level level; /* lines below are dropped */
};

/* level is one of debug, info, warn, error. */
int log_init(struct log *log, int fd, const char *level, struct err *err);

struct log_line {
    const struct log *log; /* NULL: dropped */
    struct writer text;
};

void log_begin(struct log_line *line, const struct log *log, enum log_level level, const char *message);
void log_text(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const char *value, size_t len);
void log_int(struct log_line *line, const char *key, int64_t value);
void log_end(struct log_line *line);

/* A line with nothing but an error in it. */
void log_err(const struct log *log, enum log_level level, const char *message, const struct err *err);

/* What a client or a broken store can provoke at any rate is logged at most LOG_LIMIT times a second; the
 * first line of the next second tells how many were left out. One per thread and kind of line. */
#define LOG_LIMIT 10
struct log_limit {
    uint64_t second;
    uint64_t count, dropped;
};

/* 2026-11-24T03:00:00.123Z */
#define LOG_TIME_MAX 80
struct timespec;
void log_format_time(char out[LOG_TIME_MAX], const struct timespec *time);

/* May a line be written now? *dropped receives how many were not since the last one. */
bool log_allow(struct log_limit *limit, uint64_t *dropped);

#endif
