/* Calibration for int8: SmoothQuant (Xiao et al., ICML 2023, equations 3 and 4) on the products of T5's encoder.
 *
 * int8 has one scale for a token's activations, so a channel that is far larger than the others leaves these few steps.
 * Dividing channel j by s_j where it is made and multiplying the weights that read it moves that range into the weights,
 * which have a scale per output:
 *
 *     y = (x diag(s)^-1) (diag(s) W^T),   s_j = max|x_j|^a / max|W_j|^(1 - a)
 *
 * What makes x takes the division: the norm before q, k, v and before W_i, the rows of V before O, those of W_i before W_o.
 * s_j is rounded to a power of two, so that float32 and bfloat16 give the same bits as before (short of overflow). For each
 * product the strength a is the one of 1/4, 1/2, 3/4 and 1 that loses least on the given tokens, or none at all.
 */
#ifndef EMBSUM_CORE_T5_SMOOTH_H
#define EMBSUM_CORE_T5_SMOOTH_H

#include "core/model.h"

/* One product of one layer: what int8 takes from it, relative to float32 in the Frobenius norm over all tokens. */
struct t5_smoothed {
    size_t layer;
    const char *name; /* "qkv", "o", "wi", "wo" */
    double strength;  /* 0: left as it was */
    double before, after;
};

/* Change the encoder of a model that is the caller's alone. Sequences as for t5_encode(); a few thousand tokens are enough.
 * told (may be NULL) is called for each product. A failure leaves layers changed that were done, each whole. */
int t5_smooth(struct model *model, const int32_t *ids, const size_t *offsets, size_t count,
    void (*told)(void *ctx, const struct t5_smoothed *product), void *ctx, struct err *err);

#endif
