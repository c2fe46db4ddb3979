#include "core/scorer_both.h"

#include "core/scorer_int.h"

#include <stdlib.h>

/* ---- the parts ---- */

static size_t lines(size_t bytes)
{
    return (bytes + SCORER_LINE - 1) / SCORER_LINE * SCORER_LINE;
}

static size_t stages_at(const struct scorer *scorer)
{
    return 2 * lines(scorer->rough->user_bytes);
}

static size_t user_at(const struct scorer *scorer)
{
    return stages_at(scorer) + lines(SCORER_STAGES * sizeof(struct scorer_stage));
}

static size_t norms_at(const struct scorer *scorer)
{
    return lines(scorer->rough->content_bytes);
}

static size_t content_at(const struct scorer *scorer)
{
    return norms_at(scorer) + lines(4 * scorer_norms(scorer->n) * sizeof(float));
}

const void *scorer_both_rest(const struct scorer *scorer, const void *user)
{
    return (const char *)user + lines(scorer->rough->user_bytes);
}

const struct scorer_stage *scorer_both_stages(const struct scorer *scorer, const void *user)
{
    return (const struct scorer_stage *)((const char *)user + stages_at(scorer));
}

const void *scorer_both_user(const struct scorer *scorer, const void *user)
{
    return (const char *)user + user_at(scorer);
}

const float *scorer_both_norms(const struct scorer *scorer, const void *content)
{
    return (const float *)((const char *)content + norms_at(scorer));
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

void scorer_both_pack_user(const struct scorer *scorer, void *user, const float *a)
{
    char *at = user;
    void *exact = at + user_at(scorer);
    /* Until the float32 layout is written, its place holds what int8 leaves of A. */
    scorer_bound_user(scorer->rough, (struct scorer_stage *)(void *)(at + stages_at(scorer)), user,
        at + lines(scorer->rough->user_bytes), exact, a);
    scorer_pack_user(scorer->exact, exact, a);
}

void scorer_both_pack_content(const struct scorer *scorer, void *content, const float *b, const float *gate)
{
    char *at = content;
    scorer_pack_content(scorer->rough, content, b, gate);
    scorer_bound_content(scorer->rough, (float *)(void *)(at + norms_at(scorer)), content, b, gate);
    scorer_pack_content(scorer->exact, at + content_at(scorer), b, gate);
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
