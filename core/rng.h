/* Reproducible random numbers: the same seed and stream give the same numbers on every machine. */
#ifndef EMBSUM_CORE_RNG_H
#define EMBSUM_CORE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

/* Streams of one seed are independent: one for each tensor, say. */
struct rng rng_seed(uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *rng);  /* 64 uniform bits */
double rng_uniform(struct rng *rng); /* [0, 1) */
double rng_normal(struct rng *rng);  /* mean 0, variance 1 */

#endif
