/* A model's weights packed for inference in a dtype: T5's encoder and decoder and the two poly-attentions (EmbSum
 * section 2) on the kernels of core/linear.h, core/attention.h and core/cross.h. core/t5.h's t5_encode() and
 * core/t5_train.h's t5_decode_forward() are what judges it.
 *
 * What comes out for a sequence depends on its tokens alone, bit for bit, and a summary on its states: not on those
 * beside them, nor on how many there are. The processor, the kernel and the dtype do matter.
 *
 *     float32    everything in float32.
 *     bfloat16   products of bfloat16 with float32 sums; norms, softmax and the residual in float32.
 *     int8       weights with a scale per output channel, activations with one per token. Attention as in bfloat16.
 *
 * In bfloat16 and int8 the states are rounded to bfloat16 once, as they come out of the encoder, so that states that
 * were kept elsewhere give the same result as fresh ones. The poly-attentions are float32 in every dtype; the decoder of
 * int8 is bfloat16's.
 *
 * An engine does not change once it is made: any number of threads may use it, each with a scratch of its own. The model
 * must live as long. */
#ifndef EMBSUM_CORE_ENGINE_H
#define EMBSUM_CORE_ENGINE_H

#include "core/linear.h"
#include "core/model.h"

struct engine;

/* kernel: NULL takes the fastest for each part, else a name of linear_kernel_name() that runs for the dtype; what it
 * does not know is left to the fastest that does. ERR_INVALID for a name that is none. */
int engine_new(struct engine **out, const struct model *model, enum linear_dtype dtype, const char *kernel,
    struct err *err);
void engine_free(struct engine *engine); /* NULL is allowed */

const struct model *engine_model(const struct engine *engine);
enum linear_dtype engine_dtype(const struct engine *engine);
const char *engine_kernel(const struct engine *engine); /* of the products */
size_t engine_state_bytes(
    const struct engine *engine); /* of one number of a state: 4, or 2 where it is a bfloat16 */

/* One thread's memory, for one engine; grows to what its largest call needs. */
struct engine_scratch;
int engine_scratch_new(struct engine_scratch **out, struct err *err);
void engine_scratch_free(struct engine_scratch *scratch); /* NULL is allowed */

/* A sequence of at least one token. Ids lie below vocab_size. */
struct engine_sequence {
    const int32_t *ids;
    size_t count;
    float *states;    /* out, count x d: after the final layer norm; or NULL */
    uint16_t *halves; /* the same as bfloat16, exact where engine_state_bytes() is 2; or NULL */
};

int engine_encode(const struct engine *engine, const struct engine_sequence *sequences, size_t count,
    struct engine_scratch *scratch, struct err *err);

/* What the decoder reads for one user, and what it writes. */
struct engine_summary {
    const void *states; /* the encoder's of all sessions, oldest first: numbers of engine_state_bytes() */
    size_t state_count; /* at least one */
    int32_t *tokens;    /* out: the generated ids without </s>, room for max_summary_tokens */
    size_t token_count; /* out */
    float *z;           /* out, d: the state that predicts </s> (DESIGN, "Summary state") */
};

/* Greedy generation for any number of users: some are in flight at a time, and one that has finished makes room for the
 * next, so that memory does not grow with their number. Among tokens that are as likely the first is taken. Not for a
 * model without a decoder (ABLATION_NO_LSUM). */
int engine_generate(const struct engine *engine, struct engine_summary *users, size_t count,
    struct engine_scratch *scratch, struct err *err);

/* out (count x k x d) = softmax_rows(C tanh(Z F)^T) Z for `count` matrices Z one behind the other in z: matrix i is the
 * rows offsets[i] .. offsets[i + 1) - 1, at least one. k is m or n. weights (NULL: not wanted) = the softmax itself, of
 * matrix i its k rows of as many numbers as the matrix has rows, from weights + k offsets[i] on. */
enum engine_head { ENGINE_USER, ENGINE_CONTENT, ENGINE_HEADS };
int engine_attend(float *out, float *weights, const struct engine *engine, enum engine_head head,
    const float *z, const size_t *offsets, size_t count, struct engine_scratch *scratch, struct err *err);

#endif
