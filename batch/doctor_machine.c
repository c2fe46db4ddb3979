/* The machine as the kernel shows it below /proc and /sys. What cannot be read is not told. */
#include "batch/doctor.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { OTHER_DESCRIPTORS = 192 }; /* beside connections, see server/descriptors.c */

/* A small file below root; false if there is none. */
static bool read_small(char *out, size_t size, const char *root, const char *path)
{
    char name[4096];
    snprintf(name, sizeof name, "%s%s", root, path);
    FILE *const file = fopen(name, "re");
    if (!file)
        return false;
    const size_t len = fread(out, 1, size - 1, file);
    out[len] = '\0';
    fclose(file);
    return true;
}

/* What stands behind "name" and a colon at the beginning of a line. */
static bool find_line(char *out, size_t size, const char *text, const char *name)
{
    const size_t len = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) != 0)
            continue;
        const char *value = line + len;
        value += strspn(value, " \t");
        if (*value++ != ':')
            continue;
        value += strspn(value, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        return true;
    }
    return false;
}

/* ---- the processor ---- */

#if defined __x86_64__
#define FEATURE(name) __builtin_cpu_supports(#name) ? " " #name : ""
static void list_features(char *out, size_t size)
{
    snprintf(out, size, "%s%s%s%s%s%s%s", FEATURE(avx2), FEATURE(fma), FEATURE(avx512f), FEATURE(avx512bw),
        FEATURE(avx512vl), FEATURE(avx512vnni), FEATURE(avx512bf16));
}
#else
static void list_features(char *out, size_t size)
{
    snprintf(out, size, " those of the architecture");
}
#endif

static void tell_processor(struct doctor *doctor, const char *root)
{
    char *const text = malloc(65536);
    char model[128] = "a processor without a name", features[160];
    if (text && read_small(text, 65536, root, "/proc/cpuinfo"))
        find_line(model, sizeof model, text, "model name");
    free(text);
    list_features(features, sizeof features);
    const bool slow = !*features;
    doctor_tell(doctor, slow ? FINDING_WARNING : FINDING_OK, "machine.cpu",
        slow ? "Run where the processor has AVX2, and a virtual machine is shown it: the portable kernels "
               "are several "
               "times slower."
             : NULL,
        "%s, %ld cores;%s", model, sysconf(_SC_NPROCESSORS_ONLN), slow ? " no AVX2" : features);
}

/* ---- memory ---- */

static uint64_t kilobytes(const char *meminfo, const char *name)
{
    char value[64];
    return find_line(value, sizeof value, meminfo, name) ? strtoull(value, NULL, 10) * 1024 : 0;
}

/* The least that any group above this process allows; UINT64_MAX: none does. */
static uint64_t group_limit(const char *root)
{
    char groups[4096], path[4200], value[64];
    uint64_t least = UINT64_MAX;
    if (!read_small(groups, sizeof groups, root, "/proc/self/cgroup"))
        return least;
    char *const unified = strstr(groups, "0::");
    if (unified) {
        char *const at = unified + 3;
        at[strcspn(at, "\n")] = '\0';
        for (char *end = at + strlen(at); end; end = strrchr(at, '/')) {
            *end = '\0';
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", at);
            if (read_small(value, sizeof value, root, path) && *value >= '0' && *value <= '9') {
                const uint64_t limit = strtoull(value, NULL, 10);
                least = limit < least ? limit : least;
            }
        }
    }
    if (read_small(value, sizeof value, root, "/sys/fs/cgroup/memory/memory.limit_in_bytes")) {
        const uint64_t limit = strtoull(value, NULL, 10); /* without one it is nearly 2^63 */
        least = limit < least && limit < UINT64_C(1) << 60 ? limit : least;
    }
    return least;
}

static void tell_memory(struct doctor *doctor, const char *root)
{
    char meminfo[4096], all_text[32], left_text[32], limit_text[32], wanted_text[32];
    if (!read_small(meminfo, sizeof meminfo, root, "/proc/meminfo"))
        return;
    const uint64_t all = kilobytes(meminfo, "MemTotal"), left = kilobytes(meminfo, "MemAvailable"),
                   limit = group_limit(root);
    const uint64_t most = limit < all ? limit : all;
    /* While one generation takes the place of another there are two. */
    const uint64_t wanted = 2 * (uint64_t)doctor->config.memory.limit_bytes;
    doctor_bytes(all_text, (double)all);
    doctor_bytes(left_text, (double)left);
    doctor_bytes(limit_text, (double)limit);
    doctor_bytes(wanted_text, (double)wanted);
    doctor_tell(doctor, FINDING_OK, "machine.memory", NULL, "%s, %s available%s%s", all_text, left_text,
        limit == UINT64_MAX ? "; no limit of a control group" : "; the control group allows ",
        limit == UINT64_MAX ? "" : limit_text);
    if (!doctor->configured)
        return;
    if (wanted > most)
        doctor_tell(doctor, FINDING_WARNING, "config.memory",
            "Lower memory.limit_bytes to less than half of the memory that embsumd may have, or give it "
            "more.",
            "memory.limit_bytes allows two generations %s during a switch, more than there is", wanted_text);
    else
        doctor_tell(doctor, FINDING_OK, "config.memory", NULL,
            "memory.limit_bytes allows two generations %s during a switch", wanted_text);
}

static void tell_pages(struct doctor *doctor, const char *root)
{
    char text[128];
    if (!read_small(text, sizeof text, root, "/sys/kernel/mm/transparent_hugepage/enabled"))
        return;
    text[strcspn(text, "\n")] = '\0';
    const bool never = strstr(text, "[never]") != NULL;
    doctor_tell(doctor, never ? FINDING_WARNING : FINDING_OK, "machine.huge_pages",
        never ? "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled: scoring reads matrices in random "
                "order, and "
                "finds them faster on huge pages."
              : NULL,
        "transparent huge pages: %s", text);
}

static void tell_descriptors(struct doctor *doctor)
{
    struct rlimit limit;
    const struct config *const config = &doctor->config;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    const uint64_t fronts = config->admin.listen[0] ? 2 : 1,
                   wanted = fronts * (uint64_t)config->server.connections_max + OTHER_DESCRIPTORS +
                            (uint64_t)config->store.connections;
    const bool few = limit.rlim_max < wanted;
    doctor_tell(doctor, few ? FINDING_WARNING : FINDING_OK, "machine.descriptors",
        few ? "Raise the hard limit (LimitNOFILE= of a systemd unit, ulimit -Hn of a shell), or lower "
              "server.connections_max: embsumd lowers it by itself otherwise."
            : NULL,
        "%" PRIu64 " may be open; server.connections_max wants %" PRIu64, (uint64_t)limit.rlim_max, wanted);
}

void doctor_machine(struct doctor *doctor, const char *root)
{
    tell_processor(doctor, root);
    tell_memory(doctor, root);
    tell_pages(doctor, root);
    tell_descriptors(doctor);
}
