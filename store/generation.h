/* The life of a generation, on top of store.h: building -> live -> retired, or ready where an operator decides.
 *
 *     struct generation_writer *w;
 *     generation_begin(&w, store, BLOB_F32, &err);         takes the lock, names the generation: building
 *     generation_put_matrix(w, BLOB_USER, ...);            as often as needed
 *     generation_finish(w, &manifest, &err);               writes what is buffered and the manifest
 *     generation_publish(w, &err);                         live, the one before is retired;
 *     or generation_keep(w, &err);                         ready, for an operator to promote
 *     generation_end(w);                                   gives the lock back; drops what is neither
 *
 * A writer keeps its lock alive by itself (a thread with a link of its own renews it). Once the lock has
 * passed to another writer every call returns ERR_FENCED. A writer is used by one thread.
 */
#ifndef EMBSUM_STORE_GENERATION_H
#define EMBSUM_STORE_GENERATION_H

#include "store/blob.h"
#include "store/manifest.h"
#include "store/store.h"

struct generation_writer;

/* Takes the lock (ERR_BUSY if another writer holds it), drops what killed writers left in state building,
 * and starts a new generation named like 20261124T030000Z-9f3c2a1b. */
int generation_begin(
    struct generation_writer **out, struct store *store, enum blob_dtype dtype, struct err *err);
const char *generation_name(const struct generation_writer *writer);

/* Buffer one matrix (rows x cols float32), one text or the contents of one category; buffers are written in bounded chunks. All matrices of a
 * kind have one shape, an id comes once (generation_finish tells), W_s has the empty id. ERR_INVALID for an id, a
 * shape or a value (NaN, Inf, too large for the dtype) that will not do; the writer goes on without it. */
int generation_put_matrix(struct generation_writer *writer, enum blob_kind kind, const char *id,
    size_t id_len, uint64_t inputs, const float *matrix, size_t rows, size_t cols, struct err *err);
int generation_put_summary(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err);
int generation_put_category(struct generation_writer *writer, const char *name, size_t name_len,
    const struct store_id *contents, size_t count, struct err *err);

/* Flush, then write the manifest (users, contents, created, previous and dtype are filled in here; m, n, d
 * and model_sha256 by the caller). ERR_INVALID if W_s was not put or the shapes
 * are not m x d, n x d and d x d; ERR_CORRUPT if the store does not hold as many keys as were put. */
int generation_finish(struct generation_writer *writer, struct manifest *manifest, struct err *err);

/* Make the finished generation live, what was live until now retired. May be repeated. Until then it is building: what a
 * writer that is killed leaves behind at any moment, the next one drops. */
int generation_publish(struct generation_writer *writer, struct err *err);
/* Leave the finished generation ready, for generation_promote. */
int generation_keep(struct generation_writer *writer, struct err *err);

/* Releases the lock and frees the writer; a generation that is neither live nor ready is dropped. NULL is allowed. */
void generation_end(struct generation_writer *writer);

/* ---- single steps for operators; each takes the lock for itself (ERR_BUSY) ---- */

/* Point live at a ready or retired generation. ERR_NOT_FOUND if there is none of the name, ERR_INVALID if it is
 * not complete. */
int generation_promote(struct store *store, const char *name, struct err *err);
/* Point live at the generation that the live one's manifest names as previous. name receives it. ERR_NOT_FOUND
 * if none is live, or none was before, or that one has been dropped. */
int generation_rollback(struct store *store, char name[STORE_GENERATION_MAX], struct err *err);
int generation_drop(struct store *store, const char *name, struct err *err);
/* Drop the oldest retired generations so that at most keep of them stay. */
int generation_prune(struct store *store, size_t keep, struct err *err);

/* Read every matrix and every category of a generation and check it, the counts and W_s. fn (may be NULL) is called for
 * each bad entry with a reason: one of blob_reason_name(), "missing", "id" (a key that is none of ours), "list" (a
 * category's value is no list of ids), "count" (with the empty id: not as many as the manifest says). ERR_CORRUPT if
 * there is any; out is filled then too. */
struct generation_check {
    size_t users, contents, categories, bad, bytes;
};
typedef void generation_bad_fn(void *ctx, enum store_kind kind, const char *id, const char *reason);
int generation_verify(struct generation_check *out, struct store_link *link, const char *name,
    generation_bad_fn *fn, void *ctx, struct err *err);

#endif
