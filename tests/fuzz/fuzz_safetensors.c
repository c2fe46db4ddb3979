/* A safetensors file: what is opened covers its data without overlap or hole, each tensor has as many bytes as its shape
 * says, and what is read of it is finite. What can be read can be written, and read again as the same. */
#include "core/safetensors.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WRITTEN_MAX = 16 };

static size_t width(const struct safetensors_entry *entry)
{
    return entry->dtype == SAFETENSORS_F32 ? 4 : entry->dtype == SAFETENSORS_OTHER ? 0 : 2;
}

/* The values of an entry, or NULL if they are no numbers. */
static float *check_entry(
    const struct safetensors *file, const struct safetensors_entry *entry, size_t size, size_t *out_count)
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
    *out_count = count;
    if (code == 0 && values)
        return values;
    free(values);
    return NULL;
}

/* Halves of the shape {1 << 62, 0} have no bytes, and as float32 no shape that is possible. */
static bool is_empty_and_huge(const struct safetensors_entry *entry)
{
    size_t bytes = 4;
    for (size_t i = 0; i < entry->dims; i++)
        if (__builtin_mul_overflow(bytes, entry->shape[i] ? entry->shape[i] : 1, &bytes))
            return true;
    return false;
}

static void check_written(const struct safetensors *file, float *const *values, const size_t *counts)
{
    struct safetensors_tensor tensors[WRITTEN_MAX];
    size_t count = 0, written[WRITTEN_MAX];
    for (size_t i = 0; i < file->count && i < WRITTEN_MAX; i++)
        if (values[i] && !is_empty_and_huge(&file->entries[i])) {
            const struct safetensors_entry *const entry = &file->entries[i];
            tensors[count] =
                (struct safetensors_tensor){.name = entry->name, .dims = entry->dims, .data = values[i]};
            memcpy(tensors[count].shape, entry->shape, sizeof entry->shape);
            written[count++] = counts[i];
        }
    struct safetensors again;
    struct err err = ERR_INIT;
    must(safetensors_write(fuzz_path(), tensors, count, file->metadata, &err) == 0);
    must(safetensors_open(&again, fuzz_path(), &err) == 0 && again.count == count && again.data % 64 == 0);
    must(!file->metadata || strcmp(file->metadata, again.metadata) == 0);
    for (size_t i = 0; i < count; i++) {
        const struct safetensors_entry *const entry = safetensors_find(&again, tensors[i].name);
        float *const read = malloc(written[i] * sizeof *read);
        must(entry && entry->dims == tensors[i].dims && (read || !written[i]));
        must(memcmp(entry->shape, tensors[i].shape, entry->dims * sizeof *entry->shape) == 0);
        must(safetensors_read(&again, entry, read, &err) == 0);
        must(memcmp(read, tensors[i].data, written[i] * sizeof *read) == 0);
        free(read);
    }
    must(!safetensors_find(&again, "\xFF")); /* no name: it is not UTF-8 */
    safetensors_close(&again);
}

static void check_short(const char *path, const uint8_t *data, size_t size, int code)
{
    struct safetensors file = {.fd = -1};
    struct err err = ERR_INIT;
    fuzz_memory_fail(data, size);
    const int again = safetensors_open(&file, path, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    if (again < 0)
        fuzz_must_tell(again, &err);
    safetensors_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors file = {.fd = -7};
    struct err err = ERR_INIT;
    const char *const path = fuzz_file(data, size);
    fuzz_memory_count();
    const int code = safetensors_open(&file, path, &err);
    check_short(path, data, size, code);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_CORRUPT && file.fd == -7);
        return 0;
    }
    float *values[WRITTEN_MAX];
    size_t counts[WRITTEN_MAX];
    uint64_t covered = 0;
    must(file.data >= 8 && file.data <= size);
    for (size_t i = 0; i < file.count; i++) {
        size_t count;
        float *const of_entry = check_entry(&file, &file.entries[i], size, &count);
        if (i < WRITTEN_MAX) {
            values[i] = of_entry;
            counts[i] = count;
        } else {
            free(of_entry);
        }
        must(file.entries[i].begin == covered);
        covered = file.entries[i].end;
    }
    must(covered == size - file.data);
    check_written(&file, values, counts);
    for (size_t i = 0; i < file.count && i < WRITTEN_MAX; i++)
        free(values[i]);
    safetensors_close(&file);
    return 0;
}
