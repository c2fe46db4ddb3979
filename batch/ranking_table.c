#include "batch/ranking.h"

#include "batch/screen.h"
#include "core/decimal.h"

#include <string.h>

#define MISSING_LISTED 100

enum { RANK_COLUMNS = 4, GAP = 2, ID_MIN = 8 };

/* Columns of the widest id, so that titles stand below each other; a long one leaves titles half of the line. */
static size_t id_columns(const struct screen *screen, const struct ranking *ranking, size_t left)
{
    size_t widest = strlen("id");
    for (size_t i = 0; i < ranking->count; i++) {
        const struct store_id *const id = &ranking->items[i].id;
        const size_t columns = screen_columns(screen, id->id, id->len);
        widest = columns > widest ? columns : widest;
    }
    for (size_t i = 0; i < ranking->count; i++)
        if (ranking->items[i].title && widest > left / 2)
            return left / 2 > ID_MIN ? left / 2 : ID_MIN;
    return widest < left ? widest : left;
}

static size_t format_score(char out[DECIMAL_FLOAT_MAX + 1], float score)
{
    const size_t len = decimal_format_float(out, score);
    out[len] = '\0';
    return len;
}

static void write_pairs(const struct screen *screen, const struct ranking_item *item)
{
    screen_style(screen, SCREEN_DIM);
    for (size_t i = 0; i < item->pair_count; i++) {
        const struct ranking_pair *const pair = &item->pairs[i];
        fprintf(screen->out, "%*suser code %zu x content code %zu: weight %.3f, similarity %.4g\n",
            RANK_COLUMNS + GAP, "", pair->user_code, pair->content_code, (double)pair->weight,
            (double)pair->similarity);
    }
    if (!item->weights)
        fprintf(screen->out, "%*sthe content has gone meanwhile\n", RANK_COLUMNS + GAP, "");
    screen_style(screen, SCREEN_PLAIN);
}

static void write_items(const struct screen *screen, const struct ranking *ranking, bool explain)
{
    char score[DECIMAL_FLOAT_MAX + 1];
    size_t scores = strlen("score");
    bool titles = false;
    for (size_t i = 0; i < ranking->count; i++) {
        const size_t len = format_score(score, ranking->items[i].score);
        scores = len > scores ? len : scores;
        titles |= ranking->items[i].title != NULL;
    }
    const size_t before = RANK_COLUMNS + GAP + scores + GAP;
    const size_t left = screen->width > before + ID_MIN ? screen->width - before : ID_MIN;
    const size_t ids = id_columns(screen, ranking, left);
    screen_style(screen, SCREEN_BOLD);
    fprintf(screen->out, "%*s%*s%*s", RANK_COLUMNS, "rank", (int)scores + GAP, "score", GAP, "");
    if (titles)
        fprintf(screen->out, "%-*s%*stitle", (int)ids, "id", GAP, "");
    else
        fputs("id", screen->out);
    screen_style(screen, SCREEN_PLAIN);
    fputc('\n', screen->out);
    for (size_t i = 0; i < ranking->count; i++) {
        const struct ranking_item *const item = &ranking->items[i];
        format_score(score, item->score);
        fprintf(screen->out, "%*zu%*s%*s", RANK_COLUMNS, i + 1, (int)scores + GAP, score, GAP, "");
        const size_t used = screen_put(screen, item->id.id, item->id.len, ids);
        if (item->title && left > ids + GAP) {
            fprintf(screen->out, "%*s", (int)(ids - used) + GAP, "");
            screen_put(screen, item->title, item->title_len, left - ids - GAP);
        }
        fputc('\n', screen->out);
        if (explain)
            write_pairs(screen, item);
    }
}

static void write_missing(const struct screen *screen, const struct ranking *ranking)
{
    const size_t listed = ranking->missing_count < MISSING_LISTED ? ranking->missing_count : MISSING_LISTED;
    static const char head[] = "missing: ";
    for (size_t i = 0; i < listed; i++) {
        const struct ranking_missing *const missing = &ranking->missing[i];
        const char *const reason = strcmp(missing->reason, "corrupt") == 0
                                       ? "the stored matrix is damaged (embsum doctor)"
                                       : "not in this generation";
        const size_t reason_len = strlen(reason), beside = sizeof head - 1 + 2 + reason_len;
        fputs(head, screen->out);
        screen_put(screen, missing->id.id, missing->id.len,
            screen->width > beside + ID_MIN ? screen->width - beside : ID_MIN);
        fputs(", ", screen->out);
        screen_put(screen, reason, reason_len, screen->width);
        fputc('\n', screen->out);
    }
    if (listed < ranking->missing_count)
        fprintf(screen->out, "%s%zu more\n", head, ranking->missing_count - listed);
}

static void write_head(const struct screen *screen, const struct ranking *ranking)
{
    const size_t label = strlen("generation  ");
    fprintf(screen->out, "generation  %s\nuser        ", ranking->generation);
    screen_style(screen, SCREEN_BOLD);
    screen_put(
        screen, ranking->user, strlen(ranking->user), screen->width > label ? screen->width - label : ID_MIN);
    screen_style(screen, SCREEN_PLAIN);
    fputc('\n', screen->out);
    const char *const status =
        ranking->user_corrupt   ? "the stored matrix is damaged: ranked as the default user"
        : ranking->user_default ? "unknown: ranked as the default user, who has read nothing"
                                : NULL;
    if (status) {
        fputs("            ", screen->out);
        screen_wrap(screen, status, strlen(status), label, label);
    }
    if (ranking->summary) {
        fputs("interests   ", screen->out);
        screen_wrap(screen, ranking->summary, ranking->summary_len, label, label);
    }
    fputc('\n', screen->out);
}

void ranking_write_table(const struct screen *screen, const struct ranking *ranking, bool explain)
{
    write_head(screen, ranking);
    if (ranking->count)
        write_items(screen, ranking, explain);
    else
        fputs("nothing to rank\n", screen->out);
    if (ranking->missing_count)
        fputc('\n', screen->out);
    write_missing(screen, ranking);
}
