#include "server/matrices_int.h"
#include "server/worker.h"
#include "store/blob.h"

/* Contents whose G is computed at a time: enough to read W_s but once for many, little enough to stay in the cache. */
enum { GATE_BATCH = 64 };

struct reading {
    struct matrices *matrices;
    struct worker *reader;
    const struct store_id *ids;
    matrices_told_fn *fn;
    void *ctx;
    size_t batch, filled; /* matrices in scratch before they are packed */
    size_t index[GATE_BATCH];
    bool told[MATRICES_BATCH];
};

static size_t floats_of(const struct matrices *matrices)
{
    return matrices->options.rows * matrices->options.cols;
}

static void tell(struct reading *reading, size_t index, enum matrix_status status, const void *block)
{
    reading->told[index] = true;
    reading->fn(reading->ctx, index, status, block);
}

/* Compute what belongs to the matrices in scratch, pack them and hand them on. */
static void flush(struct reading *reading)
{
    const struct matrices_options *options = &reading->matrices->options;
    const struct worker *reader = reading->reader;
    const float *matrices = reader->matrices.at;
    float *gates = reader->gates.at;
    void *block = reader->block.at;
    const size_t floats = floats_of(reading->matrices);
    if (options->kind == STORE_CONTENT && reading->filled)
        scorer_gate(options->scorer, gates, options->proj, matrices, reading->filled * options->rows);
    for (size_t i = 0; i < reading->filled; i++) {
        const float *matrix = matrices + i * floats;
        if (options->kind == STORE_CONTENT)
            scorer_pack_content(options->scorer, block, matrix, gates + i * floats);
        else
            scorer_pack_user(options->scorer, block, matrix);
        tell(reading, reading->index[i], MATRIX_HERE, block);
    }
    reading->filled = 0;
}

static int take_value(void *ctx, size_t index, const void *data, size_t len)
{
    struct reading *reading = ctx;
    const struct matrices_options *options = &reading->matrices->options;
    const struct store_id *id = &reading->ids[index];
    if (!data) {
        tell(reading, index, MATRIX_NOT_FOUND, NULL);
        return 0;
    }
    const struct blob_spec spec = {
        .kind = options->kind == STORE_USER ? BLOB_USER : BLOB_CONTENT,
        .rows = options->rows,
        .cols = options->cols,
        .generation = options->generation,
        .id = id->id,
        .id_len = id->len,
    };
    float *matrix = (float *)reading->reader->matrices.at + reading->filled * floats_of(reading->matrices);
    const enum blob_reason reason = blob_decode(matrix, &spec, data, len);
    if (reason != BLOB_OK) {
        worker_note_blob(reading->reader, options->kind == STORE_USER ? "user" : "content", id,
            options->generation, reason);
        tell(reading, index, MATRIX_CORRUPT, NULL);
        return 0;
    }
    reading->index[reading->filled++] = index;
    if (reading->filled == reading->batch)
        flush(reading);
    return 0;
}

static int make_room(const struct matrices *matrices, struct worker *reader, size_t batch, struct err *err)
{
    const size_t bytes = batch * floats_of(matrices) * sizeof(float);
    if (!buffer_room(&reader->matrices, bytes) || !buffer_room(&reader->block, matrices->block_bytes) ||
        (matrices->options.kind == STORE_CONTENT && !buffer_room(&reader->gates, bytes)))
        return err_set(err, ERR_NOMEM, "no memory to read matrices");
    return 0;
}

void matrices_read(struct matrices *matrices, struct worker *reader, const struct store_id *ids, size_t count,
    matrices_told_fn *fn, void *ctx)
{
    const struct matrices_options *options = &matrices->options;
    struct reading reading = {.matrices = matrices,
        .reader = reader,
        .ids = ids,
        .fn = fn,
        .ctx = ctx,
        .batch = options->kind == STORE_CONTENT ? GATE_BATCH : 1};
    struct err err = ERR_INIT;
    int code = make_room(matrices, reader, reading.batch, &err);
    if (code == 0)
        code = store_get(
            reader->link, options->generation, options->kind, ids, count, take_value, &reading, &err);
    if (code < 0)
        worker_note_store(reader, &err);
    flush(&reading);
    for (size_t i = 0; i < count; i++)
        if (!reading.told[i])
            tell(&reading, i, MATRIX_UNAVAILABLE, NULL);
}
