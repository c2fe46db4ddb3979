/* A kernel's backward pass against central differences of its forward pass.
 *
 * With r a random weight for each output, L = sum r y. The kernel is asked for dL/dx of every input and parameter x,
 * and L is computed again at x - 2h, x - h, x + h and x + 2h: with D(h) the central difference,
 *
 *     (4 D(h) - D(2h)) / 3 = dL/dx - h^4 f''''' / 30 + ...          (Richardson)
 *
 * The bound holds because both errors of this are far below it. h = 2^-6 and the kernels' inputs are of order 1, so what is
 * cut off is about 6e-8 / 30 of the fifth derivative. What float32 rounds off each y (6e-8 of it) is divided by h: 4e-6,
 * times the root of the number of outputs that x moves, as the gradient itself. A step is the distance that x has really
 * moved in float32, and outputs are subtracted one by one, in float64, so that those x does not move cancel exactly.
 *
 * The same check also refuses each of these gradients times 1.01: it would see a fault of one percent in any of them.
 */
#ifndef EMBSUM_TESTS_LIB_DIFFERENCES_H
#define EMBSUM_TESTS_LIB_DIFFERENCES_H

#include "core/rng.h"

#include <stddef.h>
#include <stdint.h>

#define DIFFERENCES_STEP 0x1p-6f
#define DIFFERENCES_BOUND 1e-3 /* relative, Frobenius, of each tensor */

/* One input or parameter; the backward pass writes or adds its gradient to grad. */
struct differences_tensor {
    const char *name;
    float *x, *grad;
    size_t count;
};

struct differences {
    const char *name;
    void *ctx;
    size_t outputs, tensor_count;
    const struct differences_tensor *tensors;
    void (*forward)(void *ctx, double *y);
    void (*backward)(
        void *ctx, const double *dy); /* for the x of the forward pass before it; adds to every grad */
    /* Which pieces of a kernel with bends (relu) its inputs lie on, after a forward pass; NULL: there are none. Across a bend
     * a difference is no derivative: h is halved, to an eighth if need be, and of the elements that still cross one, at most
     * one in ten may be left out. */
    uint64_t (*pieces)(void *ctx);
};

/* The largest error of a tensor, relative to its differences; each tensor's is printed. */
double differences_error(const struct differences *kernel);

/* Fails the test unless all gradients are within the bound, and each of them would be refused if it were 1 % larger. */
void differences_check(const struct differences *kernel);

/* count normal numbers times deviation */
void differences_draw(float *x, size_t count, double deviation, struct rng *rng);

/* For pieces(): a hash of which values are zero, as relu leaves those beyond its bend. */
uint64_t differences_zeros(const float *x, size_t count);

#endif
