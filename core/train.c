#include "core/train.h"

#include "core/array.h"
#include "core/poly.h"
#include "core/rng.h"
#include "core/score_train.h"
#include "core/t5_int.h"

#include <stdlib.h>
#include <string.h>

/* Tokens whose activations are on the tape at once. Beyond that the encoder runs again, group by group, in the backward
 * pass: memory stays bounded however long a history is. */
enum { GROUP_TOKENS = 2048 };

struct trainer {
    const struct model *model;
    struct t5_scratch *t5;
    struct t5_tape *encoder, *decoder;
    struct score_tape *score;
    int32_t *ids; /* of all sequences: the history's sessions, then the candidates */
    size_t *offsets;
    size_t ids_size, offsets_size;
    struct buffer states, dstates, hidden, dhidden, z, dz, a, da, b, db, poly;
    size_t *rows; /* of each user's and candidate's matrices, for poly-attention */
    size_t rows_size;
};

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
    struct buffer *const buffers[] = {&t->states, &t->dstates, &t->hidden, &t->dhidden, &t->z, &t->dz, &t->a,
        &t->da, &t->b, &t->db, &t->poly};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        free(buffers[i]->data);
    t5_scratch_free(t->t5);
    t5_tape_free(t->encoder);
    t5_tape_free(t->decoder);
    score_tape_free(t->score);
    free(t->ids);
    free(t->offsets);
    free(t->rows);
    free(t);
}

/* One example while it is worked on. Sequences 0 .. sessions - 1 are the history's, the others the candidates'. */
struct work {
    struct trainer *t;
    const struct train_example *example;
    struct t5_dropout dropout;
    size_t sessions, sequences;
    size_t tape_first, tape_count; /* sequences whose activations are on the tape now */
    struct t5_teacher teacher;
    size_t teacher_offsets[2], source_offsets[2];
};

static void put(struct trainer *t, size_t *used, const struct encode_item *item)
{
    memcpy(t->ids + *used, item->ids, item->count * sizeof *t->ids);
    *used += item->count;
}

/* All tokens of the example, packed; an empty history is the one session [SOS] </s>. */
static int pack(struct work *w, struct err *err)
{
    struct trainer *t = w->t;
    const struct train_example *x = w->example;
    const struct model_config *c = &t->model->config;
    const int32_t empty_ids[2] = {c->sos_id, c->eos_id};
    const struct encode_item empty = {empty_ids, 2};
    const struct encode_item *history = x->history_count ? x->history : &empty;
    const size_t count = x->history_count ? x->history_count : 1, session = model_session_size(c);
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++)
        tokens += history[i].count;
    for (size_t i = 0; i < x->candidate_count; i++)
        tokens += x->candidates[i].count;
    w->sessions = (count + session - 1) / session;
    w->sequences = w->sessions + x->candidate_count;
    int result = array_grow(&t->ids, &t->ids_size, tokens + x->summary_count + 1, sizeof *t->ids, err);
    if (result == 0)
        result = array_grow(&t->offsets, &t->offsets_size, w->sequences + 1, sizeof *t->offsets, err);
    if (result < 0)
        return result;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % session == 0)
            t->offsets[i / session] = used;
        put(t, &used, &history[i]);
    }
    for (size_t i = 0; i < x->candidate_count; i++) {
        t->offsets[w->sessions + i] = used;
        put(t, &used, &x->candidates[i]);
    }
    t->offsets[w->sequences] = used;
    return 0;
}

/* The group of sequences that begins at `first`: as many as GROUP_TOKENS allow, at least one. */
static size_t group(const struct work *w, size_t first)
{
    const size_t *offsets = w->t->offsets;
    size_t end = first + 1;
    while (end < w->sequences && offsets[end + 1] - offsets[first] <= GROUP_TOKENS)
        end++;
    return end - first;
}

/* Run the encoder over one group and keep it on the tape. */
static int encode_group(struct work *w, size_t first, size_t count, size_t *relative, struct err *err)
{
    struct trainer *t = w->t;
    const size_t d = t->model->config.d_model;
    for (size_t i = 0; i <= count; i++)
        relative[i] = t->offsets[first + i] - t->offsets[first];
    struct t5_dropout dropout = w->dropout;
    struct rng rng = rng_seed(dropout.seed, first); /* each group has coins of its own */
    dropout.seed = rng_next(&rng);
    w->tape_first = first;
    w->tape_count = count;
    return t5_encode_forward(t->states.data + t->offsets[first] * d, t->encoder, t->model,
        t->ids + t->offsets[first], relative, count, dropout, t->t5, err);
}

/* Z (rows x d): the states at each item's SOS, then z. */
static void gather_z(const struct work *w, bool decoder)
{
    struct trainer *t = w->t;
    const struct train_example *x = w->example;
    const size_t d = t->model->config.d_model;
    float *z = t->z.data;
    const float *state = t->states.data;
    for (size_t i = 0; i < x->history_count; i++) {
        memcpy(z, state, d * sizeof *z);
        z += d;
        state += x->history[i].count * d;
    }
    if (!x->history_count && !decoder)
        memcpy(z, state, d * sizeof *z);
    if (decoder) /* the last position predicts </s> */
        memcpy(z, t->hidden.data + (w->teacher_offsets[1] - 1) * d, d * sizeof *z);
}

static void scatter_dz(const struct work *w, bool decoder)
{
    struct trainer *t = w->t;
    const struct train_example *x = w->example;
    const size_t d = t->model->config.d_model;
    const float *dz = t->dz.data;
    float *dstate = t->dstates.data;
    for (size_t i = 0; i < x->history_count; i++) {
        vec_add(dstate, dz, d);
        dz += d;
        dstate += x->history[i].count * d;
    }
    if (!x->history_count && !decoder)
        vec_add(dstate, dz, d);
    if (decoder)
        vec_add(t->dhidden.data + (w->teacher_offsets[1] - 1) * d, dz, d);
}

/* What the decoder is fed and must say: the start and the summary without its last token; the summary. */
static void set_teacher(struct work *w)
{
    struct trainer *t = w->t;
    const struct train_example *x = w->example;
    const size_t fed = x->summary_count ? x->summary_count : 1;
    int32_t *ids = t->ids + t->offsets[w->sequences];
    ids[0] = t->model->config.decoder_start_id;
    for (size_t i = 1; i < fed; i++)
        ids[i] = x->summary[i - 1];
    w->teacher_offsets[1] = fed;
    w->source_offsets[1] = t->offsets[w->sessions];
    w->teacher = (struct t5_teacher){ids, w->teacher_offsets, t->states.data, w->source_offsets, 1};
}

static int reserve(struct work *w, size_t z_rows, struct err *err)
{
    struct trainer *t = w->t;
    const struct model_config *c = &t->model->config;
    const size_t d = c->d_model, tokens = t->offsets[w->sequences], candidates = w->example->candidate_count;
    const size_t fed = w->example->summary_count + 1, most = tokens + w->example->history_count + 1;
    size_t codes = model_m(c) > model_n(c) ? model_m(c) : model_n(c);
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {{&t->states, tokens * d}, {&t->dstates, tokens * d}, {&t->hidden, fed * d},
        {&t->dhidden, fed * d}, {&t->z, z_rows * d}, {&t->dz, z_rows * d}, {&t->a, model_m(c) * d},
        {&t->da, model_m(c) * d}, {&t->b, candidates * model_n(c) * d}, {&t->db, candidates * model_n(c) * d},
        {&t->poly, 2 * most * (c->code_dim + codes)}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const int result = t5_reserve(needs[i].buffer, needs[i].need, err);
        if (result < 0)
            return result;
    }
    return array_grow(&t->rows, &t->rows_size, w->sequences + candidates + 2, sizeof *t->rows, err);
}

/* From Z and the candidates' states to the scores, and all the way back to their gradients. */
static int score_and_back(
    struct work *w, float *grads, struct train_loss *loss, size_t z_rows, double scale, struct err *err)
{
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, m = model_m(c), n = model_n(c), count = w->example->candidate_count;
    const bool mean_a = c->ablation == ABLATION_NO_UPE, mean_b = c->ablation == ABLATION_NO_CPE;
    const size_t user[2] = {0, z_rows}, base = t->offsets[w->sessions];
    size_t *rows = t->rows;
    float *states = t->states.data + base * d, *dstates = t->dstates.data + base * d;
    for (size_t i = 0; i <= count; i++)
        rows[i] = t->offsets[w->sessions + i] - base;
    if (mean_a)
        poly_mean(t->a.data, t->z.data, user, 1, d);
    else
        poly_attend(t->a.data, t->z.data, user, 1, model->user_codes, model->user_proj, m, c->code_dim, d,
            t->poly.data);
    if (mean_b)
        poly_mean(t->b.data, states, rows, count, d);
    else
        poly_attend(t->b.data, states, rows, count, model->content_codes, model->content_proj, n, c->code_dim,
            d, t->poly.data);

    double *scores = calloc(2 * count, sizeof *scores), *dscores = scores + count;
    if (!scores)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result =
        score_forward(scores, t->score, t->a.data, t->b.data, model->score_proj, m, n, d, count, err);
    if (result == 0) {
        loss->nce += scale * score_nce(dscores, scores, count);
        for (size_t i = 0; i < count; i++)
            dscores[i] *= scale;
        memset(t->da.data, 0, m * d * sizeof(float));
        memset(t->db.data, 0, count * n * d * sizeof(float));
        memset(t->dz.data, 0, z_rows * d * sizeof(float));
        score_backward(t->da.data, t->db.data, t5_grad(grads, model, model->score_proj), dscores, t->score);
        if (mean_a)
            poly_mean_backward(t->dz.data, t->da.data, user, 1, d);
        else
            poly_attend_backward(t->dz.data, t5_grad(grads, model, model->user_codes),
                t5_grad(grads, model, model->user_proj), t->da.data, t->z.data, user, 1, model->user_codes,
                model->user_proj, m, c->code_dim, d, t->poly.data);
        if (mean_b)
            poly_mean_backward(dstates, t->db.data, rows, count, d);
        else
            poly_attend_backward(dstates, t5_grad(grads, model, model->content_codes),
                t5_grad(grads, model, model->content_proj), t->db.data, states, rows, count,
                model->content_codes, model->content_proj, n, c->code_dim, d, t->poly.data);
    }
    free(scores);
    return result;
}

/* Groups from the last to the first; the one that ran last is still on the tape. */
static int encoder_back(struct work *w, float *grads, size_t *relative, struct err *err)
{
    struct trainer *t = w->t;
    const size_t d = t->model->config.d_model;
    int result = 0;
    for (size_t first = w->tape_first, count = w->tape_count;;) {
        if (first != w->tape_first)
            result = encode_group(w, first, count, relative, err);
        if (result == 0)
            result = t5_encode_backward(
                grads, t->dstates.data + t->offsets[first] * d, t->encoder, t->model, t->t5, err);
        if (result < 0 || first == 0)
            return result;
        size_t before = 0; /* the group that ends where this one begins */
        while (before + group(w, before) < first)
            before += group(w, before);
        count = first - before;
        first = before;
    }
}

int train_example(struct trainer *t, float *grads, struct train_loss *loss,
    const struct train_example *example, double lambda, double scale, struct t5_dropout dropout,
    struct err *err)
{
    const struct model_config *c = &t->model->config;
    const bool decoder = c->ablation != ABLATION_NO_LSUM;
    struct work w = {.t = t, .example = example, .dropout = dropout};
    const size_t z_rows = example->history_count + (decoder || !example->history_count);
    int result = pack(&w, err);
    if (result == 0)
        result = reserve(&w, z_rows, err);
    size_t *relative = result == 0 ? calloc(w.sequences + 1, sizeof *relative) : NULL;
    if (result == 0 && !relative)
        result = err_set(err, ERR_NOMEM, "out of memory");
    for (size_t first = 0; result == 0 && first < w.sequences; first += w.tape_count)
        result = encode_group(&w, first, group(&w, first), relative, err);
    if (result == 0)
        memset(t->dstates.data, 0, t->offsets[w.sequences] * c->d_model * sizeof(float));
    if (result == 0 && decoder) {
        set_teacher(&w);
        struct t5_dropout own = dropout;
        own.seed = ~dropout.seed;
        result = t5_decode_forward(t->hidden.data, t->decoder, t->model, &w.teacher, own, t->t5, err);
        memset(t->dhidden.data, 0, w.teacher_offsets[1] * c->d_model * sizeof(float));
        if (result == 0 && example->summary_count && lambda > 0) {
            double sum = 0;
            result = t5_cross_entropy(&sum, grads, t->dhidden.data, t->hidden.data, example->summary,
                example->summary_count, lambda * scale, t->model, t->t5, err);
            loss->sum += sum / lambda;
        }
    }
    if (result == 0) {
        gather_z(&w, decoder);
        result = score_and_back(&w, grads, loss, z_rows, scale, err);
    }
    if (result == 0)
        scatter_dz(&w, decoder);
    if (result == 0 && decoder)
        result = t5_decode_backward(
            grads, t->dstates.data, t->dhidden.data, t->decoder, t->model, &w.teacher, t->t5, err);
    if (result == 0)
        result = encoder_back(&w, grads, relative, err);
    free(relative);
    loss->examples++;
    loss->tokens += result == 0 ? t->offsets[w.sequences] : 0;
    loss->summary_tokens += example->summary_count;
    return result;
}
