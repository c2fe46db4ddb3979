/* A .npy file, whose first byte here is the number of dimensions asked for: the shape of what is opened agrees with the
 * length of the file, all of it can be read, and written again. */
#include "batch/npy.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_written(const size_t shape[NPY_DIMS], size_t dims, const float *values, size_t floats)
{
    const char *const path = fuzz_file(NULL, 0);
    struct npy npy;
    struct err err = ERR_INIT;
    must(npy_create(&npy, path, dims, shape, &err) == 0);
    must(npy_write(&npy, values, 0, shape[0], &err) == 0 && npy_close(&npy, &err) == 0);
    must(npy_open(&npy, path, dims, &err) == 0 && npy.data % 64 == 0);
    must(memcmp(npy.shape, shape, dims * sizeof *shape) == 0);
    float *const again = malloc(floats * sizeof *again);
    must(again || !floats);
    must(npy_read(&npy, again, 0, shape[0], &err) == 0);
    must(memcmp(again, values, floats * sizeof *values) == 0);
    free(again);
    must(npy_close(&npy, &err) == 0);
}

static void check_short(const char *path, size_t dims, const uint8_t *data, size_t size, int code)
{
    struct npy npy;
    struct err err = ERR_INIT;
    fuzz_memory_fail(data, size);
    const int again = npy_open(&npy, path, dims, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    npy_close(&npy, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    const size_t dims = 1u + fuzz_byte(&input) % NPY_DIMS, left = (size_t)(input.end - input.at);
    struct npy npy;
    struct err err = ERR_INIT;
    const char *const path = fuzz_file(input.at, left);
    fuzz_memory_count();
    const int code = npy_open(&npy, path, dims, &err);
    check_short(path, dims, data, size, code);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID && npy.fd == -1);
        return 0;
    }
    must(npy.dims == dims && npy.data <= left);
    const size_t floats = npy.shape[0] * npy.item;
    must(floats * sizeof(float) == left - npy.data);
    float *const values = malloc(floats * sizeof *values);
    must(values || !floats);
    must(npy_read(&npy, values, 0, npy.shape[0], &err) == 0);
    must(memcmp(values, input.at + npy.data, floats * sizeof *values) == 0);
    must(npy_close(&npy, &err) == 0);
    check_written(npy.shape, dims, values, floats);
    free(values);
    return 0;
}
