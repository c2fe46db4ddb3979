/* What the micro-benchmarks of the kernels share. */
#ifndef EMBSUM_TESTS_BENCH_TIMING_H
#define EMBSUM_TESTS_BENCH_TIMING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* Of this thread on a processor: other programs take their turns, and are not measured. */
static inline double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Memory in huge pages, as the service's slabs; it is never given back. */
static inline void *pages(size_t bytes)
{
    const size_t huge = (size_t)2 << 20;
    bytes = (bytes + huge - 1) / huge * huge;
    char *at = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    at += (huge - (uintptr_t)at % huge) % huge;
    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

/* For qsort */
static inline int by_value(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

#endif
