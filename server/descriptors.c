/* Without this a daemon that is started from a shell, where 1,024 descriptors are usual, ran out of them before it had as many
 * connections as it is configured for: the next client was neither served nor refused, and a connection to the store that
 * broke was not made again until clients went away. */
#include "server/descriptors.h"

#include <sys/resource.h>

/* Listeners, loops, threads' wake-ups, the log, an LMDB environment, connections that are being refused. */
enum { OTHERS = 192 };

/* A quarter at the least: connections that are being refused come and go, and are few in a quiet hour. */
static rlim_t connections_of(rlim_t limit, rlim_t others)
{
    const rlim_t least = limit / 4, left = limit > others ? limit - others : 0;
    return left > least ? left : least;
}

void descriptors_reserve(struct config *config, const struct log *log)
{
    const rlim_t fronts = config->admin.listen[0] ? 2 : 1,
                 others = OTHERS + (rlim_t)config->store.connections;
    const rlim_t wanted = fronts * (rlim_t)config->server.connections_max + others;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted) /* RLIM_INFINITY is the largest */
        return;
    const struct rlimit raised = {limit.rlim_max < wanted ? limit.rlim_max : wanted, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        limit.rlim_cur = raised.rlim_cur;
    if (limit.rlim_cur >= wanted)
        return;
    const rlim_t connections = connections_of(limit.rlim_cur, others) / fronts;
    config->server.connections_max = connections > 1 ? (long)connections : 1;
    struct log_line line;
    log_begin(&line, log, LOG_WARN, "too few descriptors: server.connections_max is lowered");
    log_int(&line, "descriptors", (int64_t)limit.rlim_cur);
    log_int(&line, "wanted", (int64_t)wanted);
    log_int(&line, "connections_max", config->server.connections_max);
    log_end(&line);
}
