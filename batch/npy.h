/* NumPy's .npy files of float32 in C order, version 1.0: the matrices for exchange (DESIGN, "Files"). */
#ifndef EMBSUM_BATCH_NPY_H
#define EMBSUM_BATCH_NPY_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#define NPY_DIMS 4

struct npy {
    int fd;
    char path[4096];
    uint64_t data; /* offset of the first element */
    size_t dims, shape[NPY_DIMS];
    size_t item; /* floats in one index of the first dimension */
};

/* Open for reading. ERR_INVALID names what is not '<f4', not C order, not of `dims` dimensions, or not of the
 * length that the shape asks for. */
int npy_open(struct npy *npy, const char *path, size_t dims, struct err *err);

/* Create (or empty) a file for an array of this shape, to be filled with npy_write in any order. */
int npy_create(struct npy *npy, const char *path, size_t dims, const size_t *shape, struct err *err);

/* `count` indices of the first dimension, from `first` on. */
int npy_read(const struct npy *npy, float *dst, size_t first, size_t count, struct err *err);
int npy_write(const struct npy *npy, const float *src, size_t first, size_t count, struct err *err);

/* Close; a file that was written is on the disk then. */
int npy_close(struct npy *npy, struct err *err);

#endif
