/* Arrays that grow, and blocks of floats. */
#ifndef EMBSUM_CORE_ARRAY_H
#define EMBSUM_CORE_ARRAY_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Room for `need` elements of `width` bytes in the malloc'ed array at `array` (a pointer to the array's pointer; NULL is
 * empty), which has room for *size. What is in it is kept; room at least doubles, so that adding one by one is cheap. */
int array_grow(void *array, size_t *size, size_t need, size_t width, struct err *err);

/* `count` floats at a multiple of 64 bytes, zero if asked; free() them. Large ones are put on huge pages where the kernel
 * has them: the first touch of a gigabyte in small pages costs as much as a training step. NULL: no memory. */
float *array_floats(size_t count, bool zero);

#endif
