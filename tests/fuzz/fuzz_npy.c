/* A .npy file, whose first byte here is the number of dimensions asked for: the shape of what is opened agrees with the
 * length of the file, and all of it can be read. */
#include "batch/npy.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    const size_t dims = 1u + fuzz_byte(&input) % NPY_DIMS, left = (size_t)(input.end - input.at);
    struct npy npy;
    struct err err = ERR_INIT;
    const int code = npy_open(&npy, fuzz_file(input.at, left), dims, &err);
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
    free(values);
    must(npy_close(&npy, &err) == 0);
    return 0;
}
