/* How far a score from int8 may be below the one from float32; core/scorer_bound.c has the proof. For core/scorer*.c
 * alone. */
#ifndef EMBSUM_CORE_SCORER_BOUND_H
#define EMBSUM_CORE_SCORER_BOUND_H

#include "core/scorer.h"

/* A user's part of the bound: first with A in one int8, then with what that leaves of A in another. */
enum { SCORER_STAGES = 2 };
struct scorer_stage {
    float alpha, phi; /* of the reach of a row, sqrt((alpha rho)^2 + (phi beta)^2) */
    float crude;      /* times beta: errors that no averaging is known to shrink */
    float spectral;   /* square root of the largest eigenvalue of H */
    float longest;    /* square root of the largest diagonal element of H */
};

/* What the bound needs of a content and a stage. */
struct scorer_reach {
    float y_sum, y_top,
        y_crude; /* of B's rows: sum of the reaches, the largest, crude times the largest beta */
    float z_sum, z_top, z_crude; /* of G's */
};

/* Norms of a content's rows, n of each padded with zeros to this many: rho and beta of B's rows, rho and beta of G's. */
static inline size_t scorer_norms(size_t n)
{
    return (n + 3) / 4 * 4;
}

/* Sums of one pair (user, content) in the letters of core/scorer_bound.c: K, L similarities and logits from int8, p = softmax(L),
 * c = p (K - score) / top; y_j, z_j the reaches of B_j and G_j. */
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

/* What a kernel has to contribute. lanes: m rounded up to whole panels. */
struct scorer_bounder {
    /* products[2n][lanes], K_j and L_j in turn, set or added to; `ahead` is fetched into the cache unless NULL. */
    void (*products)(const struct scorer *rough, float *products, bool add, const void *user,
        const void *content, const char *ahead);
    /* score, top and total of the moments; weights: room for n x lanes floats, aligned to 64. */
    void (*weigh)(const struct scorer *rough, struct scorer_moments *moments, float *weights,
        const float *products, const void *user);
    /* The other moments. y, z: the reaches of B's and G's rows. */
    void (*moments)(const struct scorer *rough, struct scorer_moments *moments, const float *weights,
        const float *products, const float *y, const float *z);
};

/* hi: where A is packed by `rough`; rest: where the rest is; left: room for m x d floats. */
void scorer_bound_user(const struct scorer *rough, struct scorer_stage stages[SCORER_STAGES], void *hi,
    void *rest, float *left, const float *a);

/* norms[4][scorer_norms(n)] of a content that `rough` has packed. */
void scorer_bound_content(
    const struct scorer *rough, float *norms, const void *content, const float *b, const float *gate);

/* y, z [scorer_norms(n)]: the reach of every row. All aligned to 16. */
void scorer_bound_reach(struct scorer_reach *reach, float *y, float *z, const struct scorer_stage *stage,
    const float *norms, size_t n);

/* No score from float32 is larger than this; INFINITY if nothing is known. terms: m x n. */
float scorer_bound_upper(const struct scorer_stage *stage, const struct scorer_reach *reach,
    const struct scorer_moments *moments, size_t terms);

#endif
