/* Hugging Face's safetensors: an 8-byte little-endian header length, a JSON header, then raw tensors.
 *
 * A file is checked whole when it is opened: the header fits the file, every dtype is known, every shape
 * agrees with its bytes, and the tensors cover the data exactly, without overlap and without holes.
 */
#ifndef EMBSUM_CORE_SAFETENSORS_H
#define EMBSUM_CORE_SAFETENSORS_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_DIMS 8

enum safetensors_dtype { SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_OTHER };

struct safetensors_entry {
    char *name;
    enum safetensors_dtype dtype;
    size_t dims, shape[SAFETENSORS_DIMS];
    uint64_t begin, end; /* bytes, from the start of the data */
};

struct safetensors {
    int fd;
    uint64_t data; /* offset of the data in the file */
    struct safetensors_entry *entries;
    size_t count;
    char *metadata; /* the header's __metadata__ object as JSON text, or NULL */
};

int safetensors_open(struct safetensors *file, const char *path, struct err *err);
void safetensors_close(struct safetensors *file);

/* The entry of that name, or NULL. */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);

/* All elements of an entry as float32 in dst. ERR_INVALID for a dtype that is none of the three floats, and
 * ERR_CORRUPT for NaN and Inf. */
int safetensors_read(
    const struct safetensors *file, const struct safetensors_entry *entry, float *dst, struct err *err);

/* Write float32 tensors; the file at path is replaced in one step. metadata is the JSON text of an object of strings, or
 * NULL for what PyTorch's readers expect. */
struct safetensors_tensor {
    const char *name;
    size_t dims, shape[SAFETENSORS_DIMS];
    const float *data;
};
int safetensors_write(const char *path, const struct safetensors_tensor *tensors, size_t count,
    const char *metadata, struct err *err);

#endif
