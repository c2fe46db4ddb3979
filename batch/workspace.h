/* What encode, refresh, train and eval start from: a model, its vocabulary, a catalogue and histories, all in tokens. */
#ifndef EMBSUM_BATCH_WORKSPACE_H
#define EMBSUM_BATCH_WORKSPACE_H

#include "batch/mind.h"
#include "batch/options.h"
#include "core/encode.h"
#include "core/model.h"
#include "core/tokenizer.h"

struct workspace {
    struct model *model;
    struct tokenizer *tokenizer;
    char model_sha256[65];   /* of model.safetensors */
    enum linear_dtype dtype; /* that texts are encoded in */
    uint64_t model_hash;     /* of all that decides what a text becomes: weights, config, vocabulary, dtype */
    struct news news;
    struct histories histories;
    int32_t *ids; /* tokens of all items, one item behind the other */
    size_t *offsets;
};

struct workspace_options {
    const char *model, *news;
    const char *behaviors; /* for the users' newest histories; NULL: none are wanted */
    long max_bad;
    bool quiet;
    enum linear_dtype dtype; /* float32 unless set */
};

/* The row of a command's table for the dtype of workspace_options, by name. */
#define WORKSPACE_DTYPE_OPTION(name)                                                                         \
    {                                                                                                        \
        "dtype", "NAME", "that texts are encoded in: float32 (unless given), bfloat16 or int8", false,       \
            OPTION_TEXT, &(name), 0, 0                                                                       \
    }
/* Take the name, NULL for none; EXIT_USAGE after a message on stderr, else EXIT_DONE. */
int workspace_dtype(struct workspace_options *options, const char *name);

/* Load a model's vocabulary and check that it fits the model. */
int workspace_tokenizer(struct tokenizer **out, const struct model *model, const char *path, struct err *err);

/* A model and its vocabulary alone, for who gets tokens from elsewhere. */
int workspace_open_model(
    struct workspace *workspace, const char *dir, enum linear_dtype dtype, struct err *err);

/* Load, check and tokenise everything. Tells on stderr what it read. */
int workspace_open(struct workspace *workspace, const struct workspace_options *options, struct err *err);
/* The same around a model in memory, which is the workspace's from then on, also at a failure. It has no file, and
 * model_sha256 is empty. */
int workspace_open_around(struct workspace *workspace, struct model *model, const char *vocab,
    const struct workspace_options *options, struct err *err);

/* Put another model in place of the workspace's, under the same terms. ERR_INVALID where it would read texts as other
 * tokens: another vocabulary's size, fields or special tokens. */
int workspace_replace_model(struct workspace *workspace, struct model *model, struct err *err);

void workspace_close(struct workspace *workspace);

/* XXH3-64 of all that the item's, the user's matrix is computed from. */
uint64_t workspace_content_inputs(const struct workspace *w, size_t index);
uint64_t workspace_user_inputs(const struct workspace *w, size_t index);

static inline struct encode_item workspace_item(const struct workspace *w, size_t index)
{
    return (struct encode_item){w->ids + w->offsets[index], w->offsets[index + 1] - w->offsets[index]};
}

#endif
