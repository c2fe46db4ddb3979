#include "tests/bench/probes.h"

#include <stdint.h>

const char *probe_name(int probe)
{
    static const char *const names[PROBES] = {"ceiling: FMA float32", "ceiling: VDPBF16PS",
        "ceiling: VPDPBUSD", "ceiling: read L3, bytes", "ceiling: read RAM, bytes"};
    return names[probe];
}

enum { TURNS = 100000, CHAINS = 12 };

#ifdef __x86_64__

#include <immintrin.h>

/* CHAINS sums that do not wait for one another, enough to hide the latency of any of the instructions; by hand, so that
 * nothing else is in the loop. Registers 12 and 13 are zeros, 0 to 11 the sums. */
#define SUM(op, reg, i) op " %%" reg "12, %%" reg "13, %%" reg #i "\n\t"
#define PROBE(name, op, reg)                                                                                 \
    static void name(void)                                                                                   \
    {                                                                                                        \
        long turns = TURNS;                                                                                  \
        __asm__ volatile("vpxor %%xmm12, %%xmm12, %%xmm12\n\tvpxor %%xmm13, %%xmm13, %%xmm13\n"              \
                         "1:\n\t" SUM(op, reg, 0) SUM(op, reg, 1) SUM(op, reg, 2) SUM(op, reg, 3)            \
                             SUM(op, reg, 4) SUM(op, reg, 5) SUM(op, reg, 6) SUM(op, reg, 7) SUM(op, reg, 8) \
                                 SUM(op, reg, 9) SUM(op, reg, 10) SUM(op, reg, 11) "dec %0\n\tjnz 1b\n\t"    \
                                                                                   "vzeroupper"              \
                         : "+r"(turns)                                                                       \
                         :                                                                                   \
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",   \
                         "xmm10", "xmm11", "xmm12", "xmm13", "cc");                                          \
    }

PROBE(fma_512, "vfmadd231ps", "zmm")
PROBE(fma_256, "vfmadd231ps", "ymm")
PROBE(bf16_512, "vdpbf16ps", "zmm")
PROBE(vnni_512, "vpdpbusd", "zmm")

static double products(int probe)
{
    __builtin_cpu_init();
    if (probe == PROBE_FMA && __builtin_cpu_supports("avx512f"))
        return fma_512(), 2.0 * 16 * CHAINS * TURNS;
    if (probe == PROBE_FMA && __builtin_cpu_supports("fma"))
        return fma_256(), 2.0 * 8 * CHAINS * TURNS;
    if (probe == PROBE_BF16 && __builtin_cpu_supports("avx512bf16"))
        return bf16_512(), 2.0 * 32 * CHAINS * TURNS;
    if (probe == PROBE_VNNI && __builtin_cpu_supports("avx512vnni"))
        return vnni_512(), 2.0 * 64 * CHAINS * TURNS;
    return 0;
}

__attribute__((target("avx512f"))) static void read_512(const float *memory, size_t count)
{
    for (size_t i = 0; i < count; i += 64)
        for (size_t k = 0; k < 64; k += 16)
            __asm__ volatile("" : : "v"(_mm512_load_ps(memory + i + k)));
}

#else

static double products(int probe)
{
    (void)probe;
    return 0;
}

#endif

static void read_any(const float *memory, size_t count)
{
    for (size_t i = 0; i < count; i += 2) {
        uint64_t word;
        __builtin_memcpy(&word, memory + i, sizeof word);
        __asm__ volatile("" : : "r"(word));
    }
}

static double reads(const float *memory, size_t bytes)
{
    const size_t count = bytes / sizeof *memory;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return read_512(memory, count), (double)bytes;
#endif
    return read_any(memory, count), (double)bytes;
}

double probe_run(int probe, const float *memory)
{
    if (probe == PROBE_RAM)
        return reads(memory, PROBE_RAM_BYTES);
    if (probe != PROBE_L3)
        return products(probe);
    double bytes = 0;
    for (int turn = 0; turn < 8; turn++)
        bytes += reads(memory, PROBE_L3_BYTES);
    return bytes;
}
