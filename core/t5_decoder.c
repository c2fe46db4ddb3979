/* Greedy generation.
 *
 * A step feeds one token to each of the users in flight, each at its own position: all go through the projections
 * together, one row each, and through attention one by one. A user that ends leaves its place to one that waits, so the
 * products keep their rows while there are users left, and the cache of the self-attention does not grow with them.
 *
 * Cross-attention reads the encoder's states themselves (core/cross.h); nothing is computed for a source beforehand.
 * Self-attention, whose keys are few, keeps keys and values: keys transposed (d_kv x positions), so that both of its
 * products are sums of long rows. */
#include "core/gemm.h"
#include "core/t5_int.h"
#include "core/vec.h"

#include <math.h>
#include <string.h>

enum {
    IN_FLIGHT = 32,    /* users */
    LOGIT_ROWS = 1024, /* of the output embedding at a time */
    SPAN = 16          /* positions are rounded up to it: whole vectors */
};

/* A user in flight. */
struct place {
    size_t user;
    size_t position; /* of the token that it is fed next */
    int32_t token;
    float *cache; /* layers x (keys inner x span, values span x inner) */
};

struct decoding {
    const struct model *model;
    struct t5_summary *users;
    size_t count, next; /* users next .. count - 1 wait */
    struct place places[IN_FLIGHT];
    size_t rows; /* places in use, which are the first; row r of every matrix is that of places[r] */
    struct t5_scratch *scratch;
    struct t5_bias bias;
    size_t span;
    const struct cross_kernel *kernels[CROSS_DTYPES];
};

/* context (inner) = softmax(q K^T + bias) V over the positions that the user was fed, each head for itself. */
static void attend(struct decoding *g, const struct place *place, float *context, const float *query,
    const float *keys, const float *values)
{
    const struct model_config *c = &g->model->config;
    const size_t inner = c->heads * c->d_kv, len = place->position + 1,
                 whole = (len + SPAN - 1) / SPAN * SPAN;
    float *scores = g->scratch->scores.data;
    for (size_t h = 0, at = 0; h < c->heads; h++, at += c->d_kv) {
        /* key k is at relative position k - position */
        const float *bias = g->bias.table + h * g->bias.span + g->bias.zero - place->position;
        vec_combine(scores, query + at, keys + at * g->span, g->span, c->d_kv, whole);
        vec_softmax(scores, bias, len);
        vec_combine(context + at, scores, values + at, inner, len, c->d_kv);
    }
}

/* hidden += self-attention over what each user was fed so far. */
static void self_attention(struct decoding *g, float *hidden, size_t layer)
{
    const struct model_config *c = &g->model->config;
    const struct model_attention *self = &g->model->decoder[layer].self;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->rows;
    vec_rms_norm(s->norm.data, hidden, self->norm, rows, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, s->qkv.data, s->norm.data, self->q, rows, 3 * inner, d, 0); /* (U,d) (3I,d)^T -> (U,3I) */
    for (size_t r = 0; r < rows; r++) {
        const struct place *place = &g->places[r];
        const float *query = s->qkv.data + r * 3 * inner, *key = query + inner, *value = key + inner;
        float *keys = place->cache + layer * 2 * inner * g->span, *values = keys + inner * g->span;
        for (size_t j = 0; j < inner; j++)
            keys[j * g->span + place->position] = key[j];
        memcpy(values + place->position * inner, value, inner * sizeof *values);
        attend(g, place, s->context.data + r * inner, query, keys, values);
    }
    gemm(GEMM_NT, hidden, s->context.data, self->o, rows, d, inner, 1); /* (U,I) (d,I)^T -> (U,d) */
}

/* absorbed (U x heads x d): for each head, its query times W_k, which has a row for each of its d_kv numbers. */
static void absorb_queries(struct decoding *g, const struct model_attention *cross)
{
    const struct model_config *c = &g->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    for (size_t h = 0; h < c->heads; h++) /* (U,d_kv) (d_kv,d) -> (U,d) */
        gemm_part(GEMM_NN, g->scratch->absorbed.data + h * d, c->heads * d,
            g->scratch->query.data + h * c->d_kv, inner, cross->k + h * c->d_kv * d, d, g->rows, d, c->d_kv,
            0);
}

/* context (U x I): for each head, its sum of states (in absorbed) times W_v. */
static void release_contexts(struct decoding *g, const struct model_attention *cross)
{
    const struct model_config *c = &g->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    for (size_t h = 0; h < c->heads; h++) /* (U,d) (d_kv,d)^T -> (U,d_kv) */
        gemm_part(GEMM_NT, g->scratch->context.data + h * c->d_kv, inner, g->scratch->absorbed.data + h * d,
            c->heads * d, cross->v + h * c->d_kv * d, d, g->rows, c->d_kv, d, 0);
}

/* hidden += attention over all tokens of all of the user's sessions, without position bias. */
static void cross_attention(struct decoding *g, float *hidden, size_t layer)
{
    const struct model_config *c = &g->model->config;
    const struct model_attention *cross = &g->model->decoder[layer].cross;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->rows;
    vec_rms_norm(s->norm.data, hidden, cross->norm, rows, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, s->query.data, s->norm.data, cross->q, rows, inner, d, 0); /* (U,d) (I,d)^T -> (U,I) */
    absorb_queries(g, cross);
    for (size_t r = 0; r < rows; r++) {
        const struct cross_source *source = &g->users[g->places[r].user].source;
        float *absorbed = s->absorbed.data + r * c->heads * d;
        cross_attend(g->kernels[source->dtype], absorbed, absorbed, source, c->heads, d, s->attend.data);
    }
    release_contexts(g, cross);
    gemm(GEMM_NT, hidden, s->context.data, cross->o, rows, d, inner, 1);
}

/* Feed each user in flight its token; scratch->hidden gets the final states, a row each. */
static int step(struct decoding *g, struct err *err)
{
    const struct model_config *c = &g->model->config;
    float *hidden = g->scratch->hidden.data;
    for (size_t r = 0; r < g->rows; r++)
        t5_embed(hidden + r * c->d_model, g->model, &g->places[r].token, 1);
    for (size_t i = 0; i < c->decoder_layers; i++) {
        self_attention(g, hidden, i);
        cross_attention(g, hidden, i);
        const int result =
            t5_ffn_forward(hidden, g->model, &g->model->decoder[i].ffn, g->rows, NULL, g->scratch, err);
        if (result < 0)
            return result;
    }
    vec_rms_norm(hidden, hidden, g->model->decoder_norm, g->rows, c->d_model, (float)c->layer_norm_epsilon);
    return 0;
}

/* Each place's token = argmax over the whole output embedding for its row of states; the first among equals. */
static void most_likely(struct decoding *g)
{
    const struct model_config *c = &g->model->config;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model;
    const float scale = c->tied ? (float)(1.0 / sqrt((double)d)) : 1.0f;
    float best[IN_FLIGHT];
    for (size_t i = 0; i < g->rows * d; i++)
        s->norm.data[i] = s->hidden.data[i] * scale;
    for (size_t r = 0; r < g->rows; r++)
        best[r] = -INFINITY;
    for (size_t at = 0; at < c->vocab_size; at += LOGIT_ROWS) {
        const size_t some = c->vocab_size - at < LOGIT_ROWS ? c->vocab_size - at : LOGIT_ROWS;
        gemm(GEMM_NT, s->logits.data, s->norm.data, g->model->lm_head + at * d, g->rows, some, d, 0);
        for (size_t r = 0; r < g->rows; r++) {
            const float *logits = s->logits.data + r * some;
            const size_t top = vec_argmax(logits, some);
            if (logits[top] > best[r]) {
                best[r] = logits[top];
                g->places[r].token = (int32_t)(at + top);
            }
        }
    }
}

/* The next user that waits begins at this place. */
static void begin(struct decoding *g, struct place *place)
{
    place->user = g->next++;
    place->position = 0;
    place->token = g->model->config.decoder_start_id;
    g->users[place->user].token_count = 0;
}

/* Take the token that each user's state predicts. One that ends keeps the state and leaves: its place goes to one that
 * waits or, if there is none, to the last row. */
static void advance(struct decoding *g)
{
    const struct model_config *c = &g->model->config;
    const size_t d = c->d_model;
    float *hidden = g->scratch->hidden.data;
    most_likely(g);
    for (size_t r = g->rows; r-- > 0;) {
        struct place *place = &g->places[r];
        struct t5_summary *user = &g->users[place->user];
        if (place->position < c->max_summary_tokens && place->token != c->eos_id) {
            user->tokens[user->token_count++] = place->token;
            place->position++;
            continue;
        }
        memcpy(user->z, hidden + r * d, d * sizeof *user->z);
        if (g->next < g->count) {
            begin(g, place);
        } else { /* the last row has been seen to */
            const struct place last = g->places[--g->rows];
            g->places[g->rows] = *place;
            *place = last;
        }
    }
}

static int reserve(struct decoding *g, struct err *err)
{
    const struct model_config *c = &g->model->config;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->rows,
                 cache = c->decoder_layers * 2 * inner * g->span;
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {
        {&s->hidden, rows * d},
        {&s->norm, rows * d},
        {&s->qkv, rows * 3 * inner},
        {&s->query, rows * inner},
        {&s->context, rows * inner},
        {&s->absorbed, rows * c->heads * d},
        {&s->attend, cross_scratch(c->heads, d)},
        {&s->scores, g->span},
        {&s->cache, rows * cache},
        {&s->logits, rows * LOGIT_ROWS},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const int result = t5_reserve(needs[i].buffer, needs[i].need, err);
        if (result < 0)
            return result;
    }
    for (size_t r = 0; r < rows; r++)
        g->places[r].cache = s->cache.data + r * cache;
    return 0;
}

int t5_generate(struct t5_summary *users, size_t count, const struct model *model, struct t5_scratch *scratch,
    struct err *err)
{
    const size_t positions = model->config.max_summary_tokens + 1;
    struct decoding g = {.model = model,
        .users = users,
        .count = count,
        .rows = count < IN_FLIGHT ? count : IN_FLIGHT,
        .scratch = scratch,
        .span = (positions + SPAN - 1) / SPAN * SPAN};
    for (enum cross_dtype dtype = CROSS_F32; dtype < CROSS_DTYPES; dtype++)
        g.kernels[dtype] = cross_best(dtype);
    int result = reserve(&g, err);
    if (result == 0)
        result =
            t5_bias_make(&g.bias, &scratch->bias, model->decoder_bias, &model->config, false, positions, err);
    for (size_t r = 0; result == 0 && r < g.rows; r++)
        begin(&g, &g.places[r]);
    while (result == 0 && g.rows) {
        result = step(&g, err);
        if (result == 0)
            advance(&g);
    }
    return result;
}
