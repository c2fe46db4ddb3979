#include "core/encode.h"

#include "core/array.h"
#include "core/half.h"
#include "core/poly.h"

#include <stdlib.h>
#include <string.h>

struct encoder {
    const struct engine *engine;
    const struct model *model;
    struct engine_scratch *scratch;
    struct encode_cache cache; /* get NULL: none */
    uint64_t tokens;
    char *states; /* numbers of engine_state_bytes(), or the floats of contents */
    size_t states_size;
    float *z;
    size_t z_size;
    int32_t *ids;
    size_t ids_size;
    size_t *offsets;
    size_t offsets_size;
    struct engine_sequence *sequences;
    size_t sequences_size;
    bool keep; /* weights, of the matrices at offsets */
    float *weights;
    size_t weights_size, codes;
};

int encoder_new(struct encoder **out, const struct engine *engine, struct err *err)
{
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return err_set(err, ERR_NOMEM, "out of memory");
    encoder->engine = engine;
    encoder->model = engine_model(engine);
    const int result = engine_scratch_new(&encoder->scratch, err);
    if (result < 0)
        encoder_free(encoder);
    else
        *out = encoder;
    return result;
}

void encoder_free(struct encoder *encoder)
{
    if (!encoder)
        return;
    engine_scratch_free(encoder->scratch);
    free(encoder->states);
    free(encoder->z);
    free(encoder->ids);
    free(encoder->offsets);
    free(encoder->sequences);
    free(encoder->weights);
    free(encoder);
}

void encoder_set_cache(struct encoder *encoder, const struct encode_cache *cache)
{
    encoder->cache = cache ? *cache : (struct encode_cache){NULL, NULL, NULL};
}

uint64_t encoder_tokens(const struct encoder *encoder)
{
    return encoder->tokens;
}

#define GROW(encoder, member, need, err)                                                                     \
    array_grow(&(encoder)->member, &(encoder)->member##_size, need, sizeof *(encoder)->member, err)

void encoder_keep_weights(struct encoder *encoder, bool keep)
{
    encoder->keep = keep;
}

const float *encoder_weights(const struct encoder *encoder, size_t index, size_t *rows)
{
    *rows = encoder->offsets[index + 1] - encoder->offsets[index];
    return encoder->weights + encoder->codes * encoder->offsets[index];
}

/* out (count x k x d): poly-attention over packed rows, matrix i from e->offsets[i] on, or the mean where the ablation says
 * so. */
static int attend(
    float *out, struct encoder *e, enum engine_head head, const float *z, size_t count, struct err *err)
{
    const struct model_config *c = &e->model->config;
    const enum ablation without = head == ENGINE_USER ? ABLATION_NO_UPE : ABLATION_NO_CPE;
    const size_t *offsets = e->offsets;
    e->codes = head == ENGINE_USER ? model_m(c) : model_n(c);
    const int result = e->keep ? GROW(e, weights, e->codes * offsets[count] + 1, err) : 0;
    if (result < 0)
        return result;
    float *weights = e->keep ? e->weights : NULL;
    if (c->ablation != without)
        return engine_attend(out, weights, e->engine, head, z, offsets, count, e->scratch, err);
    poly_mean(out, z, offsets, count, c->d_model);
    for (size_t i = 0; weights && i < count; i++) /* of one code */
        for (size_t r = offsets[i]; r < offsets[i + 1]; r++)
            weights[r] = 1 / (float)(offsets[i + 1] - offsets[i]);
    return 0;
}

static int encode(struct encoder *e, const struct engine_sequence *sequences, size_t count, struct err *err)
{
    const int result = engine_encode(e->engine, sequences, count, e->scratch, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        e->tokens += sequences[i].count;
    return result;
}

/* ---- contents ---- */

int encode_contents(
    float *b, struct encoder *e, const struct encode_item *items, size_t count, struct err *err)
{
    const size_t d = e->model->config.d_model;
    int result = GROW(e, sequences, count, err);
    if (result == 0)
        result = GROW(e, offsets, count + 1, err);
    if (result < 0)
        return result;
    e->offsets[0] = 0;
    for (size_t i = 0; i < count; i++)
        e->offsets[i + 1] = e->offsets[i] + items[i].count;
    result = GROW(e, states, e->offsets[count] * d * sizeof(float), err);
    if (result < 0)
        return result;
    float *states = (float *)(void *)e->states;
    for (size_t i = 0; i < count; i++)
        e->sequences[i] =
            (struct engine_sequence){items[i].ids, items[i].count, states + e->offsets[i] * d, NULL};
    result = encode(e, e->sequences, count, err);
    return result < 0 ? result : attend(b, e, ENGINE_CONTENT, states, count, err);
}

/* ---- users ---- */

size_t encode_user_tokens(const struct encode_user *user)
{
    size_t tokens = 0;
    for (size_t i = 0; i < user->item_count; i++)
        tokens += user->items[i].count;
    return tokens ? tokens : 2; /* [SOS] </s> stands for an empty history */
}

/* A sequence without tokens as yet, whose states begin at those of token `at` of all. */
static struct engine_sequence session_at(const struct encoder *e, size_t at)
{
    const size_t number = engine_state_bytes(e->engine);
    void *states = e->states + at * e->model->config.d_model * number;
    if (number == sizeof(float))
        return (struct engine_sequence){e->ids + at, 0, states, NULL};
    return (struct engine_sequence){e->ids + at, 0, NULL, states};
}

static void *states_of(const struct engine_sequence *session)
{
    return session->states ? (void *)session->states : session->halves;
}

static bool from_cache(const struct encoder *e, const struct engine_sequence *session)
{
    return e->cache.get && e->cache.get(e->cache.ctx, session->ids, session->count, states_of(session));
}

static void into_cache(const struct encoder *e, const struct engine_sequence *session)
{
    if (e->cache.put)
        e->cache.put(e->cache.ctx, session->ids, session->count, states_of(session));
}

/* All sessions of all users, one behind the other: their tokens in e->ids, their states' places in e->states. Returns
 * how many there are. e->ids and e->states have room for all tokens, e->sequences for as many as there are items. */
static size_t list_sessions(struct encoder *e, const struct encode_user *users, size_t count)
{
    const struct model_config *c = &e->model->config;
    const size_t session_size = model_session_size(c);
    size_t sessions = 0, used = 0;
    for (size_t u = 0; u < count; u++) {
        struct engine_sequence *session = NULL;
        for (size_t i = 0; i < users[u].item_count; i++) {
            const struct encode_item *item = &users[u].items[i];
            if (i % session_size == 0) {
                session = &e->sequences[sessions++];
                *session = session_at(e, used);
            }
            memcpy(e->ids + used, item->ids, item->count * sizeof *e->ids);
            session->count += item->count;
            used += item->count;
        }
        if (!session) {
            session = &e->sequences[sessions++];
            *session = session_at(e, used);
            session->count = 2;
            e->ids[used++] = c->sos_id;
            e->ids[used++] = c->eos_id;
        }
    }
    return sessions;
}

/* states of all sessions of all users, one behind the other, in e->states. Sessions of several users share a group. */
static int encode_sessions(
    struct encoder *e, const struct encode_user *users, size_t count, size_t tokens, struct err *err)
{
    size_t most = 0;
    for (size_t u = 0; u < count; u++)
        most += users[u].item_count + 1;
    int result = GROW(e, states, tokens * e->model->config.d_model * engine_state_bytes(e->engine), err);
    if (result == 0)
        result = GROW(e, ids, tokens, err);
    if (result == 0)
        result = GROW(e, sequences, most, err);
    if (result < 0)
        return result;
    const size_t sessions = list_sessions(e, users, count);
    size_t missing = 0;
    for (size_t i = 0; i < sessions; i++)
        if (!from_cache(e, &e->sequences[i]))
            e->sequences[missing++] = e->sequences[i];
    result = encode(e, e->sequences, missing, err);
    for (size_t i = 0; result == 0 && i < missing; i++)
        into_cache(e, &e->sequences[i]);
    return result;
}

/* row (d) = a token's state. */
static void take_state(float *row, const struct encoder *e, const char *state)
{
    const size_t d = e->model->config.d_model;
    if (engine_state_bytes(e->engine) == sizeof *row) {
        memcpy(row, state, d * sizeof *row);
        return;
    }
    const uint16_t *half = (const uint16_t *)(const void *)state;
    for (size_t i = 0; i < d; i++)
        row[i] = bf16_to_f32(half[i]);
}

/* Z of all users, packed (each user's u's, then its z), and in e->offsets the rows at which they begin. */
static int encode_rows(struct encoder *e, struct encode_user *users, size_t count,
    struct engine_summary *summaries, struct err *err)
{
    size_t *const rows = e->offsets;
    const size_t d = e->model->config.d_model, one = d * engine_state_bytes(e->engine);
    const bool decoder = e->model->config.ablation != ABLATION_NO_LSUM;
    size_t tokens = 0, total = 0;
    for (size_t i = 0; i < count; i++) {
        rows[i] = total;
        tokens += encode_user_tokens(&users[i]);
        total += users[i].item_count + (decoder || !users[i].item_count);
    }
    rows[count] = total;
    int result = GROW(e, z, (total + 1) * d, err);
    if (result == 0)
        result = encode_sessions(e, users, count, tokens, err);
    if (result < 0)
        return result;
    const char *states = e->states;
    for (size_t i = 0; i < count; i++) {
        /* An empty history's SOS state is overwritten by z, if there is one. */
        const char *sos = states;
        take_state(e->z + rows[i] * d, e, sos);
        for (size_t k = 0; k < users[i].item_count; k++) {
            take_state(e->z + (rows[i] + k) * d, e, sos);
            sos += users[i].items[k].count * one;
        }
        summaries[i] = (struct engine_summary){.states = states,
            .state_count = encode_user_tokens(&users[i]),
            .tokens = users[i].summary,
            .z = e->z + (rows[i + 1] - 1) * d};
        states += summaries[i].state_count * one;
        users[i].summary_count = 0;
    }
    if (!decoder)
        return 0;
    result = engine_generate(e->engine, summaries, count, e->scratch, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        users[i].summary_count = summaries[i].token_count;
    return result;
}

int encode_users(float *a, struct encoder *e, struct encode_user *users, size_t count, struct err *err)
{
    struct engine_summary *summaries = calloc(count + 1, sizeof *summaries);
    int result = summaries ? GROW(e, offsets, count + 1, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0)
        result = encode_rows(e, users, count, summaries, err);
    if (result == 0)
        result = attend(a, e, ENGINE_USER, e->z, count, err);
    free(summaries);
    return result;
}
