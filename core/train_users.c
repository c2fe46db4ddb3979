/* The users of a micro-batch: summary decoder, user matrices, score and loss, forward and backward. */
#include "core/array.h"
#include "core/poly.h"
#include "core/train_int.h"

#include <string.h>

static bool has_decoder(const struct model_config *c)
{
    return c->ablation != ABLATION_NO_LSUM;
}

struct users {
    struct train_work *w;
    size_t first, count;                              /* examples */
    size_t *fed_offsets, *source_offsets, *z_offsets; /* count + 1 each */
    struct t5_teacher teacher;
};

static size_t session_count(const struct train_work *w, size_t example)
{
    const struct train_pack *p = &w->t->pack;
    return p->first[example + 1] - p->first[example] - w->examples[example].candidate_count;
}

static size_t source_tokens(const struct train_work *w, size_t example)
{
    const struct train_pack *p = &w->t->pack;
    const uint32_t *use = p->uses + p->first[example];
    size_t tokens = 0;
    for (size_t s = 0; s < session_count(w, example); s++)
        tokens += p->offsets[use[s] + 1] - p->offsets[use[s]];
    return tokens;
}

/* Examples from `first` on whose sources fit on the tape, at least one; their offsets, and the memory they need. */
static int begin(struct users *u, struct train_work *w, size_t first, struct err *err)
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
    struct train_work *w = u->w;
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
        t->hidden.data, t->decoder, t->model, &u->teacher, train_dropout(w, 2 * u->first + 1), t->t5, err);
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
    struct train_work *w = u->w;
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

static void attend(struct users *u)
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

static void attend_back(struct users *u)
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

/* Contents that serve example e as negatives beside its own candidates: those of the micro-batch's other users that e's
 * user has not read. Returns how many of them were put at `out`, at most `most`; they are taken from a place that differs
 * from example to example. */
static size_t borrow(uint32_t *out, size_t most, const struct train_work *w, size_t e)
{
    const struct train_pack *p = &w->t->pack;
    const struct train_example *x = &w->examples[e];
    unsigned char *const own = w->t->own;
    memset(own, 0, p->content_count);
    for (size_t other = 0; other < w->count; other++) {
        if (w->examples[other].user != x->user)
            continue;
        for (size_t use = p->first[other] + session_count(w, other); use < p->first[other + 1]; use++)
            own[p->uses[use]] = 1;
        for (size_t i = 0; i < w->examples[other].history_count; i++) {
            const ptrdiff_t at = train_pack_content(p, &w->examples[other].history[i]);
            if (at >= 0)
                own[at] = 1;
        }
    }
    size_t count = 0;
    for (size_t i = 0, at = e * 7919 % p->content_count; i < p->content_count && count < most; i++) {
        if (!own[at])
            out[count++] = (uint32_t)at;
        at = at + 1 == p->content_count ? 0 : at + 1;
    }
    return count;
}

/* L_NCE of the group's example k, and the gradients of its A and its candidates' B. */
static int score(struct users *u, size_t k, struct err *err)
{
    struct train_work *w = u->w;
    struct trainer *t = w->t;
    const size_t m = model_m(&t->model->config), e = u->first + k, own = w->examples[e].candidate_count;
    const size_t most = own + w->objective->shared_negatives;
    int result = array_grow(&t->scores, &t->scores_size, 2 * most, sizeof *t->scores, err);
    if (result == 0)
        result = array_grow(&t->which, &t->which_size, most, sizeof *t->which, err);
    if (result < 0)
        return result;
    memcpy(t->which, t->pack.uses + t->pack.first[e] + session_count(w, e), own * sizeof *t->which);
    const size_t count = own + (most > own ? borrow(t->which + own, most - own, w, e) : 0);
    result = score_forward(
        t->scores, t->score, t->users.data + k * m * t->model->config.d_model, m, t->which, count, err);
    if (result < 0)
        return result;
    double *dscores = t->scores + count;
    w->loss->nce += w->objective->scale * score_nce(dscores, t->scores, count);
    for (size_t i = 0; i < count; i++)
        dscores[i] *= w->objective->scale;
    score_backward(t->dusers.data + k * m * t->model->config.d_model, dscores, t->score);
    return 0;
}

int train_users(struct train_work *w, size_t first, size_t *count, struct err *err)
{
    struct users u;
    const struct model_config *c = &w->t->model->config;
    int result = begin(&u, w, first, err);
    if (result == 0 && has_decoder(c))
        result = decode(&u, err);
    if (result < 0)
        return result;
    move_z(&u, false);
    attend(&u);
    memset(w->t->dusers.data, 0, u.count * model_m(c) * c->d_model * sizeof(float));
    for (size_t k = 0; result == 0 && k < u.count; k++)
        result = score(&u, k, err);
    if (result < 0)
        return result;
    attend_back(&u);
    move_z(&u, true);
    *count = u.count;
    return has_decoder(c) ? decode_back(&u, err) : 0;
}
