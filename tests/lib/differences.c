#include "tests/lib/differences.h"

#include "tests/lib/scratch.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 100 }; /* elements of a tensor that are moved: all, or so many of them at random */

void differences_draw(float *x, size_t count, double deviation, struct rng *rng)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(deviation * rng_normal(rng));
}

uint64_t differences_zeros(const float *x, size_t count)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ (x[i] == 0 ? 2 * i + 1 : 2 * i)) * 0x9E3779B97F4A7C15u;
    return hash;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    assert_non_null(memory);
    return memory;
}

/* What one run of the check works with. */
struct run {
    const struct differences *kernel;
    double *weight, *above, *below; /* outputs each */
    uint64_t pieces;
    bool crossed;
};

static void evaluate(struct run *run, double *y)
{
    run->kernel->forward(run->kernel->ctx, y);
    if (run->kernel->pieces && run->kernel->pieces(run->kernel->ctx) != run->pieces)
        run->crossed = true;
}

/* (L(x + h) - L(x - h)) / 2h, 2h as float32 has it */
static double difference(struct run *run, float *x, float h)
{
    const float middle = *x;
    const volatile float above = middle + h, below = middle - h;
    double sum = 0;
    *x = above;
    evaluate(run, run->above);
    *x = below;
    evaluate(run, run->below);
    *x = middle;
    for (size_t i = 0; i < run->kernel->outputs; i++)
        sum += run->weight[i] * (run->above[i] - run->below[i]);
    return sum / ((double)above - (double)below);
}

/* The elements to move: a random order's first SAMPLE. */
static size_t sample(size_t *out, size_t count, struct rng *rng)
{
    size_t *order = allocate(count, sizeof *order);
    const size_t some = count < SAMPLE ? count : SAMPLE;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t i = 0; i < some; i++) {
        const size_t k = i + (size_t)(rng_next(rng) % (count - i));
        out[i] = order[k];
        order[k] = order[i];
    }
    free(order);
    return some;
}

struct error {
    double as_it_is, fault; /* relative, of the gradient and of 1.01 times the gradient */
};

/* dL/dx by differences, with the largest step down to an eighth that crosses no bend; false: there is none. */
static bool derivative(double *out, struct run *run, float *x)
{
    for (float h = DIFFERENCES_STEP; h >= DIFFERENCES_STEP / 8; h /= 2) {
        run->crossed = false;
        const double fine = difference(run, x, h), coarse = difference(run, x, 2 * h);
        *out = (4 * fine - coarse) / 3;
        if (!run->crossed)
            return true;
    }
    return false;
}

static struct error tensor_error(struct run *run, const struct differences_tensor *tensor, struct rng *rng)
{
    size_t moved[SAMPLE], left_out = 0;
    const size_t some = sample(moved, tensor->count, rng);
    double error = 0, fault = 0, norm = 0, wanted;
    for (size_t i = 0; i < some; i++) {
        const double got = (double)tensor->grad[moved[i]];
        if (!derivative(&wanted, run, tensor->x + moved[i])) {
            left_out++;
            continue;
        }
        error += pow(got - wanted, 2);
        fault += pow(1.01 * got - wanted, 2);
        norm += wanted * wanted;
    }
    print_message("%-20s %-12s %4zu of %5zu elements, norm %8.3g, relative error %.1e%s\n", run->kernel->name,
        tensor->name, some - left_out, tensor->count, sqrt(norm), sqrt(error / norm),
        left_out ? ", some at a bend" : "");
    assert_true(10 * left_out <= some);
    assert_true(norm > 0); /* where nothing depends on x, nothing is shown */
    return (struct error){sqrt(error / norm), sqrt(fault / norm)};
}

/* Gradients are added to what is there: begin with something there. */
static void backward(const struct run *run, struct rng *rng)
{
    const struct differences *k = run->kernel;
    float **before = allocate(k->tensor_count, sizeof *before);
    for (size_t t = 0; t < k->tensor_count; t++) {
        before[t] = allocate(k->tensors[t].count, sizeof(float));
        differences_draw(before[t], k->tensors[t].count, 1, rng);
        memcpy(k->tensors[t].grad, before[t], k->tensors[t].count * sizeof(float));
    }
    k->forward(k->ctx, run->above);
    k->backward(k->ctx, run->weight);
    for (size_t t = 0; t < k->tensor_count; t++) {
        for (size_t i = 0; i < k->tensors[t].count; i++)
            k->tensors[t].grad[i] -= before[t][i];
        free(before[t]);
    }
    free(before);
}

/* The largest error as it is, and the smallest with a fault. */
static struct error examine(const struct differences *kernel)
{
    struct rng rng = rng_seed(11, 0);
    struct run run = {.kernel = kernel};
    struct error extreme = {0, INFINITY};
    run.weight = allocate(kernel->outputs, sizeof *run.weight);
    run.above = allocate(kernel->outputs, sizeof *run.above);
    run.below = allocate(kernel->outputs, sizeof *run.below);
    for (size_t i = 0; i < kernel->outputs; i++)
        run.weight[i] = rng_normal(&rng);
    backward(&run, &rng);
    run.pieces = kernel->pieces ? kernel->pieces(kernel->ctx) : 0;
    for (size_t t = 0; t < kernel->tensor_count; t++) {
        const struct error error = tensor_error(&run, &kernel->tensors[t], &rng);
        if (!(error.as_it_is <= extreme.as_it_is)) /* so that NaN counts */
            extreme.as_it_is = error.as_it_is;
        extreme.fault = fmin(extreme.fault, error.fault);
    }
    free(run.weight);
    free(run.above);
    free(run.below);
    return extreme;
}

double differences_error(const struct differences *kernel)
{
    return examine(kernel).as_it_is;
}

void differences_check(const struct differences *kernel)
{
    const struct error error = examine(kernel);
    if (!(error.as_it_is <= DIFFERENCES_BOUND))
        fail_msg("%s: a gradient is off by %.2e", kernel->name, error.as_it_is);
    if (!(error.fault > DIFFERENCES_BOUND))
        fail_msg("%s: a fault of 1 %% would not be seen", kernel->name);
}
