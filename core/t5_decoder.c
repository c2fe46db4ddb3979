/* Greedy generation with cached keys and values.
 *
 * A step runs all users that have not finished through the projections together, one row each, and through
 * attention one by one. Keys are kept transposed (d_kv x positions), so that the scores of one query are a
 * few scaled additions of long rows: no product with a single row, which BLAS would spend on packing.
 */
#include "core/gemm.h"
#include "core/t5_int.h"
#include "core/vec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOGIT_ROWS = 4096 }; /* of the output embedding at a time */

struct decoding {
    const struct model *model;
    struct t5_summary *users;
    struct t5_scratch *scratch;
    size_t positions; /* the most that a user can be fed */
    struct t5_bias bias;
    size_t *cross_offset; /* of user u's keys and values in scratch->cross, for layer 0 */
    size_t cross_layer;   /* floats from one layer to the next there */
    size_t *active;       /* users still generating */
    size_t active_count;
    int32_t *fed; /* the token that user u is fed at this step */
};

/* Keys (inner x len, transposed) and values (len x inner) of every user's source, for every layer: they do
 * not change while the summary grows. */
static int project_sources(struct decoding *g, size_t count, struct err *err)
{
    const struct model_config *c = &g->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    size_t total = 0;
    for (size_t u = 0; u < count; u++) {
        g->cross_offset[u] = total;
        total += 2 * inner * g->users[u].source_len;
    }
    g->cross_layer = total;
    const int result = t5_reserve(&g->scratch->cross, total * c->decoder_layers, err);
    for (size_t i = 0; result == 0 && i < c->decoder_layers; i++) {
        const struct model_attention *cross = &g->model->decoder[i].cross;
        for (size_t u = 0; u < count; u++) {
            const size_t len = g->users[u].source_len;
            float *keys = g->scratch->cross.data + i * total + g->cross_offset[u],
                  *values = keys + inner * len;
            gemm(GEMM_NT, keys, cross->k, g->users[u].source, inner, len, d, 0); /* (I,d) (L,d)^T -> (I,L) */
            gemm(
                GEMM_NT, values, g->users[u].source, cross->v, len, inner, d, 0); /* (L,d) (I,d)^T -> (L,I) */
        }
    }
    return result;
}

/* context (d_kv) = softmax(q K^T + bias) V for one query of one head; keys d_kv x stride, values stride
 * inner. */
static void attend(float *context, const float *query, const float *keys, size_t key_stride,
    const float *values, size_t value_stride, const float *bias, size_t len, size_t d_kv, float *scores)
{
    memset(scores, 0, len * sizeof *scores);
    memset(context, 0, d_kv * sizeof *context);
    for (size_t j = 0; j < d_kv; j++)
        vec_add_scaled(scores, query[j], keys + j * key_stride, len);
    vec_softmax(scores, bias, len);
    for (size_t k = 0; k < len; k++)
        vec_add_scaled(context, scores[k], values + k * value_stride, d_kv);
}

/* hidden += self-attention over what the user was fed up to `position`. */
static void self_attention(struct decoding *g, float *hidden, size_t layer, size_t position)
{
    const struct model_config *c = &g->model->config;
    const struct model_attention *self = &g->model->decoder[layer].self;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->active_count, span = g->positions;
    vec_rms_norm(s->norm.data, hidden, self->norm, rows, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, s->qkv.data, s->norm.data, self->q, rows, 3 * inner, d, 0); /* (U,d) (3I,d)^T -> (U,3I) */
    for (size_t r = 0; r < rows; r++) {
        const float *qkv = s->qkv.data + r * 3 * inner;
        float *keys = s->cache.data + (g->active[r] * c->decoder_layers + layer) * 2 * inner * span,
              *values = keys + inner * span;
        for (size_t j = 0; j < inner; j++)
            keys[j * span + position] = qkv[inner + j];
        memcpy(values + position * inner, qkv + 2 * inner, inner * sizeof *values);
        for (size_t h = 0; h < c->heads; h++) /* key k is at relative position k - position */
            attend(s->context.data + r * inner + h * c->d_kv, qkv + h * c->d_kv, keys + h * c->d_kv * span,
                span, values + h * c->d_kv, inner, g->bias.table + h * g->bias.span + g->bias.zero - position,
                position + 1, c->d_kv, s->scores.data);
    }
    gemm(GEMM_NT, hidden, s->context.data, self->o, rows, d, inner, 1); /* (U,I) (d,I)^T -> (U,d) */
}

/* hidden += attention over all tokens of all of the user's sessions, without position bias. */
static void cross_attention(struct decoding *g, float *hidden, size_t layer)
{
    const struct model_config *c = &g->model->config;
    const struct model_attention *cross = &g->model->decoder[layer].cross;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->active_count;
    vec_rms_norm(s->norm.data, hidden, cross->norm, rows, d, (float)c->layer_norm_epsilon);
    gemm(GEMM_NT, s->query.data, s->norm.data, cross->q, rows, inner, d, 0); /* (U,d) (I,d)^T -> (U,I) */
    for (size_t r = 0; r < rows; r++) {
        const size_t user = g->active[r], len = g->users[user].source_len;
        const float *keys = s->cross.data + layer * g->cross_layer + g->cross_offset[user],
                    *values = keys + inner * len;
        for (size_t h = 0; h < c->heads; h++)
            attend(s->context.data + r * inner + h * c->d_kv, s->query.data + r * inner + h * c->d_kv,
                keys + h * c->d_kv * len, len, values + h * c->d_kv, inner, NULL, len, c->d_kv,
                s->scores.data);
    }
    gemm(GEMM_NT, hidden, s->context.data, cross->o, rows, d, inner, 1);
}

/* tokens[r] = argmax over the whole output embedding for each row of states. */
static void most_likely(struct decoding *g, int32_t *tokens, const float *states, size_t rows)
{
    const struct model_config *c = &g->model->config;
    struct t5_scratch *s = g->scratch;
    const size_t d = c->d_model;
    const float scale = c->tied ? (float)(1.0 / sqrt((double)d)) : 1.0f;
    for (size_t i = 0; i < rows * d; i++)
        s->norm.data[i] = states[i] * scale;
    for (size_t r = 0; r < rows; r++)
        s->best.data[r] = -INFINITY;
    for (size_t at = 0; at < c->vocab_size; at += LOGIT_ROWS) {
        const size_t some = c->vocab_size - at < LOGIT_ROWS ? c->vocab_size - at : LOGIT_ROWS;
        gemm(GEMM_NT, s->logits.data, s->norm.data, g->model->lm_head + at * d, rows, some, d, 0);
        for (size_t r = 0; r < rows; r++) {
            const float *logits = s->logits.data + r * some;
            const size_t best = vec_argmax(logits, some);
            if (logits[best] > s->best.data[r]) {
                s->best.data[r] = logits[best];
                tokens[r] = (int32_t)(at + best);
            }
        }
    }
}

/* Feed every active user its token at `position`; states (in scratch->hidden) = the final states, one row
 * each. */
static int step(struct decoding *g, size_t position, struct err *err)
{
    const struct model_config *c = &g->model->config;
    float *hidden = g->scratch->hidden.data;
    for (size_t r = 0; r < g->active_count; r++)
        t5_embed(hidden + r * c->d_model, g->model, &g->fed[g->active[r]], 1);
    for (size_t i = 0; i < c->decoder_layers; i++) {
        self_attention(g, hidden, i, position);
        cross_attention(g, hidden, i);
        const int result = t5_ffn_forward(
            hidden, g->model, &g->model->decoder[i].ffn, g->active_count, NULL, g->scratch, err);
        if (result < 0)
            return result;
    }
    vec_rms_norm(
        hidden, hidden, g->model->decoder_norm, g->active_count, c->d_model, (float)c->layer_norm_epsilon);
    return 0;
}

/* Take the token that each active user's state predicts; a user that ends keeps the state and leaves. */
static void advance(struct decoding *g, size_t position, int32_t *predicted)
{
    const struct model_config *c = &g->model->config;
    const float *hidden = g->scratch->hidden.data;
    const bool last = position == c->max_summary_tokens; /* fed with the last token that is allowed */
    if (!last)
        most_likely(g, predicted, hidden, g->active_count);
    size_t kept = 0;
    for (size_t r = 0; r < g->active_count; r++) {
        struct t5_summary *user = &g->users[g->active[r]];
        if (last || predicted[r] == c->eos_id) {
            memcpy(user->z, hidden + r * c->d_model, c->d_model * sizeof *user->z);
        } else {
            user->tokens[user->token_count++] = predicted[r];
            g->fed[g->active[r]] = predicted[r];
            g->active[kept++] = g->active[r];
        }
    }
    g->active_count = kept;
}

static int reserve(struct decoding *g, size_t count, struct err *err)
{
    const struct model_config *c = &g->model->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    size_t longest = g->positions;
    for (size_t u = 0; u < count; u++)
        longest = g->users[u].source_len > longest ? g->users[u].source_len : longest;
    struct t5_scratch *s = g->scratch;
    const struct {
        struct buffer *buffer;
        size_t need;
    } needs[] = {
        {&s->hidden, count * d},
        {&s->norm, count * d},
        {&s->qkv, count * 3 * inner},
        {&s->query, count * inner},
        {&s->context, count * inner},
        {&s->scores, longest},
        {&s->cache, count * c->decoder_layers * 2 * inner * g->positions},
        {&s->logits, count * LOGIT_ROWS},
        {&s->best, count},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const int result = t5_reserve(needs[i].buffer, needs[i].need, err);
        if (result < 0)
            return result;
    }
    return 0;
}

int t5_generate(struct t5_summary *users, size_t count, const struct model *model, struct t5_scratch *scratch,
    struct err *err)
{
    struct decoding g = {.model = model,
        .users = users,
        .scratch = scratch,
        .positions = model->config.max_summary_tokens + 1};
    int result = -ERR_NOMEM;
    g.cross_offset = calloc(count, sizeof *g.cross_offset);
    g.active = calloc(count, sizeof *g.active);
    g.fed = calloc(count, sizeof *g.fed);
    int32_t *predicted = calloc(count, sizeof *predicted);
    if (!g.cross_offset || !g.active || !g.fed || !predicted) {
        err_set(err, ERR_NOMEM, "out of memory");
        goto done;
    }
    result = reserve(&g, count, err);
    if (result == 0)
        result = t5_bias_make(
            &g.bias, &scratch->bias, model->decoder_bias, &model->config, false, g.positions, err);
    if (result == 0)
        result = project_sources(&g, count, err);
    if (result < 0)
        goto done;
    g.active_count = count;
    for (size_t u = 0; u < count; u++) {
        g.active[u] = u;
        g.fed[u] = model->config.decoder_start_id;
        users[u].token_count = 0;
    }
    for (size_t position = 0; result == 0 && g.active_count; position++) {
        result = step(&g, position, err);
        if (result == 0)
            advance(&g, position, predicted);
    }
done:
    free(g.cross_offset);
    free(g.active);
    free(g.fed);
    free(predicted);
    return result;
}
