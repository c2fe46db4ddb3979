/* A ranking as the daemon would give it, made here from a store: the same scores bit for bit, where the daemon scores in
 * float32 (scoring.dtype). For `embsum rank`. */
#ifndef EMBSUM_BATCH_RANKING_H
#define EMBSUM_BATCH_RANKING_H

#include "core/id.h"
#include "store/manifest.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define RANKING_PAIRS 5 /* top pairs of an explanation, as many as the daemon tells */

struct ranking_request {
    const char *user;
    const struct id_map *candidates; /* NULL: the whole catalogue */
    size_t top_k;
    const char *generation; /* NULL: the live one */
    bool explain;
};

struct ranking_pair {
    size_t user_code, content_code;
    float weight, similarity;
};

struct ranking_item {
    struct store_id id;
    float score;
    char *title; /* NULL: the store has none */
    size_t title_len;
    /* Of a request to explain, and NULL where the content has gone meanwhile. */
    double *weights, *similarities; /* m x n each, one behind the other */
    struct ranking_pair pairs[RANKING_PAIRS];
    size_t pair_count;
};

struct ranking_missing {
    size_t index; /* among the candidates */
    struct store_id id;
    const char *reason; /* "not_found", "corrupt" */
};

struct ranking {
    char generation[STORE_GENERATION_MAX];
    struct manifest manifest;
    const char *user;
    bool user_default; /* ranked as the generation's default user */
    bool user_corrupt; /* because the user's own matrix is damaged */
    char *summary;     /* of the user's interests, as it stands in the store; NULL: there is none */
    size_t summary_len;
    struct ranking_item
        *items; /* the best first; ties in the order of the candidates, or of ids in a catalogue */
    size_t count;
    struct ranking_missing *missing; /* in that order, too */
    size_t missing_count;
    bool whole_catalogue;
    /* What the others point into. */
    struct id_map catalogue;
    struct store_id *ids;
    size_t id_count;
};

/* The request's texts must live as long as the ranking. ERR_NOT_FOUND: no such generation, or no such user and no default
 * one; ERR_CORRUPT: the generation, or the user who would be ranked, is damaged. A store that fails on the way fails all of
 * it: who asks from a shell asks again. */
int ranking_make(
    struct ranking *out, struct store_link *link, const struct ranking_request *request, struct err *err);
void ranking_done(struct ranking *ranking);

/* The JSON of /rank (DESIGN 5) with "titles": true, and a newline; ascii: whatever else is escaped. */
void ranking_write_json(FILE *out, const struct ranking *ranking, bool explain, bool ascii);

struct screen;
void ranking_write_table(const struct screen *screen, const struct ranking *ranking, bool explain);

#endif
