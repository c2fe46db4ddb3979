#include "tests/lib/fuzz.h"

#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Noreturn void fuzz_broken(const char *promise, const char *file, int line)
{
    dprintf(STDERR_FILENO, "%s:%d: broken: %s\n", file, line, promise); /* stderr may be a target's own */
    abort();
}

void fuzz_must_tell(int code, const struct err *err)
{
    must(code < 0 && code >= -ERR_NOMEM);
    must(err->code == code);
    must(*err->message && memchr(err->message, '\0', sizeof err->message));
}

const char *fuzz_file(const void *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    must(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

static char folder[256];

static void remove_folder(void)
{
    scratch_remove(folder);
}

const char *fuzz_path(void)
{
    static char path[512];
    if (!*folder) {
        if (access("/dev/shm", W_OK) == 0)
            setenv("TMPDIR", "/dev/shm", 0); /* nothing waits for a disk */
        snprintf(path, sizeof path, "%s/written", scratch_make(folder));
        atexit(remove_folder);
    }
    return path;
}

uint8_t fuzz_byte(struct fuzz_input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

bool fuzz_line(struct fuzz_input *input, const char **line, size_t *len)
{
    if (input->at == input->end)
        return false;
    const uint8_t *const end = memchr(input->at, '\n', (size_t)(input->end - input->at));
    *line = (const char *)input->at;
    *len = (size_t)((end ? end : input->end) - input->at);
    input->at += *len + (end != NULL);
    return true;
}
