#include "server/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A number alone, which is what a group without a limit does not say ("max", or more than there can be). */
static uint64_t read_limit(const char *path)
{
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &limit) != 1)
        limit = UINT64_MAX;
    fclose(file);
    return limit;
}

uint64_t process_group_limit(const char *root, const char *path, const char *file)
{
    char folder[4096], name[4200];
    uint64_t least = UINT64_MAX;
    if (snprintf(folder, sizeof folder, "%s%s", root, path) >= (int)sizeof folder)
        return least;
    for (;;) {
        snprintf(name, sizeof name, "%s/%s", folder, file);
        const uint64_t limit = read_limit(name);
        least = limit < least ? limit : least;
        char *above = strrchr(folder + strlen(root), '/');
        if (!above)
            return least;
        *above = '\0';
    }
}

/* A line of /proc/self/cgroup is "0::/path" for the second version of groups, "4:memory:/path" for the first. Inside a
 * container the path may be one that only its host can see: then the root's own file has the limit. */
static uint64_t limit_of_line(char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *kinds = strchr(line, ':'), *path = kinds ? strchr(kinds + 1, ':') : NULL;
    if (!path)
        return UINT64_MAX;
    *path++ = '\0';
    if (!kinds[1])
        return process_group_limit("/sys/fs/cgroup", path, "memory.max");
    return strcmp(kinds + 1, "memory") == 0
               ? process_group_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
               : UINT64_MAX;
}

static uint64_t memory_limit(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t least = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    char line[4096];
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) {
        const uint64_t limit = limit_of_line(line);
        least = limit < least ? limit : least;
    }
    if (file)
        fclose(file);
    return least;
}

void process_open(struct process *process)
{
    *process = (struct process){
        .statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC),
        .started = time(NULL),
        .limit_bytes = memory_limit(),
    };
}

void process_close(struct process *process)
{
    if (process->statm >= 0)
        close(process->statm);
    process->statm = -1;
}

bool process_stats(const struct process *process, struct process_stats *out)
{
    char text[256];
    struct timespec cpu;
    uint64_t size, resident;
    const ssize_t got = process->statm < 0 ? -1 : pread(process->statm, text, sizeof text - 1, 0);
    if (got <= 0 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) < 0)
        return false;
    text[got] = '\0';
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
        return false;
    *out = (struct process_stats){
        .cpu_seconds = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9,
        .started = process->started,
        .resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE),
        .limit_bytes = process->limit_bytes,
    };
    return true;
}
