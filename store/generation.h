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
 * A refresh begins with generation_resume, which goes on with what is there, and asks generation_inputs what is up to
 * date. Inside a live generation every value is replaced as a whole, and the stream of changes says which: an answer
 * may see one user before and another after, never half of either.
 *
 * A writer keeps its lock alive by itself (a thread with a link of its own renews it). Once the lock has
 * passed to another writer every call returns ERR_FENCED. A writer is used by one thread. One that was stopped for longer
 * than its lock lasts, in the midst of a write, may still write what it has in hand, a matrix that was right a while ago:
 * its inputs tell the next refresh, which replaces it.
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

/* Goes on with a generation that was made with the same m, n, d, dtype and settings: by the choice the live one, one that
 * is ready, or else one that a writer of these settings left building. If there is none, begins a new one. What others
 * left building is dropped. Unlike generation_begin's, this writer leaves unfinished work for the next. */
enum generation_choice {
    GENERATION_ANY,   /* live, ready, building */
    GENERATION_APART, /* ready, building: what is live stays as it is */
    GENERATION_ANEW   /* building alone */
};
enum generation_mode { GENERATION_NEW, GENERATION_RESUMED, GENERATION_INSIDE };
int generation_resume(struct generation_writer **out, struct store *store, const struct manifest *plan,
    enum generation_choice choice, struct err *err);
enum generation_mode generation_mode(const struct generation_writer *writer);
/* Inside a generation: what its manifest said when it was taken up. Else what was planned. */
const struct manifest *generation_manifest(const struct generation_writer *writer);
/* The generation that is live beside it, or was when it was taken up; "" if there is none. Inside the live one: itself. */
const char *generation_beside(const struct generation_writer *writer);

/* inputs[i] = what the stored matrix of ids[i] was computed from; 0 where there is none, or another's, or of another
 * shape (rows x cols) or dtype. */
int generation_inputs(struct generation_writer *writer, enum blob_kind kind, const struct store_id *ids,
    size_t count, size_t rows, size_t cols, uint64_t *inputs, struct err *err);

/* Before the first put or delete of a writer that has resumed: so many users and contents there will be at the end, and so
 * many go. Whoever counts meanwhile, with the manifest in hand, finds nothing amiss. */
struct generation_turnover {
    size_t users, users_gone, contents, contents_gone; /* the default user is one of the users */
    bool
        uncounted; /* generation_finish need not count them: of a generation with many keys that takes its time */
};
int generation_expect(
    struct generation_writer *writer, const struct generation_turnover *turnover, struct err *err);

/* Buffer the deletion of a user's matrix and summary, of a content and its title, of the explanations of either, of a
 * category, or of a title or an explanation (of its id in the store) alone. */
int generation_delete(
    struct generation_writer *writer, enum store_kind kind, const char *id, size_t id_len, struct err *err);

/* The next puts, so many of so many bytes with their ids, go to the store in one flush (as far as a buffer holds that much),
 * and so in the right order, whenever the writer is killed. */
int generation_together(struct generation_writer *writer, size_t items, size_t bytes, struct err *err);

/* Write what is buffered, and say so in the stream of changes if others may read it. */
int generation_flush(struct generation_writer *writer, struct err *err);

/* Others write these matrices, and a user's summary before the matrix, and tell the stream of changes if the generation is
 * one that others read (GENERATION_INSIDE); each id is told by the next writer if this one and they do not come to it. All
 * of it must have been written, or given up, before this writer puts or deletes anything again. */
int generation_entrust(
    struct generation_writer *writer, const struct store_change *changes, size_t count, struct err *err);

/* Buffer one matrix (rows x cols float32), one text or the contents of one category; buffers are written in bounded chunks. All matrices of a
 * kind have one shape, an id comes once (generation_finish tells), W_s has the empty id. ERR_INVALID for an id, a
 * shape or a value (NaN, Inf, too large for the dtype) that will not do; the writer goes on without it. */
int generation_put_matrix(struct generation_writer *writer, enum blob_kind kind, const char *id,
    size_t id_len, uint64_t inputs, const float *matrix, size_t rows, size_t cols, struct err *err);
int generation_put_summary(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err);
/* A title is cut at STORE_TITLE_MAX bytes, at a character; ERR_INVALID if nothing is left, or it is no UTF-8. It goes to the store after its content. */
int generation_put_title(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err);
/* What a user's or a content's codes look at, a line of JSON (STORE_WHY); before its matrix, which says that both are up to
 * date. */
int generation_put_why(struct generation_writer *writer, enum blob_kind kind, const char *id, size_t id_len,
    const char *text, size_t len, struct err *err);
int generation_put_category(struct generation_writer *writer, const char *name, size_t name_len,
    const struct store_id *contents, size_t count, struct err *err);

/* Flush, then write the manifest (users, contents, created, previous and dtype are filled in here; m, n, d
 * and model_sha256 by the caller, and settings and refreshed if there are such). A writer that has resumed cannot count
 * by its puts: it was told by generation_expect. ERR_INVALID if W_s was not put or the shapes
 * are not m x d, n x d and d x d; ERR_CORRUPT if the store does not hold as many keys as were put or expected. */
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

/* Read every matrix, category, title and explanation of a generation and check it, the counts and W_s. fn (may be NULL) is called for
 * each bad entry with a reason: one of blob_reason_name(), "missing", "id" (a key that is none of ours), "list" (a
 * category's value is no list of ids), "text" (a title is empty, too long or no UTF-8), "json" (an explanation is none),
 * "count" (with the empty id: not as many as the manifest says). ERR_CORRUPT if
 * there is any; out is filled then too. */
struct generation_check {
    size_t users, contents, categories, titles, explanations, bad, bytes;
};
typedef void generation_bad_fn(void *ctx, enum store_kind kind, const char *id, const char *reason);
int generation_verify(struct generation_check *out, struct store_link *link, const char *name,
    generation_bad_fn *fn, void *ctx, struct err *err);

#endif
