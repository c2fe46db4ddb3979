#include "core/train.h"

#include "core/array.h"
#include "core/poly.h"
#include "core/rng.h"
#include "core/score_train.h"
#include "core/t5_int.h"
#include "core/train_pack.h"

#include <stdlib.h>
#include <string.h>

struct trainer {
    const struct model *model;
    struct t5_scratch *t5;
    struct t5_tape *encoder, *decoder;
    struct score_tape *score;
    struct train_pack pack;
    struct buffer states, dstates;             /* of all sequences' tokens */
    struct buffer contents, dcontents;         /* B of each candidate sequence */
    struct buffer source, dsource;             /* the states that a group of users' decoders read */
    struct buffer hidden, dhidden;             /* of its summaries */
    struct buffer z, dz, users, dusers, b, db; /* its Z and A, and one example's candidates' B */
    struct buffer poly;
    size_t *offsets, *relative; /* of a group: summaries | sources | Z, each `count` + 1 */
    int32_t *fed;               /* what its decoders are fed, then their targets */
    double *scores;
    size_t offsets_size, relative_size, fed_size, scores_size;
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
    struct buffer *const buffers[] = {&t->states, &t->dstates, &t->contents, &t->dcontents, &t->source,
        &t->dsource, &t->hidden, &t->dhidden, &t->z, &t->dz, &t->users, &t->dusers, &t->b, &t->db, &t->poly};
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
    free(t);
}

/* A micro-batch while it is worked on. */
struct work {
    struct trainer *t;
    const struct train_example *examples;
    size_t count;
    const struct train_objective *objective;
    float *grads;
    struct train_loss *loss;
    size_t tape_first, tape_count; /* sequences whose activations are on the encoder's tape now */
};

static bool has_decoder(const struct model_config *c)
{
    return c->ablation != ABLATION_NO_LSUM;
}

/* ---- the encoder, group by group --------------------------------------------------------------------------- */

/* The group of sequences that begins at `first`: as many as the tape takes, at least one. */
static size_t group(const struct work *w, size_t first)
{
    const struct train_pack *p = &w->t->pack;
    size_t end = first + 1;
    while (end < p->count && p->offsets[end + 1] - p->offsets[first] <= TRAIN_TAPE_TOKENS)
        end++;
    return end - first;
}

static struct t5_dropout own_dropout(const struct work *w, uint64_t stream)
{
    struct t5_dropout dropout = w->objective->dropout;
    struct rng rng = rng_seed(dropout.seed, stream);
    dropout.seed = rng_next(&rng);
    return dropout;
}

/* Run the encoder over one group and keep it on the tape. */
static int encode_group(struct work *w, size_t first, size_t count, struct err *err)
{
    struct trainer *t = w->t;
    const struct train_pack *p = &t->pack;
    for (size_t i = 0; i <= count; i++)
        t->relative[i] = p->offsets[first + i] - p->offsets[first];
    w->tape_first = first;
    w->tape_count = count;
    return t5_encode_forward(t->states.data + p->offsets[first] * t->model->config.d_model, t->encoder,
        t->model, p->ids + p->offsets[first], t->relative, count, own_dropout(w, 2 * first), t->t5, err);
}

/* Groups from the last to the first; the one that ran last is still on the tape. */
static int encoder_back(struct work *w, struct err *err)
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

static void contents_forward(struct work *w)
{
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    if (c->ablation == ABLATION_NO_CPE)
        poly_mean(t->contents.data, t->states.data, t->pack.offsets, t->pack.content_count, c->d_model);
    else
        poly_attend(t->contents.data, t->states.data, t->pack.offsets, t->pack.content_count,
            model->content_codes, model->content_proj, model_n(c), c->code_dim, c->d_model, t->poly.data);
}

static void contents_backward(struct work *w)
{
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    if (c->ablation == ABLATION_NO_CPE)
        poly_mean_backward(
            t->dstates.data, t->dcontents.data, t->pack.offsets, t->pack.content_count, c->d_model);
    else
        poly_attend_backward(t->dstates.data, t5_grad(w->grads, model, model->content_codes),
            t5_grad(w->grads, model, model->content_proj), t->dcontents.data, t->states.data, t->pack.offsets,
            t->pack.content_count, model->content_codes, model->content_proj, model_n(c), c->code_dim,
            c->d_model, t->poly.data);
}

/* ---- a group of users: decoder, A, score, and all the way back ---------------------------------------------- */

struct users {
    struct work *w;
    size_t first, count;                              /* examples */
    size_t *fed_offsets, *source_offsets, *z_offsets; /* count + 1 each */
    struct t5_teacher teacher;
};

static size_t session_count(const struct work *w, size_t example)
{
    const struct train_pack *p = &w->t->pack;
    return p->first[example + 1] - p->first[example] - w->examples[example].candidate_count;
}

static size_t source_tokens(const struct work *w, size_t example)
{
    const struct train_pack *p = &w->t->pack;
    const uint32_t *use = p->uses + p->first[example];
    size_t tokens = 0;
    for (size_t s = 0; s < session_count(w, example); s++)
        tokens += p->offsets[use[s] + 1] - p->offsets[use[s]];
    return tokens;
}

/* Examples from `first` on whose sources fit on the tape, at least one; their offsets, and the memory they need. */
static int users_begin(struct users *u, struct work *w, size_t first, struct err *err)
{
    struct trainer *t = w->t;
    const struct model_config *c = &t->model->config;
    const size_t d = c->d_model, m = model_m(c), left = w->count - first;
    int result = array_grow(&t->offsets, &t->offsets_size, 3 * (left + 1), sizeof *t->offsets, err);
    if (result < 0)
        return result;
    *u = (struct users){w, first, 0, t->offsets, t->offsets + left + 1, t->offsets + 2 * (left + 1), {0}};
    u->fed_offsets[0] = u->source_offsets[0] = u->z_offsets[0] = 0;
    while (u->count < left) {
        const struct train_example *x = &w->examples[first + u->count];
        const size_t k = u->count, source = u->source_offsets[k] + source_tokens(w, first + k);
        if (k && source > TRAIN_TAPE_TOKENS)
            break;
        u->source_offsets[k + 1] = source;
        u->fed_offsets[k + 1] = u->fed_offsets[k] + (x->summary_count ? x->summary_count : 1);
        u->z_offsets[k + 1] = u->z_offsets[k] + x->history_count + (has_decoder(c) || !x->history_count);
        u->count++;
    }
    const size_t fed = u->fed_offsets[u->count], source = u->source_offsets[u->count],
                 z = u->z_offsets[u->count];
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {{&t->source, source * d}, {&t->dsource, source * d}, {&t->hidden, fed * d},
        {&t->dhidden, fed * d}, {&t->z, z * d}, {&t->dz, z * d}, {&t->users, u->count * m * d},
        {&t->dusers, u->count * m * d},
        {&t->poly, poly_backward_scratch(u->z_offsets, u->count, m, c->code_dim)}};
    for (size_t i = 0; result == 0 && i < sizeof needs / sizeof *needs; i++)
        result = t5_reserve(needs[i].buffer, needs[i].need, err);
    return result < 0 ? result : array_grow(&t->fed, &t->fed_size, 2 * fed, sizeof *t->fed, err);
}

/* source = the states of each user's sessions, one behind the other; or back: dstates += dsource. */
static void move_source(const struct users *u, bool back)
{
    struct trainer *t = u->w->t;
    const struct train_pack *p = &t->pack;
    const size_t d = t->model->config.d_model;
    size_t at = 0;
    for (size_t e = u->first; e < u->first + u->count; e++) {
        const uint32_t *use = p->uses + p->first[e];
        for (size_t s = 0; s < session_count(u->w, e); s++) {
            const size_t from = p->offsets[use[s]] * d, floats = p->offsets[use[s] + 1] * d - from;
            if (back)
                vec_add(t->dstates.data + from, t->dsource.data + at, floats);
            else
                memcpy(t->source.data + at, t->states.data + from, floats * sizeof(float));
            at += floats;
        }
    }
}

/* What the decoder is fed and must say: the start and the summary without its last token; the summary. */
static int decode(struct users *u, struct err *err)
{
    struct work *w = u->w;
    struct trainer *t = w->t;
    const struct train_objective *o = w->objective;
    const size_t d = t->model->config.d_model, tokens = u->fed_offsets[u->count];
    int32_t *targets = t->fed + u->fed_offsets[u->count];
    for (size_t k = 0; k < u->count; k++) {
        const struct train_example *x = &w->examples[u->first + k];
        const size_t at = u->fed_offsets[k];
        t->fed[at] = t->model->config.decoder_start_id;
        targets[at] = -1; /* the start alone says nothing */
        for (size_t i = 0; i < x->summary_count; i++) {
            targets[at + i] = x->summary[i];
            if (i)
                t->fed[at + i] = x->summary[i - 1];
        }
    }
    move_source(u, false);
    u->teacher = (struct t5_teacher){t->fed, u->fed_offsets, t->source.data, u->source_offsets, u->count};
    int result = t5_decode_forward(
        t->hidden.data, t->decoder, t->model, &u->teacher, own_dropout(w, 2 * u->first + 1), t->t5, err);
    if (result < 0)
        return result;
    memset(t->dhidden.data, 0, tokens * d * sizeof(float));
    if (o->lambda <= 0)
        return 0;
    double sum = 0;
    result = t5_cross_entropy(&sum, w->grads, t->dhidden.data, t->hidden.data, targets, tokens,
        o->lambda * o->scale, t->model, t->t5, err);
    w->loss->sum += sum / o->lambda;
    return result;
}

static int decode_back(struct users *u, struct err *err)
{
    struct work *w = u->w;
    struct trainer *t = w->t;
    memset(t->dsource.data, 0, u->source_offsets[u->count] * t->model->config.d_model * sizeof(float));
    const int result = t5_decode_backward(
        w->grads, t->dsource.data, t->dhidden.data, t->decoder, t->model, &u->teacher, t->t5, err);
    if (result == 0)
        move_source(u, true);
    return result;
}

/* Z of each user: the states at each item's SOS, then z, the decoder's state at the last position fed; or back, from
 * dz. */
static void move_z(const struct users *u, bool back)
{
    struct trainer *t = u->w->t;
    const struct train_pack *p = &t->pack;
    const struct model_config *c = &t->model->config;
    const size_t d = c->d_model, session = model_session_size(c);
    for (size_t k = 0; k < u->count; k++) {
        const struct train_example *x = &u->w->examples[u->first + k];
        const uint32_t *use = p->uses + p->first[u->first + k];
        float *row = (back ? t->dz.data : t->z.data) + u->z_offsets[k] * d;
        const size_t rows = u->z_offsets[k + 1] - u->z_offsets[k];
        size_t token = 0;
        for (size_t i = 0; i < rows; i++, row += d) {
            const bool summary = has_decoder(c) && i + 1 == rows;
            if (i % session == 0 && !summary)
                token = p->offsets[use[i / session]];
            const size_t at = (summary ? u->fed_offsets[k + 1] - 1 : token) * d;
            float *const state = summary ? (back ? t->dhidden.data : t->hidden.data) + at
                                         : (back ? t->dstates.data : t->states.data) + at;
            if (back)
                vec_add(state, row, d);
            else
                memcpy(row, state, d * sizeof *row);
            token += i < x->history_count ? x->history[i].count : 0;
        }
    }
}

static void users_forward(struct users *u)
{
    struct trainer *t = u->w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    if (c->ablation == ABLATION_NO_UPE)
        poly_mean(t->users.data, t->z.data, u->z_offsets, u->count, c->d_model);
    else
        poly_attend(t->users.data, t->z.data, u->z_offsets, u->count, model->user_codes, model->user_proj,
            model_m(c), c->code_dim, c->d_model, t->poly.data);
}

static void users_backward(struct users *u)
{
    struct trainer *t = u->w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    memset(t->dz.data, 0, u->z_offsets[u->count] * c->d_model * sizeof(float));
    if (c->ablation == ABLATION_NO_UPE)
        poly_mean_backward(t->dz.data, t->dusers.data, u->z_offsets, u->count, c->d_model);
    else
        poly_attend_backward(t->dz.data, t5_grad(u->w->grads, model, model->user_codes),
            t5_grad(u->w->grads, model, model->user_proj), t->dusers.data, t->z.data, u->z_offsets, u->count,
            model->user_codes, model->user_proj, model_m(c), c->code_dim, c->d_model, t->poly.data);
}

/* L_NCE of the group's example k, and the gradients of its A and its candidates' B. */
static int score(struct users *u, size_t k, struct err *err)
{
    struct work *w = u->w;
    struct trainer *t = w->t;
    const struct model *model = t->model;
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, m = model_m(c), block = model_n(c) * d, example = u->first + k;
    const size_t count = w->examples[example].candidate_count;
    const uint32_t *use = t->pack.uses + t->pack.first[example] + session_count(w, example);
    int result = t5_reserve(&t->b, count * block, err);
    if (result == 0)
        result = t5_reserve(&t->db, count * block, err);
    if (result == 0)
        result = array_grow(&t->scores, &t->scores_size, 2 * count, sizeof *t->scores, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        memcpy(t->b.data + i * block, t->contents.data + use[i] * block, block * sizeof(float));
    if (result == 0)
        result = score_forward(t->scores, t->score, t->users.data + k * m * d, t->b.data, model->score_proj,
            m, model_n(c), d, count, err);
    if (result < 0)
        return result;
    double *dscores = t->scores + count;
    w->loss->nce += w->objective->scale * score_nce(dscores, t->scores, count);
    for (size_t i = 0; i < count; i++)
        dscores[i] *= w->objective->scale;
    memset(t->db.data, 0, count * block * sizeof(float));
    score_backward(t->dusers.data + k * m * d, t->db.data, t5_grad(w->grads, model, model->score_proj),
        dscores, t->score);
    for (size_t i = 0; i < count; i++)
        vec_add(t->dcontents.data + use[i] * block, t->db.data + i * block, block);
    return 0;
}

static int users_run(struct users *u, struct err *err)
{
    struct trainer *t = u->w->t;
    const struct model_config *c = &t->model->config;
    int result = has_decoder(c) ? decode(u, err) : 0;
    if (result < 0)
        return result;
    move_z(u, false);
    users_forward(u);
    memset(t->dusers.data, 0, u->count * model_m(c) * c->d_model * sizeof(float));
    for (size_t k = 0; result == 0 && k < u->count; k++)
        result = score(u, k, err);
    if (result < 0)
        return result;
    users_backward(u);
    move_z(u, true);
    return has_decoder(c) ? decode_back(u, err) : 0;
}

/* ---- the micro-batch --------------------------------------------------------------------------------------- */

static int reserve(struct work *w, struct err *err)
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
    return array_grow(&t->relative, &t->relative_size, p->count + 1, sizeof *t->relative, err);
}

static void count_work(struct work *w)
{
    w->loss->examples += w->count;
    w->loss->tokens += w->t->pack.use_tokens;
    w->loss->encoded += w->t->pack.offsets[w->t->pack.count];
    for (size_t i = 0; i < w->count; i++)
        w->loss->summary_tokens += w->examples[i].summary_count;
}

int train_examples(struct trainer *t, float *grads, struct train_loss *loss,
    const struct train_example *examples, size_t count, const struct train_objective *objective,
    struct err *err)
{
    struct work w = {t, examples, count, objective, grads, loss, 0, 0};
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
    memset(t->dcontents.data, 0, p->content_count * model_n(&t->model->config) * d * sizeof(float));
    contents_forward(&w);
    struct users users;
    for (size_t first = 0; result == 0 && first < count; first += users.count) {
        result = users_begin(&users, &w, first, err);
        if (result == 0)
            result = users_run(&users, err);
    }
    if (result < 0)
        return result;
    contents_backward(&w);
    result = encoder_back(&w, err);
    if (result == 0)
        count_work(&w);
    return result;
}
