/* One unit of work, from tokens to what is stored. A user's summary is stored before the matrix, whose inputs say that both
 * are up to date; changes are told when all of it is there. */
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/worker_int.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { TIDY_S = 60, AGAIN_MS = 200 };

bool worker_again(struct worker_hands *hands, int result, const struct err *err)
{
    if (result != -ERR_UNAVAILABLE || stop_asked()) {
        hands->waiting = hands->waiting && result == -ERR_UNAVAILABLE;
        return false;
    }
    if (!hands->waiting)
        progress_say(false, "waiting for the store: %s", err->message);
    hands->waiting = true;
    poll(NULL, 0, AGAIN_MS);
    return true;
}

/* What a unit becomes. */
struct product {
    float *out;
    struct encode_user *users;
    int32_t *summaries;
    char **texts;         /* of the users */
    unsigned char *blobs; /* one behind the other */
    size_t blob_size;
    struct store_entry *matrices, *summary_entries;
    struct store_change *changes;
    size_t count; /* entries that are fit */
};

static void product_done(struct product *p, size_t count)
{
    for (size_t i = 0; p->texts && i < count; i++)
        free(p->texts[i]);
    free(p->out);
    free(p->users);
    free(p->summaries);
    free(p->texts);
    free(p->blobs);
    free(p->matrices);
    free(p->summary_entries);
    free(p->changes);
}

static int product_init(
    struct product *p, const struct unit *unit, const struct model_config *config, struct err *err)
{
    const size_t count = unit->count + 1; /* calloc(0) may be NULL */
    const size_t size = unit->head.rows * unit->head.cols;
    *p = (struct product){.blob_size = blob_size(unit->head.dtype, unit->head.rows, unit->head.cols)};
    p->out = calloc(count, size * sizeof *p->out);
    p->users = calloc(count, sizeof *p->users);
    p->summaries = calloc(count, config->max_summary_tokens * sizeof *p->summaries);
    p->texts = calloc(count, sizeof *p->texts);
    p->blobs = calloc(count, p->blob_size);
    p->matrices = calloc(count, sizeof *p->matrices);
    p->summary_entries = calloc(count, sizeof *p->summary_entries);
    p->changes = calloc(count, sizeof *p->changes);
    if (p->out && p->users && p->summaries && p->texts && p->blobs && p->matrices && p->summary_entries &&
        p->changes)
        return 0;
    product_done(p, unit->count);
    return err_set(err, ERR_NOMEM, "out of memory");
}

/* ---- encoding ---- */

static int encode(struct worker_hands *hands, struct product *p, const struct unit *unit, struct err *err)
{
    const struct workspace *w = hands->workspace;
    if (unit->head.kind == BLOB_CONTENT)
        return encode_contents(p->out, hands->encoder, unit->items, unit->count, err);
    for (size_t i = 0; i < unit->count; i++)
        p->users[i] = (struct encode_user){.items = unit->entities[i].items,
            .item_count = unit->entities[i].item_count,
            .summary = p->summaries + i * w->model->config.max_summary_tokens};
    int result = encode_users(p->out, hands->encoder, p->users, unit->count, err);
    for (size_t i = 0; result == 0 && i < unit->count; i++)
        result =
            tokenizer_decode(w->tokenizer, p->users[i].summary, p->users[i].summary_count, &p->texts[i], err);
    return result;
}

static int refuse(struct worker_hands *hands, const struct store_id *id, const char *why, struct err *err)
{
    char *copy = strdup(why);
    if (!copy)
        return err_set(err, ERR_NOMEM, "out of memory");
    hands->refused[hands->refused_count++] = (struct unit_refusal){*id, copy};
    return 0;
}

/* What is fit to be stored becomes entries, the rest is refused. */
static int pack(struct worker_hands *hands, struct product *p, const struct unit *unit, struct err *err)
{
    const struct unit_head *head = &unit->head;
    int result = 0;
    p->count = 0;
    for (size_t i = 0; result == 0 && i < unit->count; i++) {
        const struct unit_entity *entity = &unit->entities[i];
        const struct blob_spec spec = {
            head->kind, head->dtype, head->rows, head->cols, head->generation, entity->id.id, entity->id.len};
        unsigned char *blob = p->blobs + p->count * p->blob_size;
        struct err why = ERR_INIT;
        result = blob_encode(blob, &spec, entity->inputs, p->out + i * head->rows * head->cols, &why);
        if (result == -ERR_INVALID) {
            result = refuse(hands, &entity->id, why.message, err);
            continue;
        }
        p->matrices[p->count] = (struct store_entry){entity->id, blob, p->blob_size};
        p->changes[p->count] = (struct store_change){(enum store_kind)head->kind, entity->id};
        if (p->texts[i])
            p->summary_entries[p->count] = (struct store_entry){entity->id, p->texts[i], strlen(p->texts[i])};
        p->count++;
    }
    return result;
}

/* ---- storing ---- */

/* 0 if there is no row of the generation any more. */
static int is_known(struct store_link *link, const char *generation, struct err *err)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    int known = 0;
    const int result = store_generations(link, &rows, &count, err);
    for (size_t i = 0; result == 0 && i < count; i++)
        known |= strcmp(rows[i].name, generation) == 0;
    free(rows);
    return result < 0 ? result : known;
}

int worker_tidy(struct worker_hands *hands, struct err *err)
{
    if (!*hands->written)
        return 0;
    const int known = is_known(hands->link, hands->written, err);
    if (known < 0)
        return known;
    const int result = known ? 0 : store_drop(hands->link, 0, hands->written, err);
    if (result == 0 && (!known || progress_now() > hands->written_at + TIDY_S))
        *hands->written = '\0';
    return result;
}

static int store(
    struct worker_hands *hands, const struct product *p, const struct unit_head *head, struct err *err)
{
    const enum store_kind kind = (enum store_kind)head->kind;
    const int known = is_known(hands->link, head->generation, err);
    if (known <= 0)
        return known < 0 ? known : err_set(err, ERR_NOT_FOUND, "generation %s is gone", head->generation);
    int result = strcmp(hands->written, head->generation) ? worker_tidy(hands, err) : 0;
    strcpy(hands->written, head->generation);
    hands->written_at = progress_now();
    if (result == 0 && head->kind == BLOB_USER)
        result = store_put(hands->link, head->generation, STORE_SUMMARY, p->summary_entries, p->count, err);
    if (result == 0)
        result = store_put(hands->link, head->generation, kind, p->matrices, p->count, err);
    if (result == 0 && head->told && p->count)
        result = store_changes_append(hands->link, head->generation, p->changes, p->count, err);
    return result == 0 ? worker_tidy(hands, err) : result;
}

/* ---- a unit ---- */

static int begin_refusing(struct worker_hands *hands, const struct unit *unit, struct err *err)
{
    worker_forget_refused(hands);
    hands->refused = calloc(unit->count + 1, sizeof *hands->refused);
    return hands->refused ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

int worker_refuse(struct worker_hands *hands, const struct unit *unit, const char *why, struct err *err)
{
    int result = begin_refusing(hands, unit, err);
    for (size_t i = 0; result == 0 && i < unit->count; i++)
        result = refuse(hands, &unit->entities[i].id, why, err);
    return result;
}

void worker_forget_refused(struct worker_hands *hands)
{
    for (size_t i = 0; i < hands->refused_count; i++)
        free((void *)(uintptr_t)hands->refused[i].why);
    free(hands->refused);
    hands->refused = NULL;
    hands->refused_count = 0;
}

int worker_unit(struct worker_hands *hands, const struct unit *unit, size_t *tokens, struct err *err)
{
    const uint64_t before = encoder_tokens(hands->encoder);
    struct product product;
    /* Of a generation that has been given up nothing is encoded either. */
    const int known = is_known(hands->link, unit->head.generation, err);
    if (known <= 0)
        return known < 0 ? known
                         : err_set(err, ERR_NOT_FOUND, "generation %s is gone", unit->head.generation);
    int result = begin_refusing(hands, unit, err);
    if (result == 0)
        result = product_init(&product, unit, &hands->workspace->model->config, err);
    if (result < 0)
        return result;
    result = encode(hands, &product, unit, err);
    *tokens = (size_t)(encoder_tokens(hands->encoder) - before);
    if (result == 0)
        result = pack(hands, &product, unit, err);
    if (result == 0)
        do
            result = store(hands, &product, &unit->head, err);
        while (worker_again(hands, result, err));
    product_done(&product, unit->count);
    return result;
}
