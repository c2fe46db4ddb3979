#include "server/log.h"

#include "server/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

int log_init(struct log *log, int fd, const char *level, struct err *err)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(level, level_names[i]) == 0) {
            *log = (struct log){.fd = fd, .level = (enum log_level)i};
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "log.level: \"%s\" is none of debug, info, warn, error", level);
}

void log_format_time(char out[LOG_TIME_MAX], const struct timespec *time)
{
    struct tm utc;
    gmtime_r(&time->tv_sec, &utc);
    snprintf(out, LOG_TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
        utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, time->tv_nsec / 1000000);
}

void log_begin(struct log_line *line, const struct log *log, enum log_level level, const char *message)
{
    *line = (struct log_line){.log = log && level >= log->level ? log : NULL};
    if (!line->log)
        return;
    struct timespec now;
    char time[LOG_TIME_MAX];
    clock_gettime(CLOCK_REALTIME, &now);
    log_format_time(time, &now);
    writer_open(&line->text, '{');
    log_text(line, "ts", time);
    log_text(line, "level", level_names[level]);
    log_text(line, "msg", message);
}

void log_bytes(struct log_line *line, const char *key, const char *value, size_t len)
{
    if (!line->log)
        return;
    writer_key(&line->text, key);
    writer_string(&line->text, value, len);
}

void log_text(struct log_line *line, const char *key, const char *value)
{
    log_bytes(line, key, value, strlen(value));
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    if (!line->log)
        return;
    writer_key(&line->text, key);
    writer_int(&line->text, value);
}

void log_end(struct log_line *line)
{
    if (!line->log)
        return;
    writer_close(&line->text, '}');
    writer_raw(&line->text, "\n", 1);
    /* A log that cannot be written has nowhere to say so. */
    if (!line->text.failed && write(line->log->fd, line->text.data, line->text.used) < 0)
        line->log = NULL;
    writer_done(&line->text);
}

void log_err(const struct log *log, enum log_level level, const char *message, const struct err *err)
{
    struct log_line line;
    log_begin(&line, log, level, message);
    log_text(&line, "error", err_name(err->code));
    log_text(&line, "detail", err->message);
    log_end(&line);
}

bool log_allow(struct log_limit *limit, uint64_t *dropped)
{
    const uint64_t second = clock_ns() / 1000000000u;
    if (second != limit->second) {
        limit->second = second;
        limit->count = 0;
    }
    if (limit->count == LOG_LIMIT) {
        limit->dropped++;
        return false;
    }
    limit->count++;
    *dropped = limit->dropped;
    limit->dropped = 0;
    return true;
}
