/* What a line of the access log looks like:
 *
 *     {"ts":"2026-11-24T03:00:00.123Z","level":"info","msg":"request","request_id":"9f3c2a1b00112233","client":"127.0.0.1",
 *      "method":"POST","path":"/rank","route":"/rank","status":200,"bytes":181,"us":412,"generation":"20261124T030000Z-9f3c2a1b",
 *      "users":1,"present":1,"candidates":4,"missing":1,"parse_us":3,"fetch_us":2,"score_us":390,"write_us":5}
 *
 * In one line, with what there is. "level" and "msg" tell it from the other lines where both go to stderr. */
#include "server/access.h"
#include "server/metrics.h"
#include "server/writer.h"

#include <time.h>

static void text(struct writer *w, const struct access_entry *entry, const char *key, enum access_text which)
{
    if (!entry->texts[which].at)
        return;
    writer_key(w, key);
    writer_string(w, entry->texts[which].at, entry->texts[which].len);
}

static void number(struct writer *w, const char *key, uint64_t value)
{
    writer_key(w, key);
    writer_uint(w, value);
}

static void write_time(struct writer *w, const struct access_numbers *numbers)
{
    char time[LOG_TIME_MAX];
    log_format_time(time, &(struct timespec){(time_t)numbers->seconds, (long)numbers->nanoseconds});
    writer_key(w, "ts");
    writer_text(w, time);
}

static void write_ranking(struct writer *w, const struct access_entry *entry)
{
    static const char *const stages[METRICS_STAGES] = {"parse_us", "fetch_us", "score_us", "write_us"};
    const struct access_numbers *numbers = &entry->numbers;
    text(w, entry, "generation", ACCESS_GENERATION);
    text(w, entry, "user", ACCESS_USER);
    number(w, "users", numbers->users);
    number(w, "present", numbers->present);
    number(w, "candidates", numbers->candidates);
    number(w, "missing", numbers->missing);
    if (numbers->degraded) {
        writer_key(w, "degraded");
        writer_bool(w, true);
    }
    for (size_t i = 0; i < METRICS_STAGES; i++)
        number(w, stages[i], numbers->stage_us[i]);
}

void access_line(struct writer *w, const struct access_entry *entry)
{
    const struct access_numbers *numbers = &entry->numbers;
    writer_open(w, '{');
    write_time(w, numbers);
    writer_key(w, "level");
    writer_text(w, numbers->status < 500 ? "info" : "warn");
    writer_key(w, "msg");
    writer_text(w, "request");
    text(w, entry, "request_id", ACCESS_ID);
    text(w, entry, "client", ACCESS_CLIENT);
    text(w, entry, "method", ACCESS_METHOD);
    text(w, entry, "path", ACCESS_PATH);
    writer_key(w, "route");
    writer_text(w, metrics_route_name((enum metrics_route)numbers->route));
    number(w, "status", numbers->status);
    number(w, "bytes", numbers->bytes);
    number(w, "us", numbers->us);
    if (numbers->ranked)
        write_ranking(w, entry);
    text(w, entry, "trace_id", ACCESS_TRACE_ID);
    text(w, entry, "parent_id", ACCESS_PARENT_ID);
    text(w, entry, "span_id", ACCESS_SPAN_ID);
    if (numbers->left_out)
        number(w, "left_out", numbers->left_out);
    writer_close(w, '}');
    writer_raw(w, "\n", 1);
}
