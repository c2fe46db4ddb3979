#include "batch/explain.h"

#include "store/why.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = WHY_TOKENS };
_Static_assert((int)WHY_ITEMS <= (int)WHY_TOKENS, "there is room for the larger of the two");

/* rows = the most (at most MOST) of a code's weights, the largest first; returns how many there are. */
static size_t pick(size_t rows[MOST], const float *weights, size_t count, size_t most)
{
    size_t picked = 0;
    for (size_t r = 0; r < count; r++) {
        size_t at = picked < most ? picked++ : most;
        for (; at > 0 && weights[rows[at - 1]] < weights[r]; at--)
            if (at < most)
                rows[at] = rows[at - 1];
        if (at < most)
            rows[at] = r;
    }
    return picked;
}

typedef struct why_look name_fn(const void *ctx, size_t row);

static int explain(char **text, const struct encode_weights *weights, size_t most, name_fn *name,
    const void *ctx, struct err *err)
{
    struct why why = {.code_count = weights->codes,
        .first = calloc(weights->codes + 1, sizeof *why.first),
        .looks = calloc(weights->codes * most + 1, sizeof *why.looks)};
    *text = NULL;
    for (size_t code = 0; why.first && why.looks && code < weights->codes; code++) {
        const float *w = weights->at + code * weights->rows;
        size_t rows[MOST], at = why.first[code];
        const size_t count = pick(rows, w, weights->rows, most);
        for (size_t i = 0; i < count; i++) {
            why.looks[at] = name(ctx, rows[i]);
            why.looks[at++].weight = w[rows[i]];
        }
        why.first[code + 1] = at;
    }
    if (why.first && why.looks)
        *text = why_write(&why);
    free(why.first);
    free(why.looks);
    return *text ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

/* ---- a user's items ---- */

struct history_names {
    const struct workspace *workspace;
    const uint32_t *items;
    size_t count;
};

static struct why_look name_item(const void *ctx, size_t row)
{
    const struct history_names *names = ctx;
    const struct id_map *ids = &names->workspace->news.ids;
    if (row >= names->count)
        return (struct why_look){"", 0, 0};
    return (struct why_look){id_map_get(ids, names->items[row]), ids->length[names->items[row]], 0};
}

int explain_user(char **text, const struct workspace *w, size_t user, const struct encode_weights *weights,
    struct err *err)
{
    struct history_names names = {.workspace = w};
    names.items = workspace_window(w, user, &names.count);
    return explain(text, weights, WHY_ITEMS, name_item, &names, err);
}

/* ---- a content's tokens ---- */

struct token_names {
    const struct workspace *workspace;
    const int32_t *tokens;
};

/* A piece without the mark of a word's beginning; ids that are no pieces are those that the model has added. */
static struct why_look name_token(const void *ctx, size_t row)
{
    static const char mark[] = "\xE2\x96\x81";
    const struct token_names *names = ctx;
    const int32_t id = names->tokens[row];
    const char *piece = tokenizer_piece(names->workspace->tokenizer, id);
    if (!piece)
        piece = id == names->workspace->model->config.sos_id ? "[SOS]" : "[?]";
    if (strncmp(piece, mark, sizeof mark - 1) == 0 && piece[sizeof mark - 1])
        piece += sizeof mark - 1;
    return (struct why_look){piece, strlen(piece), 0};
}

int explain_content(
    char **text, const struct workspace *w, const struct encode_weights *weights, struct err *err)
{
    const struct token_names names = {w, weights->tokens};
    return explain(text, weights, WHY_TOKENS, name_token, &names, err);
}
