/* SentencePiece behind a C face. A tokenizer is immutable: any number of threads may use it at once.
 *
 * The vocabulary file is trusted input: SentencePiece 0.1.97 can be made to corrupt memory by a hostile model
 * file, which is why the manifest of a generation pins the model it was made with.
 */
#ifndef EMBSUM_CORE_TOKENIZER_H
#define EMBSUM_CORE_TOKENIZER_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tokenizer;

int tokenizer_load(struct tokenizer **out, const char *path, struct err *err);
void tokenizer_free(struct tokenizer *tokenizer);

/* Number of pieces; ids are 0 .. pieces - 1. */
size_t tokenizer_pieces(const struct tokenizer *tokenizer);

/* The ids of a text of any bytes, as `spm_encode --output_format=id` gives them: up to max of them in ids.
 * *count is the number that the whole text has, which may be larger than max. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len, int32_t *ids,
    size_t max, size_t *count, struct err *err);

/* The piece of an id as the vocabulary has it, NUL-terminated and valid as long as the tokenizer; U+2581 stands for a space.
 * NULL: no piece has this id. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id);

/* The malloc'ed, NUL-terminated text of ids; ids beyond the pieces are dropped. */
int tokenizer_decode(
    const struct tokenizer *tokenizer, const int32_t *ids, size_t count, char **text, struct err *err);

#ifdef __cplusplus
}
#endif

#endif
