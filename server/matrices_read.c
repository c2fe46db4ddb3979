#include "server/matrices_int.h"
#include "server/worker.h"
#include "store/blob.h"

struct reading {
    struct matrices *matrices;
    struct worker *reader;
    store_next_fn *next;
    matrices_told_fn *fn;
    void *ctx;
    size_t taken,
        come; /* ids that next gave, and of these the ones whose values have come, which they do in order */
    struct store_id ids[MATRICES_AHEAD]; /* of those that were taken last; a ring */
    size_t run, filled; /* how many matrices are packed together, and how many are in scratch for it */
    size_t index[MATRICES_RUN];
};

static size_t floats_of(const struct matrices *matrices)
{
    return matrices->options.rows * matrices->options.cols;
}

/* Compute what belongs to the matrices in scratch, pack them and hand them on. */
static void flush(struct reading *reading)
{
    const struct matrices_options *options = &reading->matrices->options;
    const struct worker *reader = reading->reader;
    const float *matrices = reader->matrices.at;
    float *gates = reader->gates.at;
    const void *blocks[MATRICES_RUN];
    const size_t floats = floats_of(reading->matrices), count = reading->filled;
    if (!count)
        return;
    if (options->kind == STORE_CONTENT)
        scorer_gate(options->scorer, gates, options->proj, matrices, count * options->rows);
    for (size_t i = 0; i < count; i++) {
        void *block = (char *)reader->blocks.at + i * reading->matrices->block_bytes;
        if (options->kind == STORE_CONTENT)
            scorer_pack_content(options->scorer, block, matrices + i * floats, gates + i * floats);
        else
            scorer_pack_user(options->scorer, block, matrices + i * floats);
        blocks[i] = block;
    }
    reading->filled = 0;
    reading->fn(reading->ctx, MATRIX_HERE, reading->index, blocks, count);
}

/* No id stays in scratch until its place in the ring is used again. */
static size_t next_id(void *ctx, struct store_id *ids, size_t most)
{
    struct reading *reading = ctx;
    if (reading->filled && reading->taken - reading->index[0] > MATRICES_AHEAD / 2)
        flush(reading);
    const size_t oldest = reading->filled ? reading->index[0] : reading->come;
    const size_t room = MATRICES_AHEAD - (reading->taken - oldest);
    const size_t count = room ? reading->next(reading->ctx, ids, most < room ? most : room) : 0;
    for (size_t i = 0; i < count; i++)
        reading->ids[reading->taken++ % MATRICES_AHEAD] = ids[i];
    return count;
}

static int take_value(void *ctx, size_t index, const void *data, size_t len)
{
    struct reading *reading = ctx;
    const struct matrices_options *options = &reading->matrices->options;
    const struct store_id *id = &reading->ids[index % MATRICES_AHEAD];
    reading->come = index + 1;
    if (!data) {
        reading->fn(reading->ctx, MATRIX_NOT_FOUND, &index, NULL, 1);
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
        reading->fn(reading->ctx, MATRIX_CORRUPT, &index, NULL, 1);
        return 0;
    }
    reading->index[reading->filled++] = index;
    if (reading->filled == reading->run)
        flush(reading);
    return 0;
}

static int make_room(const struct matrices *matrices, struct worker *reader, size_t run, struct err *err)
{
    const size_t bytes = run * floats_of(matrices) * sizeof(float);
    if (!buffer_room(&reader->matrices, bytes) ||
        !buffer_room(&reader->blocks, run * matrices->block_bytes) ||
        (matrices->options.kind == STORE_CONTENT && !buffer_room(&reader->gates, bytes)))
        return err_set(err, ERR_NOMEM, "no memory to read matrices");
    return 0;
}

bool matrices_read(
    struct matrices *matrices, struct worker *reader, store_next_fn *next, matrices_told_fn *fn, void *ctx)
{
    const struct matrices_options *options = &matrices->options;
    struct reading reading = {.matrices = matrices,
        .reader = reader,
        .next = next,
        .fn = fn,
        .ctx = ctx,
        .run = options->kind == STORE_CONTENT ? MATRICES_RUN : 1};
    struct err err = ERR_INIT;
    int code = make_room(matrices, reader, reading.run, &err);
    if (code == 0)
        code = store_stream(
            reader->link, options->generation, options->kind, next_id, take_value, &reading, &err);
    if (code < 0 || reading.come) /* nothing asked is nothing known */
        worker_note_store(reader, code, &err);
    flush(&reading);
    for (; reading.come < reading.taken; reading.come++)
        fn(ctx, MATRIX_UNAVAILABLE, &reading.come, NULL, 1);
    return code == 0;
}
