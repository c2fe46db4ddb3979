#include "core/encode.h"

#include "core/array.h"
#include "core/poly.h"
#include "core/t5.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that go through the encoder together: enough for full-speed products, few enough for the cache. */
enum { GROUP_TOKENS = 1024 };

struct encoder {
    const struct model *model;
    struct t5_scratch *t5;
    float *states;
    size_t states_size;
    float *z;
    size_t z_size;
    float *poly;
    size_t poly_size;
    int32_t *ids;
    size_t ids_size;
    size_t *offsets;
    size_t offsets_size;
};

int encoder_new(struct encoder **out, const struct model *model, struct err *err)
{
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return err_set(err, ERR_NOMEM, "out of memory");
    encoder->model = model;
    const int result = t5_scratch_new(&encoder->t5, err);
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
    t5_scratch_free(encoder->t5);
    free(encoder->states);
    free(encoder->z);
    free(encoder->poly);
    free(encoder->ids);
    free(encoder->offsets);
    free(encoder);
}

#define GROW(encoder, member, need, err)                                                                     \
    array_grow(&(encoder)->member, &(encoder)->member##_size, need, sizeof *(encoder)->member, err)

/* out (count x k x d): poly-attention over packed rows, or the mean where the ablation says so. */
static int attend(float *out, struct encoder *e, const float *z, const size_t *offsets, size_t count,
    bool mean, const float *codes, const float *proj, size_t k, struct err *err)
{
    const struct model_config *c = &e->model->config;
    if (mean) {
        poly_mean(out, z, offsets, count, c->d_model);
        return 0;
    }
    const int result = GROW(e, poly, poly_scratch(offsets, count, k, c->code_dim), err);
    if (result == 0)
        poly_attend(out, z, offsets, count, codes, proj, k, c->code_dim, c->d_model, e->poly);
    return result;
}

/* Put items one behind the other as sequences of `session` items each, as many sequences as GROUP_TOKENS
 * allow and at least one. Fills e->ids and e->offsets; returns the number of items taken, *sequences the
 * number of sequences. */
static ptrdiff_t pack(struct encoder *e, const struct encode_item *items, size_t count, size_t session,
    size_t *sequences, struct err *err)
{
    size_t taken = 0, used = 0, packed = 0;
    while (taken < count) {
        const size_t end = count - taken < session ? count : taken + session;
        size_t tokens = 0;
        for (size_t i = taken; i < end; i++)
            tokens += items[i].count;
        if (packed && used + tokens > GROUP_TOKENS)
            break;
        int result = GROW(e, ids, used + tokens, err);
        if (result == 0)
            result = GROW(e, offsets, packed + 2, err);
        if (result < 0)
            return result;
        e->offsets[packed++] = used;
        for (; taken < end; taken++) {
            memcpy(e->ids + used, items[taken].ids, items[taken].count * sizeof *e->ids);
            used += items[taken].count;
        }
        e->offsets[packed] = used;
    }
    *sequences = packed;
    return (ptrdiff_t)taken;
}

int encode_contents(
    float *b, struct encoder *e, const struct encode_item *items, size_t count, struct err *err)
{
    const struct model *model = e->model;
    const size_t d = model->config.d_model, n = model_n(&model->config);
    for (size_t done = 0; done < count;) {
        size_t sequences;
        const ptrdiff_t taken = pack(e, items + done, count - done, 1, &sequences, err);
        if (taken < 0)
            return (int)taken;
        int result = GROW(e, states, e->offsets[sequences] * d, err);
        if (result == 0)
            result = t5_encode(e->states, model, e->ids, e->offsets, sequences, e->t5, err);
        if (result == 0)
            result = attend(b + done * n * d, e, e->states, e->offsets, sequences,
                model->config.ablation == ABLATION_NO_CPE, model->content_codes, model->content_proj, n, err);
        if (result < 0)
            return result;
        done += (size_t)taken;
    }
    return 0;
}

size_t encode_user_tokens(const struct encode_user *user)
{
    size_t tokens = 0;
    for (size_t i = 0; i < user->item_count; i++)
        tokens += user->items[i].count;
    return tokens ? tokens : 2; /* [SOS] </s> stands for an empty history */
}

/* states (tokens x d) = encoder states of the user's sessions, oldest first; u (item_count x d) = those at
 * each SOS. */
static int encode_sessions(float *states, float *u, struct encoder *e, const struct encode_item *items,
    size_t count, struct err *err)
{
    const size_t d = e->model->config.d_model, session = model_session_size(&e->model->config);
    for (size_t done = 0; done < count;) {
        size_t sequences;
        const ptrdiff_t taken = pack(e, items + done, count - done, session, &sequences, err);
        if (taken < 0)
            return (int)taken;
        const int result = t5_encode(states, e->model, e->ids, e->offsets, sequences, e->t5, err);
        if (result < 0)
            return result;
        for (const size_t end = done + (size_t)taken; done < end; done++) {
            memcpy(u, states, d * sizeof *u);
            u += d;
            states += items[done].count * d;
        }
    }
    return 0;
}

/* Z of all users, packed (each user's u's, then its z), and the rows at which they begin. */
static int encode_rows(struct encoder *e, struct encode_user *users, size_t count,
    struct t5_summary *summaries, size_t *rows, struct err *err)
{
    const struct model_config *c = &e->model->config;
    const bool decoder = c->ablation != ABLATION_NO_LSUM;
    const int32_t empty_ids[2] = {c->sos_id, c->eos_id};
    const struct encode_item empty = {empty_ids, 2};
    size_t tokens = 0, total = 0;
    for (size_t i = 0; i < count; i++) {
        rows[i] = total;
        tokens += encode_user_tokens(&users[i]);
        total += users[i].item_count + (decoder || !users[i].item_count);
    }
    rows[count] = total;
    int result = GROW(e, states, tokens * c->d_model, err);
    if (result == 0)
        result = GROW(e, z, (total + 1) * c->d_model, err);
    float *states = e->states;
    for (size_t i = 0; result == 0 && i < count; i++) {
        const struct encode_item *items = users[i].item_count ? users[i].items : &empty;
        float *u =
            e->z +
            rows[i] * c->d_model; /* an empty history's SOS state is overwritten by z, if there is one */
        result = encode_sessions(states, u, e, items, users[i].item_count ? users[i].item_count : 1, err);
        summaries[i] = (struct t5_summary){.source = {states, encode_user_tokens(&users[i]), CROSS_F32},
            .tokens = users[i].summary,
            .z = e->z + (rows[i + 1] - 1) * c->d_model};
        states += summaries[i].source.len * c->d_model;
        users[i].summary_count = 0;
    }
    if (result < 0 || !decoder)
        return result;
    result = t5_generate(summaries, count, e->model, e->t5, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        users[i].summary_count = summaries[i].token_count;
    return result;
}

int encode_users(float *a, struct encoder *e, struct encode_user *users, size_t count, struct err *err)
{
    const struct model *model = e->model;
    struct t5_summary *summaries = calloc(count + 1, sizeof *summaries);
    size_t *rows = calloc(count + 1, sizeof *rows);
    int result = -ERR_NOMEM;
    if (summaries && rows)
        result = encode_rows(e, users, count, summaries, rows, err);
    else
        err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0)
        result = attend(a, e, e->z, rows, count, model->config.ablation == ABLATION_NO_UPE, model->user_codes,
            model->user_proj, model_m(&model->config), err);
    free(summaries);
    free(rows);
    return result;
}
