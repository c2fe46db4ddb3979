#include "core/scorer_both.h"

#include "core/scorer_int.h"

#include <stdlib.h>

/* ---- the parts ---- */

static size_t lines(size_t bytes)
{
    return (bytes + SCORER_LINE - 1) / SCORER_LINE * SCORER_LINE;
}

static size_t lanes(const struct scorer *scorer)
{
    return scorer->rough->panels * SCORER_LANES;
}

/* Of a pass; rows: with units as [lane][step]. */
static size_t packed_at(const struct scorer *scorer, size_t pass, bool rows)
{
    return (pass + (rows ? SCORER_PASSES : 0)) * lines(scorer->rough->user_bytes);
}

static size_t known_at(const struct scorer *scorer)
{
    return packed_at(scorer, SCORER_PASSES, true);
}

static size_t sums_at(const struct scorer *scorer)
{
    return known_at(scorer) + lines(SCORER_PASSES * sizeof(struct scorer_known));
}

static size_t user_at(const struct scorer *scorer)
{
    return sums_at(scorer) + lines(SCORER_PASSES * 2 * lanes(scorer) * sizeof(float));
}

static size_t bounds_at(const struct scorer *scorer)
{
    return lines(scorer->rough->content_bytes);
}

static size_t second_at(const struct scorer *scorer)
{
    return bounds_at(scorer) + lines(scorer_bound_floats(scorer->n) * sizeof(float));
}

static size_t content_at(const struct scorer *scorer)
{
    return second_at(scorer) + lines(scorer->rough->content_bytes);
}

struct scorer_bound_user scorer_both_bound_user(const struct scorer *scorer, const void *user)
{
    const char *at = user;
    const struct scorer_known *known = (const struct scorer_known *)(const void *)(at + known_at(scorer));
    const float *sums = (const float *)(const void *)(at + sums_at(scorer));
    struct scorer_bound_user parts;
    for (size_t pass = 0; pass < SCORER_PASSES; pass++) {
        parts.passes[pass] = (struct scorer_bound_pass){at + packed_at(scorer, pass, false),
            sums + 2 * pass * lanes(scorer), sums + (2 * pass + 1) * lanes(scorer), known + pass};
        parts.rows[pass] = at + packed_at(scorer, pass, true);
    }
    return parts;
}

struct scorer_bound_content scorer_both_bound_content(const struct scorer *scorer, const void *content)
{
    const char *at = content;
    const float *bounds = (const float *)(const void *)(at + bounds_at(scorer));
    const size_t padded = scorer_norms(scorer->n);
    const float *norms = bounds + 2 * 2 * padded;
    return (struct scorer_bound_content){content, at + second_at(scorer), bounds, bounds + 2 * padded,
        {norms, norms + 2 * padded + SCORER_TOPS}};
}

const void *scorer_both_user(const struct scorer *scorer, const void *user)
{
    return (const char *)user + user_at(scorer);
}

const void *scorer_both_content(const struct scorer *scorer, const void *content)
{
    return (const char *)content + content_at(scorer);
}

size_t scorer_both_first_bytes(const struct scorer *scorer)
{
    return content_at(scorer);
}

/* ---- both scorers ---- */

int scorer_both_new(struct scorer **out, const char *kernel, size_t m, size_t n, size_t d, struct err *err)
{
    struct scorer both = {.dtype = SCORER_F32_INT8, .m = m, .n = n, .d = d}, *made = NULL;
    int code = scorer_new(&both.rough, SCORER_INT8, kernel, m, n, d, err);
    if (code < 0)
        return code;
    /* A kernel that multiplies nothing but int8 leaves float32 to the fastest. */
    code = scorer_new(&both.exact, SCORER_F32, kernel, m, n, d, NULL);
    if (code == -ERR_INVALID)
        code = scorer_new(&both.exact, SCORER_F32, NULL, m, n, d, err);
    if (code == 0) {
        both.kernel = both.rough->kernel;
        both.user_bytes = user_at(&both) + both.exact->user_bytes;
        both.content_bytes = content_at(&both) + both.exact->content_bytes;
        made = malloc(sizeof *made);
        if (!made)
            code = err_set(err, ERR_NOMEM, "no memory for a scorer");
    }
    if (code < 0) {
        scorer_both_done(&both);
        return code;
    }
    *made = both;
    *out = made;
    return 0;
}

void scorer_both_done(struct scorer *scorer)
{
    scorer_free(scorer->rough);
    scorer_free(scorer->exact);
}

/* Until the float32 layout is written, its place holds what int8 leaves. */
void scorer_both_pack_user(const struct scorer *scorer, void *user, const float *a)
{
    char *at = user;
    float *left = (float *)(void *)(at + user_at(scorer));
    void *packed[SCORER_PASSES], *rows[SCORER_PASSES];
    for (size_t pass = 0; pass < SCORER_PASSES; pass++) {
        packed[pass] = at + packed_at(scorer, pass, false);
        rows[pass] = at + packed_at(scorer, pass, true);
    }
    scorer_bound_pack_user(scorer->rough, (struct scorer_known *)(void *)(at + known_at(scorer)),
        (float *)(void *)(at + sums_at(scorer)), packed, rows, left, a);
    scorer_pack_user(scorer->exact, left, a);
}

void scorer_both_pack_content(const struct scorer *scorer, void *content, const float *b, const float *gate)
{
    char *at = content;
    float *left = (float *)(void *)(at + content_at(scorer));
    scorer_bound_pack_content(scorer->rough, (float *)(void *)(at + bounds_at(scorer)), content,
        at + second_at(scorer), left, b, gate);
    scorer_pack_content(scorer->exact, left, b, gate);
}

void scorer_both_run(const struct scorer *scorer, float *scores, const void *const *users, size_t user_count,
    const void *const *contents, size_t count)
{
    enum { BLOCK = 256 };
    const void *exact[BLOCK];
    for (size_t c = 0; c < count; c += BLOCK) {
        const size_t here = count - c < BLOCK ? count - c : BLOCK;
        for (size_t i = 0; i < here; i++)
            exact[i] = scorer_both_content(scorer, contents[c + i]);
        for (size_t u = 0; u < user_count; u++) {
            const void *user = scorer_both_user(scorer, users[u]);
            scorer_run(scorer->exact, scores + u * count + c, &user, 1, exact, here);
        }
    }
}
