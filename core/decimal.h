/* Numbers as text. */
#ifndef EMBSUM_CORE_DECIMAL_H
#define EMBSUM_CORE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/* The shortest decimal that reads back to the same float32, of those the nearest, of two equally near ones the even;
 * written as printf's %g would with as many digits as needed, at least six: 0.7, -1.25e-05, 16777216, 1e+06, -0. The
 * value is finite. Returns the length, at most 15; no NUL is put behind it, but the rest of out may be overwritten. */
#define DECIMAL_FLOAT_MAX 24
size_t decimal_format_float(char out[DECIMAL_FLOAT_MAX], float value);

/* The same for an integer. */
#define DECIMAL_UINT_MAX 20
size_t decimal_format_uint(char out[DECIMAL_UINT_MAX], uint64_t value);

#endif
