/* A safetensors file: what is opened covers its data without overlap or hole, each tensor has as many bytes as its shape
 * says, and what is read of it is finite. */
#include "core/safetensors.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t width(const struct safetensors_entry *entry)
{
    return entry->dtype == SAFETENSORS_F32 ? 4 : entry->dtype == SAFETENSORS_OTHER ? 0 : 2;
}

static void check_entry(const struct safetensors *file, const struct safetensors_entry *entry, size_t size)
{
    size_t count = 1;
    must(entry->dims <= SAFETENSORS_DIMS);
    for (size_t i = 0; i < entry->dims; i++)
        count *= entry->shape[i];
    must(entry->begin <= entry->end && entry->end <= size - file->data);
    must(safetensors_find(file, entry->name) == entry);
    must(!width(entry) || entry->end - entry->begin == count * width(entry));

    struct err err = ERR_INIT;
    float *const values =
        malloc(width(entry) ? count * sizeof *values : 0); /* by the shape, not by the bytes */
    must(values || !count);
    const int code = safetensors_read(file, entry, values, &err);
    if (code < 0)
        fuzz_must_tell(code, &err);
    must(code == 0 || code == -ERR_CORRUPT || (code == -ERR_INVALID && !width(entry)));
    for (size_t i = 0; code == 0 && i < count; i++)
        must(isfinite(values[i]));
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors file = {.fd = -7};
    struct err err = ERR_INIT;
    const int code = safetensors_open(&file, fuzz_file(data, size), &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_CORRUPT && file.fd == -7);
        return 0;
    }
    uint64_t covered = 0;
    must(file.data >= 8 && file.data <= size);
    for (size_t i = 0; i < file.count; i++) {
        check_entry(&file, &file.entries[i], size);
        must(file.entries[i].begin == covered);
        covered = file.entries[i].end;
    }
    must(covered == size - file.data);
    safetensors_close(&file);
    return 0;
}
