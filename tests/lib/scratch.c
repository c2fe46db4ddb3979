#include "tests/lib/scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *scratch_make(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/embsum-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        abort();
    }
    return path;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

void scratch_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_write(const char *dir, const char *name, const void *bytes, size_t len)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *stream = fopen(path, "wb");
    if (!stream || fwrite(bytes, 1, len, stream) != len || fclose(stream) != 0) {
        perror(path);
        abort();
    }
    return path;
}

size_t test_rounds(size_t n)
{
    const char *const text = getenv("EMBSUM_SHORT");
    const size_t one_in = text ? strtoull(text, NULL, 10) : 0;
    return one_in == 0 ? n : n > one_in ? n / one_in : 1;
}
