/* What encode, refresh, train and eval start from: a model, its vocabulary, a catalogue and histories. Texts become tokens
 * when they are wanted (workspace_tokens), or all at once for those who go over them many times (workspace_tokenise_all). */
#ifndef EMBSUM_BATCH_WORKSPACE_H
#define EMBSUM_BATCH_WORKSPACE_H

#include "batch/mind.h"
#include "batch/options.h"
#include "core/encode.h"
#include "core/model.h"
#include "core/tokenizer.h"

struct token_cache;

struct workspace {
    struct model *model;
    struct tokenizer *tokenizer;
    char model_sha256[65];   /* of model.safetensors */
    enum linear_dtype dtype; /* that texts are encoded in */
    uint64_t model_hash;     /* of all that decides what a text becomes: weights, config, vocabulary, dtype */
    bool explain;            /* what the codes look at is stored beside the matrices */
    struct news news;
    struct histories histories;
    struct token_cache *cache;
    int32_t *ids; /* tokens of all items, one item behind the other; NULL before workspace_tokenise_all() */
    size_t *offsets;
};

struct workspace_options {
    const char *model, *news;
    const char *behaviors; /* for the users' newest histories; NULL: none are wanted */
    struct tsv_options rows;
    const char *
        quarantine; /* a file for the bad rows (batch/quarantine.h), in place of rows.quarantine; NULL: none */
    enum linear_dtype dtype; /* float32 unless set */
    long token_mb;           /* MiB for tokens that were made lately; 0: 64 */
    bool explain;
};

/* The row of a command's table for the dtype of workspace_options, by name. */
#define WORKSPACE_DTYPE_OPTION(name)                                                                         \
    {                                                                                                        \
        "dtype", "NAME", "that texts are encoded in: float32 (unless given), bfloat16 or int8", false,       \
            OPTION_TEXT, &(name), 0, 0                                                                       \
    }
/* Take the name, NULL for none; EXIT_USAGE after a message on stderr, else EXIT_DONE. */
int workspace_dtype(struct workspace_options *options, const char *name);

/* A model's model_sha256, and its model_hash in each dtype, from the bytes of its files. */
int workspace_identify(uint64_t hash[LINEAR_DTYPES], char sha256[65], const char *dir, struct err *err);

/* Load a model's vocabulary and check that it fits the model. */
int workspace_tokenizer(struct tokenizer **out, const struct model *model, const char *path, struct err *err);

/* A model is never overwritten: ERR_INVALID where the folder has one. */
int workspace_no_model(const char *dir, struct err *err);
/* The folder of a model to be, made if it is missing, with a copy of the vocabulary at `vocab`, which travels with the
 * model; model_save() does the rest. */
int workspace_make_dir(const char *dir, const char *vocab, struct err *err);

/* A model and its vocabulary alone, for who gets tokens from elsewhere. */
int workspace_open_model(
    struct workspace *workspace, const char *dir, enum linear_dtype dtype, struct err *err);

/* Load and check everything. Tells on stderr what it read. */
int workspace_open(struct workspace *workspace, const struct workspace_options *options, struct err *err);
/* The same around a model in memory, which is the workspace's from then on, also at a failure; and tokenise everything. It
 * has no file, and model_sha256 is empty. */
int workspace_open_around(struct workspace *workspace, struct model *model, const char *vocab,
    const struct workspace_options *options, struct err *err);

/* Put another model in place of the workspace's, under the same terms. ERR_INVALID where it would read texts as other
 * tokens: another vocabulary's size, fields or special tokens. */
int workspace_replace_model(struct workspace *workspace, struct model *model, struct err *err);

void workspace_close(struct workspace *workspace);

/* ---- tokens ---- */

/* One thread's memory for workspace_tokens(); zeroed at first. */
struct workspace_scratch {
    struct news_text text;
    struct text_scratch joined;
};
void workspace_scratch_done(struct workspace_scratch *scratch);

/* ids (room for text_item_max()) and *count = the tokens of an item, read and made now or found among those that were made
 * lately. Any number of threads, each with a scratch of its own. Fails as news_item() does. */
int workspace_tokens(const struct workspace *workspace, size_t index, int32_t *ids, size_t *count,
    struct workspace_scratch *scratch, struct err *err);

/* Make all items' tokens and keep them, for workspace_item(). Tells on stderr how many, unless quiet. */
int workspace_tokenise_all(struct workspace *workspace, bool quiet, struct err *err);

static inline struct encode_item workspace_item(const struct workspace *w, size_t index)
{
    return (struct encode_item){w->ids + w->offsets[index], w->offsets[index + 1] - w->offsets[index]};
}

/* ---- users ---- */

/* The part of a user's history that the model uses, oldest first, from a session's beginning on. NULL and 0 where there is
 * none, as for the default user, whose index is behind the last user's. */
const uint32_t *workspace_window(const struct workspace *workspace, size_t user, size_t *count);

/* What a generation is made with, as one number: the model, and whether it is explained. So a generation has explanations of
 * all of its matrices or of none, and one that is to have them is filled beside the one that has not. */
uint64_t workspace_settings(const struct workspace *workspace);

/* ---- what a matrix is computed from, as one number, never 0 ----
 *
 * The settings and the texts, by their hashes: no text is read or tokenised for it. A user's is a chain over the window's
 * items, whose sessions its beginning decides. */
uint64_t workspace_content_inputs(const struct workspace *workspace, size_t index);
uint64_t workspace_user_inputs(const struct workspace *workspace, size_t user);

#endif
