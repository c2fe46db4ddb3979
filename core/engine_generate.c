/* Greedy generation.
 *
 * A step feeds one token to each of the users in flight, each at its own position: all go through the products together,
 * one row each, and through attention one by one. A user that ends leaves its place to one that waits, so the products,
 * which read all weights at every step, keep their rows while there are users left, and the cache of the self-attention
 * does not grow with them.
 *
 * Cross-attention reads the encoder's states themselves (core/cross.h); nothing is computed for a source beforehand.
 * Self-attention, whose keys are few, keeps keys and values: keys transposed (d_kv x positions), so that both of its
 * products are sums of long rows. */
#include "core/engine_int.h"
#include "core/vec.h"

#include <math.h>
#include <string.h>

enum {
    IN_FLIGHT = 32, /* users; at most ENGINE_ROWS */
    SPAN = 16       /* positions are rounded up to it: whole vectors */
};

/* A user in flight. */
struct place {
    size_t user;
    size_t position; /* of the token that it is fed next */
    int32_t token;
    float *cache; /* layers x (keys inner x span, values span x inner) */
};

struct decoding {
    const struct engine *engine;
    const struct model_config *config;
    struct engine_summary *users;
    size_t count, next; /* users next .. count - 1 wait */
    struct place places[IN_FLIGHT];
    size_t rows; /* places in use, which are the first; row r of every matrix is that of places[r] */
    struct engine_scratch *scratch;
    size_t span;
};

/* y (U x outputs, y_stride) = or += x (U x inputs, x_stride) W^T */
static void multiply(struct decoding *g, float *y, size_t y_stride, enum linear_store store,
    const struct linear *linear, const float *x, size_t x_stride)
{
    const struct model_config *c = g->config;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    struct linear_rows rows =
        engine_rows(g->scratch, &g->scratch->norm, g->engine->decoder.dtype, d > inner ? d : inner);
    linear_convert(&rows, linear, x, x_stride, g->rows);
    linear_apply(&(struct linear_out){y, y_stride, store, false}, linear, &rows, g->rows);
}

/* y (U x outputs) = norm(hidden) W^T */
static void multiply_norm(
    struct decoding *g, float *y, size_t outputs, const struct linear *linear, const float *norm)
{
    const struct model_config *c = g->config;
    struct linear_rows rows =
        engine_rows(g->scratch, &g->scratch->norm, g->engine->decoder.dtype, c->d_model);
    linear_norm(&rows, linear, g->scratch->hidden.data, norm, (float)c->layer_norm_epsilon, g->rows);
    linear_apply(&(struct linear_out){y, outputs, LINEAR_SET, false}, linear, &rows, g->rows);
}

/* context (inner) = softmax(q K^T + bias) V over the positions that the user was fed, each head for itself. */
static void attend(struct decoding *g, const struct place *place, float *context, const float *query,
    const float *keys, const float *values)
{
    const struct model_config *c = g->config;
    const size_t inner = c->heads * c->d_kv, len = place->position + 1, positions = c->max_summary_tokens + 1,
                 whole = (len + SPAN - 1) / SPAN * SPAN;
    float *scores = g->scratch->scores.data;
    for (size_t h = 0, at = 0; h < c->heads; h++, at += c->d_kv) {
        const float *bias = g->engine->decoder.bias + (h + 1) * positions - len;
        vec_combine(scores, query + at, keys + at * g->span, g->span, c->d_kv, whole);
        vec_softmax(scores, bias, len);
        vec_combine(context + at, scores, values + at, inner, len, c->d_kv);
    }
}

/* hidden += self-attention over what each user was fed so far. */
static void self_attention(struct decoding *g, size_t layer)
{
    const struct model_config *c = g->config;
    const struct engine_decoder_layer *weights = &g->engine->decoder.layers[layer];
    struct engine_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv;
    multiply_norm(g, s->qkv.data, 3 * inner, weights->qkv, g->engine->model->decoder[layer].self.norm);
    for (size_t r = 0; r < g->rows; r++) {
        const struct place *place = &g->places[r];
        const float *query = s->qkv.data + r * 3 * inner, *key = query + inner, *value = key + inner;
        float *keys = place->cache + layer * 2 * inner * g->span, *values = keys + inner * g->span;
        for (size_t j = 0; j < inner; j++)
            keys[j * g->span + place->position] = key[j];
        memcpy(values + place->position * inner, value, inner * sizeof *values);
        attend(g, place, s->context.data + r * inner, query, keys, values);
    }
    multiply(g, s->hidden.data, d, LINEAR_ADD, weights->o, s->context.data, inner);
}

/* hidden += attention over all tokens of all of the user's sessions, without position bias. */
static void cross_attention(struct decoding *g, size_t layer)
{
    const struct model_config *c = g->config;
    const struct engine_decoder *decoder = &g->engine->decoder;
    const struct engine_decoder_layer *weights = &decoder->layers[layer];
    struct engine_scratch *s = g->scratch;
    const size_t d = c->d_model, d_kv = c->d_kv, inner = c->heads * d_kv;
    float *absorbed = s->absorbed.data; /* U x heads x d */
    multiply_norm(g, s->qkv.data, inner, weights->cross_q, g->engine->model->decoder[layer].cross.norm);
    for (size_t h = 0; h < c->heads; h++)
        multiply(g, absorbed + h * d, c->heads * d, LINEAR_SET, weights->heads[h].absorb,
            s->qkv.data + h * d_kv, inner);
    for (size_t r = 0; r < g->rows; r++) {
        const struct engine_summary *user = &g->users[g->places[r].user];
        const struct cross_source source = {user->states, user->state_count, decoder->source};
        float *row = absorbed + r * c->heads * d;
        cross_attend(decoder->cross, row, row, &source, c->heads, d, s->cross.data);
    }
    for (size_t h = 0; h < c->heads; h++)
        multiply(g, s->context.data + h * d_kv, inner, LINEAR_SET, weights->heads[h].release,
            absorbed + h * d, c->heads * d);
    multiply(g, s->hidden.data, d, LINEAR_ADD, weights->cross_o, s->context.data, inner);
}

/* Feed each user in flight its token; scratch->hidden gets the final states, a row each. */
static void step(struct decoding *g)
{
    const struct model_config *c = g->config;
    const struct model *model = g->engine->model;
    const struct engine_decoder *decoder = &g->engine->decoder;
    float *hidden = g->scratch->hidden.data;
    for (size_t r = 0; r < g->rows; r++)
        memcpy(hidden + r * c->d_model, model->shared + (size_t)g->places[r].token * c->d_model,
            c->d_model * sizeof *hidden);
    for (size_t i = 0; i < c->decoder_layers; i++) {
        self_attention(g, i);
        cross_attention(g, i);
        engine_feed_forward(hidden, g->engine, &decoder->layers[i].ffn, decoder->dtype, g->rows, g->scratch);
    }
    vec_rms_norm(hidden, hidden, model->decoder_norm, g->rows, c->d_model, (float)c->layer_norm_epsilon);
}

/* Each place's token = argmax over the whole output embedding for its row of states; the first among equals. */
static void most_likely(struct decoding *g)
{
    const struct model_config *c = g->config;
    const struct engine_decoder *decoder = &g->engine->decoder;
    struct engine_scratch *s = g->scratch;
    struct linear_rows rows = engine_rows(s, &s->norm, decoder->dtype, c->d_model);
    float best[IN_FLIGHT];
    for (size_t r = 0; r < g->rows; r++)
        best[r] = -INFINITY;
    linear_convert(&rows, decoder->words[0], s->hidden.data, c->d_model, g->rows);
    for (size_t i = 0, at = 0; i < decoder->word_parts; i++, at += ENGINE_WORDS) {
        const size_t some = c->vocab_size - at < ENGINE_WORDS ? c->vocab_size - at : ENGINE_WORDS;
        linear_apply(&(struct linear_out){s->logits.data, ENGINE_WORDS, LINEAR_SET, false}, decoder->words[i],
            &rows, g->rows);
        for (size_t r = 0; r < g->rows; r++) {
            const float *logits = s->logits.data + r * ENGINE_WORDS;
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
    place->token = g->config->decoder_start_id;
    g->users[place->user].token_count = 0;
}

/* Take the token that each user's state predicts. One that ends keeps the state and leaves: its place goes to one that
 * waits or, if there is none, to the last row. */
static void advance(struct decoding *g)
{
    const struct model_config *c = g->config;
    const size_t d = c->d_model;
    const float *hidden = g->scratch->hidden.data;
    most_likely(g);
    for (size_t r = g->rows; r-- > 0;) {
        struct place *place = &g->places[r];
        struct engine_summary *user = &g->users[place->user];
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
    const struct model_config *c = g->config;
    struct engine_scratch *s = g->scratch;
    const size_t d = c->d_model, inner = c->heads * c->d_kv, rows = g->rows,
                 cache = c->decoder_layers * 2 * inner * g->span;
    const struct {
        struct engine_buffer *buffer;
        size_t need;
    } needs[] = {
        {&s->hidden, rows * d},
        {&s->qkv, rows * 3 * inner},
        {&s->context, rows * inner},
        {&s->absorbed, rows * c->heads * d},
        {&s->cross, cross_scratch(c->heads, d)},
        {&s->scores, g->span},
        {&s->cache, rows * cache},
        {&s->logits, rows * ENGINE_WORDS},
    };
    int result = engine_reserve_rows(s, g->engine, g->engine->decoder.dtype, err);
    for (size_t i = 0; result == 0 && i < sizeof needs / sizeof *needs; i++)
        result = engine_reserve(needs[i].buffer, needs[i].need, err);
    for (size_t r = 0; result == 0 && r < rows; r++)
        g->places[r].cache = s->cache.data + r * cache;
    return result;
}

int engine_generate(const struct engine *engine, struct engine_summary *users, size_t count,
    struct engine_scratch *scratch, struct err *err)
{
    const struct model_config *c = &engine->model->config;
    struct decoding g = {.engine = engine,
        .config = c,
        .users = users,
        .count = count,
        .rows = count < IN_FLIGHT ? count : IN_FLIGHT,
        .scratch = scratch,
        .span = (c->max_summary_tokens + SPAN) / SPAN * SPAN};
    const int result = reserve(&g, err);
    if (result < 0)
        return result;
    for (size_t r = 0; r < g.rows; r++)
        begin(&g, &g.places[r]);
    while (g.rows) {
        step(&g);
        advance(&g);
    }
    return 0;
}
