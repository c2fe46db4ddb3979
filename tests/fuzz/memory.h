/* Memory that runs out once, for the targets whose parser allocates: what it did with memory it does again, and one of
 * its allocations fails.
 *
 *     fuzz_memory_count();
 *     code = parse(data, size);
 *     fuzz_memory_fail(data, size);
 *     must(parse(data, size) == (fuzz_memory_failed() ? -ERR_NOMEM : code));
 *
 * The linker (--wrap) brings the program's malloc, calloc and realloc here, and what jansson asks core/json.c for; other
 * libraries allocate as ever. tests/faults fails every one of them in turn, from a few inputs. */
#ifndef EMBSUM_TESTS_FUZZ_MEMORY_H
#define EMBSUM_TESTS_FUZZ_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on allocations are counted. */
void fuzz_memory_count(void);

/* Of as many allocations as were counted one will fail; the input says which. */
void fuzz_memory_fail(const uint8_t *data, size_t size);

/* Has it? None fails any more. */
bool fuzz_memory_failed(void);

#endif
