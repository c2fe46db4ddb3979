#include "core/train.h"

#include "core/array.h"
#include "core/poly.h"
#include "core/rng.h"
#include "core/train_int.h"

#include <stdlib.h>
#include <string.h>

int trainer_new(struct trainer **out, const struct model *model, struct err *err)
{
    struct trainer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_NOMEM, "out of memory");
    t->model = model;
    int result = t5_scratch_new(&t->t5, err);
    if (result == 0)
        result = t5_tape_new(&t->encoder, err);
    if (result == 0)
        result = t5_tape_new(&t->decoder, err);
    if (result == 0)
        result = score_tape_new(&t->score, err);
    if (result < 0)
        trainer_free(t);
    else
        *out = t;
    return result;
}

void trainer_free(struct trainer *t)
{
    if (!t)
        return;
    struct buffer *const buffers[] = {&t->states, &t->dstates, &t->contents, &t->dcontents, &t->source,
        &t->dsource, &t->hidden, &t->dhidden, &t->z, &t->dz, &t->users, &t->dusers, &t->poly};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        free(buffers[i]->data);
    t5_scratch_free(t->t5);
    t5_tape_free(t->encoder);
    t5_tape_free(t->decoder);
    score_tape_free(t->score);
    train_pack_done(&t->pack);
    free(t->offsets);
    free(t->relative);
    free(t->fed);
    free(t->scores);
    free(t->which);
    free(t->own);
    free(t);
}

/* ---- the encoder, group by group --------------------------------------------------------------------------- */

/* The group of sequences that begins at `first`: as many as the tape takes, at least one. */
static size_t group(const struct train_work *w, size_t first)
{
    const struct train_pack *p = &w->t->pack;
    size_t end = first + 1;
    while (end < p->count && p->offsets[end + 1] - p->offsets[first] <= TRAIN_TAPE_TOKENS)
        end++;
    return end - first;
}

struct t5_dropout train_dropout(const struct train_work *w, uint64_t stream)
{
    struct t5_dropout dropout = w->objective->dropout;
    struct rng rng = rng_seed(dropout.seed, stream);
    dropout.seed = rng_next(&rng);
    return dropout;
}

/* Run the encoder over one group and keep it on the tape. */
static int encode_group(struct train_work *w, size_t first, size_t count, struct err *err)
{
    struct trainer *t = w->t;
    const struct train_pack *p = &t->pack;
    for (size_t i = 0; i <= count; i++)
        t->relative[i] = p->offsets[first + i] - p->offsets[first];
    w->tape_first = first;
    w->tape_count = count;
    return t5_encode_forward(t->states.data + p->offsets[first] * t->model->config.d_model, t->encoder,
        t->model, p->ids + p->offsets[first], t->relative, count, train_dropout(w, 2 * first), t->t5, err);
}

/* Groups from the last to the first; the one that ran last is still on the tape. */
static int encoder_back(struct train_work *w, struct err *err)
{
    struct trainer *t = w->t;
    const size_t d = t->model->config.d_model;
    int result = 0;
    for (size_t first = w->tape_first, count = w->tape_count;;) {
        if (first != w->tape_first)
            result = encode_group(w, first, count, err);
        if (result == 0)
            result = t5_encode_backward(
                w->grads, t->dstates.data + t->pack.offsets[first] * d, t->encoder, t->model, t->t5, err);
        if (result < 0 || first == 0)
            return result;
        size_t before = 0; /* the group that ends where this one begins */
        while (before + group(w, before) < first)
            before += group(w, before);
        count = first - before;
        first = before;
    }
}

/* ---- the candidates' matrices ------------------------------------------------------------------------------ */

static int contents_forward(struct train_work *w, struct err *err)
{
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    if (c->ablation == ABLATION_NO_CPE)
        poly_mean(t->contents.data, t->states.data, t->pack.offsets, t->pack.content_count, c->d_model);
    else
        poly_attend(t->contents.data, t->states.data, t->pack.offsets, t->pack.content_count,
            model->content_codes, model->content_proj, model_n(c), c->code_dim, c->d_model, t->poly.data);
    return score_contents(
        t->score, t->contents.data, model->score_proj, model_n(c), c->d_model, t->pack.content_count, err);
}

static void contents_backward(struct train_work *w)
{
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    memset(t->dcontents.data, 0, t->pack.content_count * model_n(c) * c->d_model * sizeof(float));
    score_contents_backward(t->dcontents.data, t5_grad(w->grads, model, model->score_proj), t->score);
    if (c->ablation == ABLATION_NO_CPE)
        poly_mean_backward(
            t->dstates.data, t->dcontents.data, t->pack.offsets, t->pack.content_count, c->d_model);
    else
        poly_attend_backward(t->dstates.data, t5_grad(w->grads, model, model->content_codes),
            t5_grad(w->grads, model, model->content_proj), t->dcontents.data, t->states.data, t->pack.offsets,
            t->pack.content_count, model->content_codes, model->content_proj, model_n(c), c->code_dim,
            c->d_model, t->poly.data);
}

/* ---- the micro-batch --------------------------------------------------------------------------------------- */

static int reserve(struct train_work *w, struct err *err)
{
    struct trainer *t = w->t;
    const struct model_config *c = &t->model->config;
    const struct train_pack *p = &t->pack;
    const size_t floats = p->offsets[p->count] * c->d_model,
                 contents = p->content_count * model_n(c) * c->d_model;
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {{&t->states, floats}, {&t->dstates, floats}, {&t->contents, contents},
        {&t->dcontents, contents},
        {&t->poly, poly_backward_scratch(p->offsets, p->content_count, model_n(c), c->code_dim)}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const int result = t5_reserve(needs[i].buffer, needs[i].need, err);
        if (result < 0)
            return result;
    }
    const int result = array_grow(&t->own, &t->own_size, p->content_count, sizeof *t->own, err);
    return result < 0 ? result
                      : array_grow(&t->relative, &t->relative_size, p->count + 1, sizeof *t->relative, err);
}

static void count_work(struct train_work *w)
{
    w->loss->tokens += w->t->pack.use_tokens;
    w->loss->encoded += w->t->pack.offsets[w->t->pack.count];
}

int train_examples(struct trainer *t, float *grads, struct train_loss *loss,
    const struct train_example *examples, size_t count, const struct train_objective *objective,
    struct err *err)
{
    struct train_work w = {t, examples, count, objective, grads, loss, 0, 0};
    const size_t d = t->model->config.d_model;
    const struct train_pack *p = &t->pack;
    int result = train_pack(&t->pack, &t->model->config, examples, count, err);
    if (result == 0)
        result = reserve(&w, err);
    for (size_t first = 0; result == 0 && first < p->count; first += w.tape_count)
        result = encode_group(&w, first, group(&w, first), err);
    if (result < 0)
        return result;
    memset(t->dstates.data, 0, p->offsets[p->count] * d * sizeof(float));
    result = contents_forward(&w, err);
    for (size_t first = 0, some = 0; result == 0 && first < count; first += some)
        result = train_users(&w, first, &some, err);
    if (result < 0)
        return result;
    contents_backward(&w);
    result = encoder_back(&w, err);
    if (result == 0)
        count_work(&w);
    return result;
}
