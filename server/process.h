/* What the system says of this process. Opened before the sandbox closes /proc:
 *
 *     process_open(&process);        threads, sandbox, ...
 *     process_stats(&process, &stats); */
#ifndef EMBSUM_SERVER_PROCESS_H
#define EMBSUM_SERVER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct process {
    int statm; /* /proc/self/statm; -1: there is none */
    time_t started;
    uint64_t limit_bytes;
};

struct process_stats {
    double cpu_seconds;
    time_t started;
    uint64_t resident_bytes;
    uint64_t limit_bytes; /* the smallest limit of a control group around it, or the machine's memory */
};

void process_open(struct process *process);
void process_close(struct process *process);
bool process_stats(
    const struct process *process, struct process_stats *out); /* false: /proc cannot be read */

/* The smallest limit in `file` ("memory.max") of the folders root + path, and of those above it up to root; UINT64_MAX
 * where there is none. */
uint64_t process_group_limit(const char *root, const char *path, const char *file);

#endif
