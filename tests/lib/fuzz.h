/* What the fuzz targets share. A target (tests/fuzz/fuzz_WHAT.c) takes any bytes, and ends the process when the code
 * breaks one of its promises. libFuzzer looks for such bytes (make fuzz), tests/fuzz/replay.c gives it those of its
 * corpus (make check). */
#ifndef EMBSUM_TESTS_LIB_FUZZ_H
#define EMBSUM_TESTS_LIB_FUZZ_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The target. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(promise) ((promise) ? (void)0 : fuzz_broken(#promise, __FILE__, __LINE__))
_Noreturn void fuzz_broken(const char *promise, const char *file, int line);

/* A failure has a negative code, the same in err, and a sentence. */
void fuzz_must_tell(int code, const struct err *err);

/* The path of a file in memory with these bytes, until the next call. */
const char *fuzz_file(const void *data, size_t size);

/* A path in a folder of its own, which goes with the program: for what is written and read again. */
const char *fuzz_path(void);

/* The input front to back. Behind its end come zeros. */
struct fuzz_input {
    const uint8_t *at, *end;
};
uint8_t fuzz_byte(struct fuzz_input *input);

/* The line that begins here, without its end, which is passed; false at the end of the input. */
bool fuzz_line(struct fuzz_input *input, const char **line, size_t *len);

#endif
