/* The daemon's way from a store to scores, without its memory: matrices are read, packed and scored in runs, and only scores
 * are kept. Explanations read what has come out on top once more. */
#include "batch/ranking.h"

#include "core/array.h"
#include "core/score.h"
#include "core/scorer.h"
#include "store/blob.h"

#include <stdlib.h>
#include <string.h>

#define RUN 16 /* contents that are gated and scored together: W_s is read once for all of them */

struct hit {
    float score;
    size_t index;
};

struct maker {
    struct ranking *ranking;
    struct store_link *link;
    const struct ranking_request *request;
    struct scorer *scorer;
    float *proj, *user_matrix; /* d x d, m x d */
    void *packed_proj, *packed_user;
    float *matrices, *gates; /* RUN x n x d */
    char *blocks;            /* RUN packed contents */
    size_t index[RUN], filled;
    struct hit *hits;
    size_t hit_count, hit_size, missing_size;
    struct ranking_item *explained; /* while explaining: the items whose contents are read */
    struct err *err;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory");
}

/* ---- the generation's own matrices, and the user's ---- */

struct reading {
    struct blob_spec spec;
    const struct store_id *ids;
    float *matrices; /* of each id */
    bool found[2];
    enum blob_reason reason[2];
};

static int take_matrix(void *ctx, size_t index, const void *data, size_t len)
{
    struct reading *const reading = ctx;
    struct blob_spec spec = reading->spec;
    spec.id = reading->ids[index].id;
    spec.id_len = reading->ids[index].len;
    reading->found[index] = data != NULL;
    if (data)
        reading->reason[index] =
            blob_decode(reading->matrices + index * spec.rows * spec.cols, &spec, data, len);
    return 0;
}

static int read_proj(struct maker *maker)
{
    const struct ranking *const ranking = maker->ranking;
    const size_t d = ranking->manifest.d;
    const struct store_id id = {"", 0};
    struct reading reading = {.spec = {BLOB_SCORE_PROJ, BLOB_F32, d, d, ranking->generation, "", 0},
        .ids = &id,
        .matrices = maker->proj};
    const int rc = store_get(
        maker->link, ranking->generation, STORE_SCORE_PROJ, &id, 1, take_matrix, &reading, maker->err);
    if (rc < 0)
        return rc;
    if (!reading.found[0] || reading.reason[0] != BLOB_OK)
        return err_set(maker->err, ERR_CORRUPT, "generation %s: W_s is %s%s", ranking->generation,
            reading.found[0] ? "damaged: " : "missing",
            reading.found[0] ? blob_reason_name(reading.reason[0]) : "");
    scorer_pack_proj(maker->scorer, maker->packed_proj, maker->proj);
    return 0;
}

/* The user's matrix, or the default user's in its place. */
static int choose_user(struct maker *maker, const struct reading *reading)
{
    struct ranking *const ranking = maker->ranking;
    const size_t floats = reading->spec.rows * reading->spec.cols;
    ranking->user_default = !reading->found[0] || reading->reason[0] != BLOB_OK;
    ranking->user_corrupt = reading->found[0] && ranking->user_default;
    if (ranking->user_default && reading->found[1] && reading->reason[1] != BLOB_OK)
        return err_set(maker->err, ERR_CORRUPT, "generation %s: the default user is damaged: %s",
            ranking->generation, blob_reason_name(reading->reason[1]));
    if (ranking->user_corrupt && !reading->found[1])
        return err_set(maker->err, ERR_CORRUPT,
            "the user could not be read: the stored matrix is damaged: %s",
            blob_reason_name(reading->reason[0]));
    if (ranking->user_default && !reading->found[1])
        return err_set(maker->err, ERR_NOT_FOUND, "no such user is in generation %s, and no default user",
            ranking->generation);
    maker->user_matrix = reading->matrices + (ranking->user_default ? floats : 0);
    scorer_pack_user(maker->scorer, maker->packed_user, maker->user_matrix);
    return 0;
}

static int keep_text(char **text, size_t *text_len, const void *data, size_t len)
{
    if (!data)
        return 0;
    *text = malloc(len + 1);
    if (!*text)
        return -ERR_NOMEM;
    memcpy(*text, data, len);
    (*text)[len] = '\0';
    *text_len = len;
    return 0;
}

static int take_summary(void *ctx, size_t index, const void *data, size_t len)
{
    struct ranking *const ranking = ctx;
    (void)index;
    return keep_text(&ranking->summary, &ranking->summary_len, data, len);
}

/* matrices: room for two users. */
static int read_user(struct maker *maker, float *matrices)
{
    struct ranking *const ranking = maker->ranking;
    const struct manifest *const manifest = &ranking->manifest;
    const struct store_id ids[2] = {{ranking->user, strlen(ranking->user)}, {"", 0}};
    struct reading reading = {
        .spec = {BLOB_USER, BLOB_F32, manifest->m, manifest->d, ranking->generation, "", 0},
        .ids = ids,
        .matrices = matrices};
    int rc =
        store_get(maker->link, ranking->generation, STORE_USER, ids, 2, take_matrix, &reading, maker->err);
    if (rc == 0)
        rc = choose_user(maker, &reading);
    if (rc == 0 && !ranking->user_default)
        rc = store_get(
            maker->link, ranking->generation, STORE_SUMMARY, ids, 1, take_summary, ranking, maker->err);
    return rc;
}

/* ---- contents ---- */

static int add_missing(struct maker *maker, size_t index, const char *reason)
{
    struct ranking *const ranking = maker->ranking;
    const int rc = array_grow(&ranking->missing, &maker->missing_size, ranking->missing_count + 1,
        sizeof *ranking->missing, maker->err);
    if (rc == 0)
        ranking->missing[ranking->missing_count++] =
            (struct ranking_missing){index, ranking->ids[index], reason};
    return rc;
}

/* The pairs that weigh most; among equals the first. */
static void choose_pairs(struct ranking_item *item, size_t m, size_t n)
{
    for (item->pair_count = 0; item->pair_count < RANKING_PAIRS && item->pair_count < m * n;
         item->pair_count++) {
        size_t best = m * n;
        for (size_t i = 0; i < m * n; i++) {
            bool taken = false;
            for (size_t p = 0; p < item->pair_count; p++)
                taken |= item->pairs[p].user_code * n + item->pairs[p].content_code == i;
            if (!taken && (best == m * n || (float)item->weights[i] > (float)item->weights[best]))
                best = i;
        }
        item->pairs[item->pair_count] = (struct ranking_pair){
            best / n, best % n, (float)item->weights[best], (float)item->similarities[best]};
    }
}

/* float32 is packed as it is: what the daemon unpacks is what has been read. */
static int explain(struct maker *maker, struct ranking_item *item, size_t slot)
{
    const struct manifest *const manifest = &maker->ranking->manifest;
    const size_t m = manifest->m, n = manifest->n, d = manifest->d;
    item->weights = calloc(2 * m, n * sizeof *item->weights);
    if (!item->weights)
        return no_memory(maker->err);
    item->similarities = item->weights + m * n;
    score_plain(item->weights, item->similarities, maker->user_matrix, maker->matrices + slot * n * d,
        maker->gates + slot * n * d, m, n, d);
    choose_pairs(item, m, n);
    return 0;
}

/* Score, or explain, what has been read. */
static int flush(struct maker *maker)
{
    const struct manifest *const manifest = &maker->ranking->manifest;
    const size_t floats = manifest->n * manifest->d, bytes = scorer_content_bytes(maker->scorer);
    const void *blocks[RUN];
    float scores[RUN];
    const size_t count = maker->filled;
    if (!count)
        return 0;
    scorer_gate(maker->scorer, maker->gates, maker->packed_proj, maker->matrices, count * manifest->n);
    maker->filled = 0;
    int rc = 0;
    for (size_t i = 0; maker->explained && rc == 0 && i < count; i++)
        rc = explain(maker, &maker->explained[maker->index[i]], i);
    if (maker->explained)
        return rc;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = maker->blocks + i * bytes;
        scorer_pack_content(maker->scorer, maker->blocks + i * bytes, maker->matrices + i * floats,
            maker->gates + i * floats);
    }
    const void *const user = maker->packed_user;
    scorer_run(maker->scorer, scores, &user, 1, blocks, count);
    rc =
        array_grow(&maker->hits, &maker->hit_size, maker->hit_count + count, sizeof *maker->hits, maker->err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        maker->hits[maker->hit_count++] = (struct hit){scores[i], maker->index[i]};
    return rc;
}

static int take_content(void *ctx, size_t index, const void *data, size_t len)
{
    struct maker *const maker = ctx;
    const struct ranking *const ranking = maker->ranking;
    const struct manifest *const manifest = &ranking->manifest;
    const struct store_id *const id = maker->explained ? &maker->explained[index].id : &ranking->ids[index];
    const struct blob_spec spec = {
        BLOB_CONTENT, BLOB_F32, manifest->n, manifest->d, ranking->generation, id->id, id->len};
    float *const matrix = maker->matrices + maker->filled * manifest->n * manifest->d;
    const bool good = data && blob_decode(matrix, &spec, data, len) == BLOB_OK;
    if (!good)
        return maker->explained ? 0 : add_missing(maker, index, data ? "corrupt" : "not_found");
    maker->index[maker->filled++] = index;
    return maker->filled == RUN ? flush(maker) : 0;
}

static int compare_hits(const void *a, const void *b)
{
    const struct hit *const x = a, *const y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static int compare_missing(const void *a, const void *b)
{
    const struct ranking_missing *const x = a, *const y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static int score_contents(struct maker *maker)
{
    struct ranking *const ranking = maker->ranking;
    int rc = store_get(maker->link, ranking->generation, STORE_CONTENT, ranking->ids, ranking->id_count,
        take_content, maker, maker->err);
    if (rc == 0)
        rc = flush(maker);
    if (rc < 0)
        return rc;
    if (maker->hit_count)
        qsort(maker->hits, maker->hit_count, sizeof *maker->hits, compare_hits);
    if (ranking->missing_count)
        qsort(ranking->missing, ranking->missing_count, sizeof *ranking->missing, compare_missing);
    const size_t count = maker->hit_count < maker->request->top_k ? maker->hit_count : maker->request->top_k;
    ranking->items = calloc(count + 1, sizeof *ranking->items);
    if (!ranking->items)
        return no_memory(maker->err);
    ranking->count = count;
    for (size_t i = 0; i < count; i++) {
        ranking->items[i].id = ranking->ids[maker->hits[i].index];
        ranking->items[i].score = maker->hits[i].score;
    }
    return 0;
}

/* ---- what is told of the best ---- */

static int take_title(void *ctx, size_t index, const void *data, size_t len)
{
    struct ranking *const ranking = ctx;
    return keep_text(&ranking->items[index].title, &ranking->items[index].title_len, data, len);
}

/* The one place that knows where titles are. */
static int read_titles(struct maker *maker, const struct store_id *ids)
{
    return store_get(maker->link, maker->ranking->generation, STORE_TITLE, ids, maker->ranking->count,
        take_title, maker->ranking, maker->err);
}

static int describe(struct maker *maker)
{
    struct ranking *const ranking = maker->ranking;
    struct store_id *const ids = calloc(ranking->count + 1, sizeof *ids);
    if (!ids)
        return no_memory(maker->err);
    for (size_t i = 0; i < ranking->count; i++)
        ids[i] = ranking->items[i].id;
    int rc = read_titles(maker, ids);
    if (rc == 0 && maker->request->explain) {
        maker->explained = ranking->items;
        rc = store_get(maker->link, ranking->generation, STORE_CONTENT, ids, ranking->count, take_content,
            maker, maker->err);
        if (rc == 0)
            rc = flush(maker);
    }
    free(ids);
    return rc;
}

/* ---- candidates ---- */

static int compare_ids(const void *a, const void *b)
{
    const struct store_id *const x = a, *const y = b;
    const int order = memcmp(x->id, y->id, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int add_id(void *ctx, const char *id, size_t len)
{
    if (store_id_check(STORE_CONTENT, id, len, NULL) < 0)
        return 0; /* a key that nobody could ask for */
    const ptrdiff_t index = id_map_add(ctx, id, len, NULL);
    return index < 0 ? (int)index : 0;
}

static int list_candidates(struct maker *maker)
{
    struct ranking *const ranking = maker->ranking;
    const struct id_map *map = maker->request->candidates;
    if (!map) {
        const int rc = store_scan(
            maker->link, ranking->generation, STORE_CONTENT, add_id, &ranking->catalogue, maker->err);
        if (rc < 0)
            return rc == -ERR_NOMEM ? no_memory(maker->err) : rc;
        map = &ranking->catalogue;
        ranking->whole_catalogue = true;
    }
    ranking->ids = calloc(map->count + 1, sizeof *ranking->ids);
    if (!ranking->ids)
        return no_memory(maker->err);
    for (size_t i = 0; i < map->count; i++)
        ranking->ids[i] = (struct store_id){id_map_get(map, i), map->length[i]};
    ranking->id_count = map->count;
    if (ranking->whole_catalogue && map->count) /* the daemon's order, so that ties are the same */
        qsort(ranking->ids, map->count, sizeof *ranking->ids, compare_ids);
    return 0;
}

/* ---- all of it ---- */

static int open_generation(struct maker *maker)
{
    struct ranking *const ranking = maker->ranking;
    const char *const name = maker->request->generation;
    int rc = 0;
    if (name) {
        if (strlen(name) >= sizeof ranking->generation)
            return err_set(maker->err, ERR_INVALID, "a generation's name has at most %zu bytes",
                sizeof ranking->generation - 1);
        memcpy(ranking->generation, name, strlen(name) + 1);
    } else {
        rc = store_live(maker->link, ranking->generation, maker->err);
    }
    if (rc == 0)
        rc = manifest_get(&ranking->manifest, maker->link, ranking->generation, maker->err);
    return rc;
}

/* Shapes are the manifest's, which came out of a store: no product may overflow. */
static int make_room(struct maker *maker, float **users)
{
    const struct manifest *const manifest = &maker->ranking->manifest;
    const size_t m = manifest->m, n = manifest->n, d = manifest->d; /* scorer_new() has held them to 65536 */
    int rc = scorer_new(&maker->scorer, SCORER_F32, NULL, m, n, d, maker->err);
    if (rc < 0)
        return rc;
    maker->proj = array_floats(d * d, false);
    *users = array_floats(2 * m * d, false);
    maker->matrices = array_floats(RUN * n * d, false);
    maker->gates = array_floats(RUN * n * d, false);
    maker->packed_proj = aligned_alloc(64, (scorer_proj_bytes(maker->scorer) + 63) / 64 * 64);
    maker->packed_user = aligned_alloc(64, (scorer_user_bytes(maker->scorer) + 63) / 64 * 64);
    maker->blocks = aligned_alloc(64, (RUN * scorer_content_bytes(maker->scorer) + 63) / 64 * 64);
    return maker->proj && *users && maker->matrices && maker->gates && maker->packed_proj &&
                   maker->packed_user && maker->blocks
               ? 0
               : no_memory(maker->err);
}

int ranking_make(
    struct ranking *out, struct store_link *link, const struct ranking_request *request, struct err *err)
{
    struct ranking ranking = {.user = request->user};
    struct maker maker = {.ranking = &ranking, .link = link, .request = request, .err = err};
    float *users = NULL;
    int rc = open_generation(&maker);
    if (rc == 0)
        rc = make_room(&maker, &users);
    if (rc == 0)
        rc = read_proj(&maker);
    if (rc == 0)
        rc = read_user(&maker, users);
    if (rc == 0)
        rc = list_candidates(&maker);
    if (rc == 0)
        rc = score_contents(&maker);
    if (rc == 0)
        rc = describe(&maker);
    scorer_free(maker.scorer);
    free(maker.proj);
    free(users);
    free(maker.packed_proj);
    free(maker.packed_user);
    free(maker.matrices);
    free(maker.gates);
    free(maker.blocks);
    free(maker.hits);
    if (rc < 0) {
        ranking_done(&ranking);
        return rc == -ERR_NOMEM ? no_memory(err) : rc;
    }
    *out = ranking;
    return 0;
}

void ranking_done(struct ranking *ranking)
{
    for (size_t i = 0; i < ranking->count; i++) {
        free(ranking->items[i].title);
        free(ranking->items[i].weights);
    }
    free(ranking->items);
    free(ranking->missing);
    free(ranking->summary);
    free(ranking->ids);
    id_map_done(&ranking->catalogue);
}
