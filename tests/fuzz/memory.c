#include "tests/fuzz/memory.h"

#include <stdlib.h>

static size_t allocations, failing; /* the number of the one that fails, 0: none */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool fails(void)
{
    return ++allocations == failing;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

void fuzz_memory_count(void)
{
    allocations = failing = 0;
}

void fuzz_memory_fail(const uint8_t *data, size_t size)
{
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 1099511628211u;
    failing = allocations ? 1 + (size_t)(sum >> 32) % allocations : 0;
    allocations = 0;
}

bool fuzz_memory_failed(void)
{
    const bool failed = failing && allocations >= failing;
    fuzz_memory_count();
    return failed;
}
