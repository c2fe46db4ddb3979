/* How far a score from int8 may be below the one from float32; core/scorer_bound.c has the proof. For core/scorer*.c
 * alone. */
#ifndef EMBSUM_CORE_SCORER_BOUND_H
#define EMBSUM_CORE_SCORER_BOUND_H

#include "core/scorer.h"

#include <stdint.h>

/* What the bound needs of a user: of the rows a_i, and f_i and f'_i that one int8 and two leave of them. */
struct scorer_known {
    float alpha, phi; /* of the reach of a row, sqrt((alpha rho)^2 + (phi beta)^2) */
    float left, last; /* the largest |f_i|, the largest |f'_i| */
    float spectral;   /* square root of the largest eigenvalue of H */
    float longest;    /* square root of the largest diagonal element of H */
};

/* A packed user and content in their parts. A pass is over all rows of A: the first with A in int8, the second with what
 * that leaves of it. sums, left_sums [lanes]: what the shifts and means of a content are multiplied by. */
enum { SCORER_PASSES = 2 };
struct scorer_bound_pass {
    const void *packed;
    const float *sums, *left_sums;
    const struct scorer_known *known;
};
struct scorer_bound_user {
    struct scorer_bound_pass passes[SCORER_PASSES];
    const void *rows[SCORER_PASSES]; /* the same, with units as [lane][step] */
};
struct scorer_bound_content {
    const void *first, *second;
    const float *shifts,
        *means; /* of row r: what was taken off before it was packed, the mean of what was packed */
    const float *norms[2]; /* of B's rows and of G's: rho and beta, scorer_norms(n) of each, then the tops */
};

/* Norms of a row: rho, what int8 leaves of it; beta, what int8 holds without its mean. Of others the bound needs the
 * largest: of rho, of all that int8 holds, of what two int8 leave, of the rounding of a product with a row of length 1. */
enum scorer_top { SCORER_RHO, SCORER_WHOLE, SCORER_FINE, SCORER_ROUNDING, SCORER_TOPS };

/* What the bound needs of a content beside a user. Errors that no averaging is known to shrink are crude; those of refined
 * lanes are all of this kind. */
struct scorer_reach {
    float y_top, y_crude, y_refined; /* of B's rows */
    float z_top, z_crude, z_refined; /* of G's */
};

/* n padded with zeros to this many. */
static inline size_t scorer_norms(size_t n)
{
    return (n + 3) / 4 * 4;
}

/* Floats of shifts, means and norms together, in this order. */
static inline size_t scorer_bound_floats(size_t n)
{
    return 2 * 2 * scorer_norms(n) + 2 * (2 * scorer_norms(n) + SCORER_TOPS);
}

/* Sums of one pair (user, content) in the letters of core/scorer_bound.c: K, L similarities and logits from int8, p = softmax(L),
 * c = p (K - score) / top; y_j, z_j the reaches of B_j and G_j. All but the first four are sums over lanes that are loose. */
struct scorer_moments {
    float score;       /* sum of p K */
    float top;         /* largest |K| */
    float total;       /* sum of the weights before they are divided by it */
    float positive;    /* sum of max(c, 0) */
    float weights_y;   /* sum over j of y_j |p_j| */
    float weights_z;   /* sum over j of z_j |p_j| */
    float spread_z;    /* sum over j of z_j |c_j| */
    float weights_yy;  /* sum over j of y_j^2 max_i p */
    float weights_zz;  /* sum over j of z_j^2 max_i p */
    float positive_zz; /* sum over j of z_j^2 max_i max(c, 0) */
};

enum { SCORER_REFINED = 4 }; /* lanes that are refined together */

/* What a kernel has to contribute. lanes: m rounded up to whole panels. */
struct scorer_bounder {
    /* products[2n][lanes], K_j and L_j in turn, set by the first pass, corrected by the second. Meanwhile the first parts
     * of the content at fetch[0] go into the L1 cache, and of those at fetch[1] and [2] into the L2 cache, unless NULL. */
    void (*products)(const struct scorer *rough, float *products, bool second,
        const struct scorer_bound_pass *pass, const struct scorer_bound_content *content,
        const char *const fetch[3]);
    /* Adds to the products of these lanes those of rows, of a user, with a packed content; n: a multiple of SCORER_PAIRS. */
    void (*refine)(const struct scorer *rough, float *products, const void *rows, const void *content,
        const uint32_t refined[SCORER_REFINED], size_t count);
    /* score, top and total of the moments; weights: room for (n + 1) x lanes floats, aligned to 64: the last row is the sum
     * of the others. */
    void (*weigh)(const struct scorer *rough, struct scorer_moments *moments, float *weights,
        const float *products, const void *user);
    /* The other moments. loose [lanes]: 1, and 0 for lanes that are refined; y, z: the reaches of B's and G's rows. */
    void (*moments)(const struct scorer *rough, struct scorer_moments *moments, const float *weights,
        const float *products, const float *loose, const float *y, const float *z);
};

/* Packs A with `rough` for both passes, and what the bound needs of it. sums: [SCORER_PASSES][2][lanes]; left: room for
 * m x d floats. */
void scorer_bound_pack_user(const struct scorer *rough, struct scorer_known known[SCORER_PASSES], float *sums,
    void *const packed[SCORER_PASSES], void *const rows[SCORER_PASSES], float *left, const float *a);

/* The same of a content. bounds: scorer_bound_floats(n); spare: room for 2n x d floats. */
void scorer_bound_pack_content(const struct scorer *rough, float *bounds, void *first, void *second,
    float *spare, const float *b, const float *gate);

/* y, z [scorer_norms(n)]: the reach of every row. All aligned to 16. */
void scorer_bound_reach(struct scorer_reach *reach, float *y, float *z, const struct scorer_known *known,
    const float *const norms[2], size_t n);

/* No score from float32 is larger than this; INFINITY if nothing is known. terms: m x n; refined: whether any lane is, or
 * there has been a second pass. */
float scorer_bound_upper(const struct scorer_known *known, const struct scorer_reach *reach,
    const struct scorer_moments *moments, size_t terms, bool refined);

#endif
