#include "batch/train_step.h"

#include "core/array.h"
#include "core/rng.h"
#include "core/vec.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    struct train_step *step;
    size_t index;
    pthread_t thread;
    struct trainer *trainer;
    struct train_items *items; /* of each example of a micro-batch */
    struct train_example *examples;
    float *grads;
    struct train_loss loss;
    double square_sum; /* of this worker's slice of the gradient */
    int result;
    struct err err;
};

struct train_step {
    struct model *model;
    const struct train_set *set;
    struct optimizer *optimizer;
    struct ranks *ranks;
    struct train_step_options options;
    struct worker *workers;
    const uint32_t *batch; /* of the step in hand */
    size_t batch_count, epoch;
};

static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b)
{
    struct rng rng = rng_seed(seed ^ a * 0x9E3779B97F4A7C15u, b);
    return rng_next(&rng);
}

static int run_micro_batch(struct worker *w, size_t first, size_t count)
{
    const struct train_step *s = w->step;
    const struct train_step_options *o = &s->options;
    const struct train_objective objective = {o->lambda, 1.0 / (double)s->batch_count,
        {(float)o->dropout, mix(o->seed, s->epoch, 2 * (uint64_t)s->batch[first] + 1)}, o->shared_negatives};
    for (size_t i = 0; i < count; i++) {
        const size_t example = s->batch[first + i];
        const int result = train_set_get(&w->examples[i], s->set, example, o->negatives,
            mix(o->seed, s->epoch, 2 * example), &w->items[i], &w->err);
        if (result < 0)
            return result;
    }
    return train_examples(w->trainer, w->grads, &w->loss, w->examples, count, &objective, &w->err);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    const struct train_step *s = w->step;
    const size_t micro = s->options.micro_batch, stride = s->options.workers * micro;
    memset(w->grads, 0, s->model->param_count * sizeof *w->grads);
    w->loss = (struct train_loss){0};
    w->result = 0;
    for (size_t at = (s->options.first_worker + w->index) * micro; w->result == 0 && at < s->batch_count;
         at += stride)
        w->result = run_micro_batch(w, at, s->batch_count - at < micro ? s->batch_count - at : micro);
    return NULL;
}

/* Run the function on all workers, the first of them on this thread. */
static void run_workers(struct train_step *s, void *(*function)(void *))
{
    const size_t threads = s->options.threads;
    size_t started = 1;
    while (started < threads &&
           pthread_create(&s->workers[started].thread, NULL, function, &s->workers[started]) == 0)
        started++;
    function(&s->workers[0]);
    for (size_t t = 1; t < started; t++)
        pthread_join(s->workers[t].thread, NULL);
    for (size_t t = started; t < threads; t++)
        function(&s->workers[t]); /* no thread could be had: slower, the same result */
}

/* A worker's slice of the parameters. */
static size_t slice_begin(const struct train_step *s, size_t worker)
{
    return s->model->param_count * worker / s->options.threads;
}

/* All gradients of the slice, summed into the first worker's. */
static void *reduce(void *argument)
{
    const struct worker *w = argument;
    const struct train_step *s = w->step;
    const size_t first = slice_begin(s, w->index), count = slice_begin(s, w->index + 1) - first;
    for (size_t t = 1; t < s->options.threads; t++)
        vec_add(s->workers[0].grads + first, s->workers[t].grads + first, count);
    return NULL;
}

static void *square(void *argument)
{
    struct worker *w = argument;
    const struct train_step *s = w->step;
    const size_t first = slice_begin(s, w->index), count = slice_begin(s, w->index + 1) - first;
    w->square_sum = vec_square_sum(s->workers[0].grads + first, count);
    return NULL;
}

static void *update(void *argument)
{
    const struct worker *w = argument;
    const struct train_step *s = w->step;
    optimizer_apply(
        s->optimizer, s->model, s->workers[0].grads, slice_begin(s, w->index), slice_begin(s, w->index + 1));
    return NULL;
}

static int sum_losses(struct train_loss *loss, const struct train_step *s, struct err *err)
{
    *loss = (struct train_loss){0};
    for (size_t t = 0; t < s->options.threads; t++) {
        const struct worker *w = &s->workers[t];
        if (w->result < 0) {
            if (err)
                *err = w->err;
            return w->result;
        }
        loss->nce += w->loss.nce;
        loss->sum += w->loss.sum;
        loss->tokens += w->loss.tokens;
        loss->encoded += w->loss.encoded;
    }
    return 0;
}

/* The losses and the gradient of this rank become those of all. */
static int sum_ranks(struct train_step *s, struct train_loss *loss, struct err *err)
{
    double sums[] = {loss->nce, loss->sum, (double)loss->tokens, (double)loss->encoded};
    int result = ranks_sum_f64(s->ranks, sums, sizeof sums / sizeof *sums, err);
    if (result == 0)
        result = ranks_sum_f32(s->ranks, s->workers[0].grads, s->model->param_count, err);
    if (result == 0)
        *loss = (struct train_loss){sums[0], sums[1], (size_t)sums[2], (size_t)sums[3]};
    return result;
}

/* Of the gradient of all ranks. Rank 0's: one with another number of threads adds other slices, and rounds otherwise. */
static int find_norm(struct train_step *s, double *norm, struct err *err)
{
    double square_sum = 0;
    run_workers(s, square);
    for (size_t t = 0; t < s->options.threads; t++)
        square_sum += s->workers[t].square_sum;
    const int result = ranks_share(s->ranks, &square_sum, sizeof square_sum, err);
    *norm = sqrt(square_sum);
    return result;
}

int train_step_run(struct train_step *s, const uint32_t *examples, size_t count, size_t epoch,
    struct train_loss *loss, double *norm, struct err *err)
{
    s->batch = examples;
    s->batch_count = count;
    s->epoch = epoch;
    run_workers(s, work);
    int result = ranks_agree(s->ranks, sum_losses(loss, s, err), err);
    if (result < 0)
        return result;
    run_workers(s, reduce);
    result = sum_ranks(s, loss, err);
    if (result == 0)
        result = find_norm(s, norm, err);
    if (result < 0)
        return result;
    if (optimizer_begin(s->optimizer, *norm, err) < 0)
        return err_set(err, ERR_CORRUPT,
            "step %zu: the gradient is not finite (L_NCE %g, L_sum %g); a lower rate may help",
            s->optimizer->step + 1, loss->nce, loss->sum);
    run_workers(s, update);
    return 0;
}

static int worker_init(struct worker *w, struct err *err)
{
    const struct train_step *s = w->step;
    w->grads = array_floats(s->model->param_count, false);
    w->items = calloc(s->options.micro_batch, sizeof *w->items);
    w->examples = calloc(s->options.micro_batch, sizeof *w->examples);
    if (!w->grads || !w->items || !w->examples)
        return err_set(err, ERR_NOMEM, "out of memory");
    return trainer_new(&w->trainer, s->model, err);
}

int train_step_new(struct train_step **out, struct model *model, const struct train_set *set,
    struct optimizer *optimizer, const struct train_step_options *options, struct ranks *ranks,
    struct err *err)
{
    struct train_step *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory");
    *s = (struct train_step){
        .model = model, .set = set, .optimizer = optimizer, .ranks = ranks, .options = *options};
    s->workers = calloc(options->threads, sizeof *s->workers);
    int result = s->workers ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t t = 0; result == 0 && t < options->threads; t++) {
        s->workers[t].step = s;
        s->workers[t].index = t;
        result = worker_init(&s->workers[t], err);
    }
    if (result < 0)
        train_step_free(s);
    else
        *out = s;
    return result;
}

void train_step_free(struct train_step *s)
{
    if (!s)
        return;
    for (size_t t = 0; s->workers && t < s->options.threads; t++) {
        struct worker *w = &s->workers[t];
        for (size_t i = 0; w->items && i < s->options.micro_batch; i++)
            train_items_done(&w->items[i]);
        trainer_free(w->trainer);
        free(w->items);
        free(w->examples);
        free(w->grads);
    }
    free(s->workers);
    free(s);
}
