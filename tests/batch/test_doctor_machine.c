/* What the doctor says of machines that are not this one: their /proc and /sys in a folder. */
#include "batch/doctor.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[256];

static void put_file(const char *path, const char *text)
{
    char name[1024];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = name + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(name, 0700);
        *slash = '/';
    }
    FILE *const file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(root);
    put_file("/proc/cpuinfo", "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu\n");
    put_file("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n");
    put_file("/proc/self/cgroup", "0::/a/b\n");
    put_file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(root);
    return 0;
}

/* All that is told of the machine in the folder; its counts in findings. */
static char *examine(long limit_bytes, size_t findings[FINDINGS])
{
    char *text = NULL;
    size_t size = 0;
    FILE *const out = open_memstream(&text, &size);
    struct screen screen;
    screen_init(&screen, out);
    struct doctor doctor = {.screen = &screen, .as_json = true};
    config_init(&doctor.config);
    doctor.config.server.connections_max = 8;
    if (limit_bytes) {
        doctor.configured = true;
        doctor.config.memory.limit_bytes = limit_bytes;
    }
    doctor_machine(&doctor, root);
    fclose(out);
    screen_done(&screen);
    memcpy(findings, doctor.findings, sizeof doctor.findings);
    return text;
}

static void says(long limit_bytes, const char *level, const char *check, const char *found)
{
    char start[128];
    size_t findings[FINDINGS];
    char *const text = examine(limit_bytes, findings);
    snprintf(start, sizeof start, "{\"level\":\"%s\",\"check\":\"%s\",", level, check);
    char *const line = strstr(text, start);
    if (!line)
        fail_msg("no %s in\n%s", start, text);
    line[strcspn(line, "\n")] = '\0';
    if (!strstr(line, found))
        fail_msg("no \"%s\" in %s", found, line);
    assert_int_equal(strcmp(level, "ok") != 0, strstr(line, "\"todo\":") != NULL);
    free(text);
}

static void test_memory(void **state)
{
    (void)state;
    says(0, "ok", "machine.memory", "16.0 GiB, 8.0 GiB available; no limit of a control group");
    says(1l << 33, "ok", "config.memory", "16.0 GiB during a switch");
    says((1l << 33) + 1, "warning", "config.memory", "more than there is");
    /* the least of the groups above counts, "max" is none */
    put_file("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put_file("/sys/fs/cgroup/a/memory.max", "2147483648\n");
    says(1l << 30, "ok", "config.memory", "2.0 GiB during a switch");
    says(0, "ok", "machine.memory", "the control group allows 2.0 GiB");
    says((1l << 30) + 1, "warning", "config.memory", "more than there is");
    put_file("/sys/fs/cgroup/memory.max", "1073741824\n");
    says(0, "ok", "machine.memory", "the control group allows 1.0 GiB");
}

static void test_first_version_of_groups(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "3:memory:/a\n");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    says(0, "ok", "machine.memory", "no limit of a control group");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    says(0, "ok", "machine.memory", "the control group allows 512 MiB");
}

static void test_pages(void **state)
{
    (void)state;
    says(0, "ok", "machine.huge_pages", "[madvise]");
    put_file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    says(0, "warning", "machine.huge_pages", "[never]");
}

/* What cannot be read is left out, and nothing else. */
static void test_nothing_there(void **state)
{
    (void)state;
    size_t findings[FINDINGS];
    scratch_remove(root);
    char *const text = examine(0, findings);
    assert_non_null(strstr(text, "a processor without a name"));
    assert_null(strstr(text, "machine.memory"));
    assert_null(strstr(text, "huge_pages"));
    assert_int_equal(findings[FINDING_ERROR], 0);
    free(text);
}

static void test_agreement(void **state)
{
    (void)state;
    const float plain[3] = {1, -2, 3}, near[3] = {1, -2, 3.00001f}, far[3] = {1, -2, 3.1f},
                nan[3] = {1, NAN, 3}, zero[3] = {0, 0, 0};
    assert_true(doctor_agree(plain, plain, 3, 0));
    assert_true(doctor_agree(near, plain, 3, 1e-4));
    assert_false(doctor_agree(far, plain, 3, 1e-4));
    assert_false(doctor_agree(nan, plain, 3, 1e9));
    assert_false(doctor_agree(zero, plain, 3, 0.5));
    assert_false(doctor_agree(plain, zero, 3, 0.5));
    assert_true(doctor_agree(zero, zero, 3, 0.5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_version_of_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_there, setup, NULL), cmocka_unit_test(test_agreement)};
    return cmocka_run_group_tests_name("doctor's machine", tests, NULL, NULL);
}
