#include "core/rng.h"

#include <math.h>

/* SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixing function, so a stream is one 64-bit word. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

struct rng rng_seed(uint64_t seed, uint64_t stream)
{
    return (struct rng){mix(mix(seed + 0x9E3779B97F4A7C15u) ^ (stream * 0xD1342543DE82EF95u + 1))};
}

uint64_t rng_next(struct rng *rng)
{
    return mix(rng->state += 0x9E3779B97F4A7C15u);
}

double rng_uniform(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *rng)
{
    const double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng))); /* Box and Muller */
    return radius * cos(6.283185307179586 * rng_uniform(rng));
}
