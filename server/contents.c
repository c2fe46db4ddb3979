#include "server/contents.h"

#include "core/score.h"
#include "server/worker.h"
#include "store/blob.h"

#include <stdlib.h>
#include <string.h>

/* Contents whose G is computed at a time: enough to amortise reading W_s, little enough to stay in the cache.
 */
enum { CHUNK_BYTES = 16 * 1024 * 1024, GATE_BATCH = 64 };

size_t contents_chunk(const struct live_generation *generation)
{
    const size_t block = 2 * generation->manifest.n * generation->manifest.d * sizeof(float);
    const size_t count = CHUNK_BYTES / block;
    return count ? count : 1;
}

void contents_done(struct contents *contents)
{
    free(contents->blocks);
    free(contents->index);
    free(contents->status);
    free(contents->hashes);
    free(contents->hot);
    free(contents->missed);
    free(contents->missed_index);
    free(contents->gate_in);
    free(contents->gate_out);
    free(contents->gate_scratch);
    *contents = (struct contents){0};
}

/* Buffers grow to the largest request so far and are made anew for other shapes. */
static int make_room(struct contents *contents, size_t count, size_t n, size_t d, struct err *err)
{
    if (count <= contents->room && n == contents->n && d == contents->d)
        return 0;
    contents_done(contents);
    const size_t block = 2 * n * d, batch = GATE_BATCH * n;
    contents->blocks = calloc(count * block, sizeof *contents->blocks);
    contents->index = calloc(count, sizeof *contents->index);
    contents->status = calloc(count, sizeof *contents->status);
    contents->hashes = calloc(count, sizeof *contents->hashes);
    contents->hot = calloc(count, sizeof *contents->hot);
    contents->missed = calloc(count, sizeof *contents->missed);
    contents->missed_index = calloc(count, sizeof *contents->missed_index);
    contents->gate_in = calloc(batch * d, sizeof *contents->gate_in);
    contents->gate_out = calloc(batch * d, sizeof *contents->gate_out);
    contents->gate_scratch = calloc(score_gate_scratch(batch, d), sizeof *contents->gate_scratch);
    if (!contents->blocks || !contents->index || !contents->status || !contents->hashes || !contents->hot ||
        !contents->missed || !contents->missed_index || !contents->gate_in || !contents->gate_out ||
        !contents->gate_scratch) {
        contents_done(contents);
        return err_set(err, ERR_NOMEM, "no memory for %zu candidates", count);
    }
    contents->room = count;
    contents->n = n;
    contents->d = d;
    return 0;
}

/* ---- from hot memory ---- */

/* Copy what is hot; returns the number of those that are not. */
static size_t take_hot(
    struct worker *worker, struct live_generation *generation, const struct store_id *ids, size_t count)
{
    struct contents *contents = &worker->contents;
    const size_t reader = (size_t)(worker - worker->service->workers);
    const size_t block = 2 * contents->n * contents->d;
    size_t missed = 0;
    for (size_t i = 0; i < count; i++)
        contents->hashes[i] = hot_hash(ids[i].id, ids[i].len);
    hot_enter(generation->hot, reader);
    hot_find(generation->hot, reader, ids, contents->hashes, count, contents->hot);
    for (size_t i = 0; i < count; i++) {
        if (!contents->hot[i]) {
            contents->missed[missed] = ids[i];
            contents->missed_index[missed++] = (uint32_t)i;
            contents->status[i] = CONTENT_UNAVAILABLE; /* until the store says more */
            continue;
        }
        memcpy(contents->blocks + contents->count * block, contents->hot[i], block * sizeof(float));
        contents->index[contents->count++] = (uint32_t)i;
        contents->status[i] = CONTENT_HERE;
    }
    hot_leave(generation->hot, reader);
    return missed;
}

/* ---- from the store ---- */

struct fetch {
    struct worker *worker;
    const struct live_generation *generation;
};

/* B goes straight to the first half of its block. */
static int take_value(void *ctx, size_t missed, const void *data, size_t len)
{
    const struct fetch *fetch = ctx;
    struct contents *contents = &fetch->worker->contents;
    const struct store_id *id = &contents->missed[missed];
    const uint32_t index = contents->missed_index[missed];
    if (!data) {
        contents->status[index] = CONTENT_NOT_FOUND;
        return 0;
    }
    const struct blob_spec spec = {
        .kind = BLOB_CONTENT,
        .rows = contents->n,
        .cols = contents->d,
        .generation = fetch->generation->name,
        .id = id->id,
        .id_len = id->len,
    };
    float *block = contents->blocks + contents->count * 2 * contents->n * contents->d;
    const enum blob_reason reason = blob_decode(block, &spec, data, len);
    if (reason != BLOB_OK) {
        worker_note_blob(fetch->worker, "content", id, fetch->generation->name, reason);
        contents->status[index] = CONTENT_CORRUPT;
        return 0;
    }
    contents->index[contents->count++] = index;
    contents->status[index] = CONTENT_HERE;
    return 0;
}

/* G for the blocks from first on: a batch of them is one product with W_s. */
static void add_gates(struct contents *contents, const struct live_generation *generation, size_t first)
{
    const size_t half = contents->n * contents->d;
    for (size_t start = first; start < contents->count; start += GATE_BATCH) {
        const size_t left = contents->count - start, batch = left < GATE_BATCH ? left : GATE_BATCH;
        float *blocks = contents->blocks + start * 2 * half;
        for (size_t i = 0; i < batch; i++)
            memcpy(contents->gate_in + i * half, blocks + i * 2 * half, half * sizeof(float));
        score_gate(contents->gate_out, contents->gate_in, generation->score_proj, batch * contents->n,
            contents->d, contents->gate_scratch);
        for (size_t i = 0; i < batch; i++)
            memcpy(blocks + (2 * i + 1) * half, contents->gate_out + i * half, half * sizeof(float));
    }
}

int contents_gather(struct worker *worker, struct live_generation *generation, const struct store_id *ids,
    size_t count, bool may_evict, struct err *err)
{
    struct contents *contents = &worker->contents;
    const int code = make_room(contents, count, generation->manifest.n, generation->manifest.d, err);
    if (code < 0)
        return code;
    contents->count = 0;
    contents->store_failed = false;
    const size_t missed = take_hot(worker, generation, ids, count), hot = contents->count;
    if (!missed)
        return 0;
    struct fetch fetch = {worker, generation};
    struct err why = ERR_INIT;
    if (store_get(worker->link, generation->name, STORE_CONTENT, contents->missed, missed, take_value, &fetch,
            &why) < 0) {
        contents->store_failed = true;
        worker_note_store(worker, &why);
    }
    add_gates(contents, generation, hot);
    const size_t block = 2 * contents->n * contents->d;
    for (size_t i = hot; i < contents->count; i++) {
        const size_t of = contents->index[i];
        hot_put(generation->hot, &ids[of], contents->hashes[of], contents->blocks + i * block,
            may_evict ? HOT_KEEP : HOT_FILL);
    }
    return 0;
}
