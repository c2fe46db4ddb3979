/* What one core can do at most: multiplications and reading, by loops that do nothing else. */
#ifndef EMBSUM_TESTS_BENCH_PROBES_H
#define EMBSUM_TESTS_BENCH_PROBES_H

#include <stddef.h>

enum { PROBE_FMA, PROBE_BF16, PROBE_VNNI, PROBE_L3, PROBE_RAM, PROBES };
enum { PROBE_L3_BYTES = 8 << 20, PROBE_RAM_BYTES = 256 << 20 };

const char *probe_name(int probe);

/* The operations or bytes of one run, 0 where the processor has no such instruction. memory: PROBE_RAM_BYTES. */
double probe_run(int probe, const float *memory);

#endif
