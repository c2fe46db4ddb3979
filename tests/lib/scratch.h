/* What many tests need: cmocka with its headers, a folder of one's own, and random floats. */
#ifndef EMBSUM_TESTS_LIB_SCRATCH_H
#define EMBSUM_TESTS_LIB_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A new empty folder below $TMPDIR or /tmp; scratch_remove removes it with what is in it. */
char *scratch_make(char path[256]);
void scratch_remove(const char *path);

/* Write a file whole; its path (dir/name) is returned in a buffer that the next call reuses. */
const char *scratch_write(const char *dir, const char *name, const void *bytes, size_t len);

/* n, the rounds of a random test, or one in $EMBSUM_SHORT of them where each takes long (make valgrind); at least 1. */
size_t test_rounds(size_t n);

#endif
