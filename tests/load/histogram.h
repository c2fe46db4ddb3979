/* A histogram of times in nanoseconds whose buckets grow with the value: 128 to each doubling, so that a quantile is
 * off by less than 1 %, from a nanosecond to centuries, in 60 KiB. */
#ifndef EMBSUM_TESTS_LOAD_HISTOGRAM_H
#define EMBSUM_TESTS_LOAD_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_BITS = 7, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS };

struct histogram {
    uint64_t bucket[HISTOGRAM_BUCKETS];
    uint64_t count, max;
    double sum;
};

/* Values below 128 have a bucket each; from there on the leading bit chooses the octave, the next 7 the bucket. */
static inline size_t histogram_index(uint64_t value)
{
    if (value >> HISTOGRAM_BITS == 0)
        return (size_t)value;
    const int octave = 63 - __builtin_clzll(value) - HISTOGRAM_BITS;
    return ((size_t)(octave + 1) << HISTOGRAM_BITS) + (size_t)(value >> octave) - (1u << HISTOGRAM_BITS);
}

/* The middle of a bucket. */
static inline double histogram_value(size_t index)
{
    if (index >> HISTOGRAM_BITS == 0)
        return (double)index;
    const size_t octave = (index >> HISTOGRAM_BITS) - 1;
    const uint64_t low = (uint64_t)((1u << HISTOGRAM_BITS) + (index & ((1u << HISTOGRAM_BITS) - 1)))
                         << octave;
    return (double)low + (double)((UINT64_C(1) << octave) - 1) / 2;
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->bucket[histogram_index(value)]++;
    h->count++;
    h->sum += (double)value;
    if (value > h->max)
        h->max = value;
}

/* The smallest value that at least the share q of all values do not exceed; 0 without values. */
static inline double histogram_quantile(const struct histogram *h, double q)
{
    uint64_t below = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += h->bucket[i];
        if (below && (double)below >= q * (double)h->count) {
            const double value = histogram_value(i);
            return value < (double)h->max ? value : (double)h->max;
        }
    }
    return 0;
}

#endif
