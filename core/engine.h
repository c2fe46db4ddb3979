/* A model's weights packed for inference in a dtype: T5's encoder and the two poly-attentions (EmbSum section 2) on the
 * kernels of core/linear.h and core/attention.h. core/t5.h's t5_encode() is what judges it.
 *
 * What comes out for a sequence depends on its tokens alone, bit for bit: not on the sequences beside it, nor on how
 * many there are. The processor, the kernel and the dtype do matter.
 *
 *     float32    everything in float32.
 *     bfloat16   products of bfloat16 with float32 sums; norms, softmax and the residual in float32.
 *     int8       weights with a scale per output channel, activations with one per token. Attention as in bfloat16.
 *
 * In bfloat16 and int8 the states are rounded to bfloat16 once, as they come out of the encoder, so that states that
 * were kept elsewhere give the same result as fresh ones. The poly-attentions are float32 in every dtype.
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

/* One thread's memory; grows to what its largest call needs. */
struct engine_scratch;
int engine_scratch_new(struct engine_scratch **out, struct err *err);
void engine_scratch_free(struct engine_scratch *scratch); /* NULL is allowed */

/* A sequence of at least one token. Ids lie below vocab_size. */
struct engine_sequence {
    const int32_t *ids;
    size_t count;
    float *states; /* out, count x d: after the final layer norm */
};

int engine_encode(const struct engine *engine, const struct engine_sequence *sequences, size_t count,
    struct engine_scratch *scratch, struct err *err);

/* out (count x k x d) = softmax_rows(C tanh(Z F)^T) Z for `count` matrices Z one behind the other in z: matrix i is the
 * rows offsets[i] .. offsets[i + 1) - 1, at least one. k is m or n. */
enum engine_head { ENGINE_USER, ENGINE_CONTENT, ENGINE_HEADS };
int engine_attend(float *out, const struct engine *engine, enum engine_head head, const float *z,
    const size_t *offsets, size_t count, struct engine_scratch *scratch, struct err *err);

#endif
