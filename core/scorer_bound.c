/* How far the float32 kernel's score may be above what int8 knows of it.
 *
 * Rows a_i of A (i < m), b_j of B and g_j of G (j < n). Int8 knows a = A_i + f_i, b = B_j + e_j, g = G_j + o_j, where
 * capitals are what is packed and f, e, o are residuals whose norms are known. Its products, as computed, are
 * K_ij ~ A_i B_j and L_ij ~ A_i G_j. The float32 kernel's are K + E and L + D with
 *
 *     E_ij = a_i e_j + f_i B_j + rounding,   D_ij = a_i o_j + f_i G_j + rounding.                           (1)
 *
 * Its score, but for the rounding of the softmax itself, is S = sum q (K + E) / sum q, q = p exp(D), p = softmax(L).
 * Take any number s (the int8 score as computed) and k = K - s, and shift D by t = sum p D, which changes nothing:
 *
 *     S - s = N / Z,   Z = sum p exp(D - t) >= 1, as exp(x) >= 1 + x,
 *     N = sum p exp(D - t) (k + E)
 *       = sum p E + sum p k D                                                                      (first order)
 *         + sum p (exp(D - t) - 1) E                                                              (second order)
 *         + sum p k r(D - t)                                                                       (third order)
 *         + (1 - t) sum p k,                          r(x) = exp(x) - 1 - x >= 0.
 *
 * So S - s <= max(N, 0). With |D - t| <= x < 2: |exp(D - t) - 1| <= |D - t| / (1 - x / 2) and
 * r(D - t) <= (D - t)^2 / 2 / (1 - x / 3), by the series term by term.
 *
 * The plain inequality |a_i e_j| <= |a_i| |e_j| would make E as large as the scores' spread. But p takes means over i,
 * and a sum over i of c_i a_i, c_i f_i is much shorter than the largest of its terms. For any c_1 .. c_m and
 *
 *     H = A A^T / alpha^2 + F F^T / phi^2   (rows a_i; rows f_i; alpha, phi any numbers of their size),
 *     y_j = sqrt(alpha^2 |e_j|^2 + phi^2 |B_j|^2), the reach of row j; z_j the same of g_j:
 *
 *     |sum_i c_i (a_i e_j + f_i B_j)| <= sqrt(c^T H c) y_j <= sqrt(lambda) |c| y_j                               (2)
 *     sum_i w_i (a_i e_j + f_i B_j)^2 <= lambda max(w) y_j^2 for w >= 0                                        (3)
 *
 * by Cauchy and Schwarz on (A^T c / alpha, F^T c / phi) and (alpha e_j, phi B_j); lambda is H's largest eigenvalue.
 * (3): with X the m rows (a_i / alpha, f_i / phi) and W = diag(w) it is |W^1/2 X v|^2 <= max(w) lambda |v|^2. Where the
 * rows are all alike, lambda is m and the largest diagonal element h of H is better: |...| <= sqrt(h) y_j sum |c|, and
 * sum w (...)^2 <= h y_j^2 sum w.
 *
 *     first order    (2) with c = p for E, and with c = p k for D
 *     second order   sum p |D - t| |E| <= sqrt(sum p D^2) sqrt(sum p E^2), and (3) with w = p
 *     third order    only where k > 0: (3) with w = p max(k, 0), and |t| beside D
 *     |t|            (2) with c = p;      x = sqrt(h) max z_j + |t|
 *
 * The second stage knows A better: F is what two int8 leave of it. H is then A A^T / alpha^2, y_j = alpha |e_j|, and
 * f_i B_j, some hundred times smaller than before, is bounded like rounding: by phi |B_j|.
 *
 * Rounding. u = 2^-24. Products of d terms in any order, with or without FMA: at most (d + 2) u (1 + o(1)) |a_i| |b_j|
 * off in the float32 kernel; in int8, where the integers are exact, six roundings of K or L. (d + 16) 1.1u beta_j
 * times the longest a_i and f_i together covers both, beta_j being the larger of |b_j| and |B_j|. Weights: an exponent within
 * u 86 in all, its function within 4u, and 6u for each of T merges of tiles, of 8 rows and 2 pairs or more, T <= (m / 8 + 1)
 * (n / 2 + 1); sums of m n terms in any order, above and below. That is at most 2 (100 + 6 T) + 2 m n <= 256 + 12 m n
 * of u, in short omega, of the largest similarity. The same omega covers the sums that are made
 * here, whose terms are all positive: as a factor 1 + 2 omega. Weights below exp(-86) and numbers below 2^-126 vanish
 * in a rounding or in TINY. Rounded norms are rounded up.
 *
 * Where something is not finite, or too far from 1 for this arithmetic, the bound is INFINITY. */
#include "core/scorer_bound.h"

#include "core/scorer_int.h"

#include <math.h>
#include <string.h>

static const double UNIT = 0x1p-24, UP = 1 + 0x1p-18; /* UP: rounds a norm up, and more */
static const float TINY = 1e-18F, HUGE_REACH = 1e9F, HUGE_TOP = 1e12F;

/* ---- norms ---- */

/* Number k of a row of int8. bias: what was added to it. */
static double packed(const uint32_t *units, size_t stride, size_t k, unsigned bias)
{
    return (double)(int8_t)((units[k / 4 * stride] >> 8 * (k % 4)) - bias);
}

/* A norm for the arithmetic here, from its square. */
static float norm_up(double square)
{
    const double norm = sqrt(square) * UP;
    return norm < (double)HUGE_TOP ? (float)norm : INFINITY;
}

void scorer_bound_content(
    const struct scorer *rough, float *norms, const void *content, const float *b, const float *gate)
{
    const float *scales = scorer_row_scales(rough, content);
    const size_t d = rough->d, padded = scorer_norms(rough->n);
    memset(norms, 0, 4 * padded * sizeof *norms);
    for (size_t r = 0; r < 2 * rough->n; r++) {
        size_t stride;
        const uint32_t *units = (const uint32_t *)content + scorer_row(rough, r, &stride);
        const float *row = (r % 2 ? gate : b) + r / 2 * d;
        double left = 0, whole = 0, known = 0;
        for (size_t k = 0; k < d; k++) {
            const double x = (double)row[k], q = (double)scales[r] * packed(units, stride, k, SCORER_BIAS);
            left += (x - q) * (x - q);
            whole += x * x;
            known += q * q;
        }
        float *at = norms + r % 2 * 2 * padded + r / 2;
        at[0] = norm_up(left);
        at[padded] = norm_up(whole > known || isnan(whole) ? whole : known);
    }
}

/* left = a - what int8 knows of it. Returns the largest norm of a row of a. */
static float user_left(const struct scorer *rough, float *left, const void *hi, const float *a)
{
    const struct scorer_lanes *constants = scorer_user_lanes(rough, hi);
    double longest = 0;
    for (size_t i = 0; i < rough->m; i++) {
        const uint32_t *units = (const uint32_t *)hi + scorer_lane(rough->steps, i);
        const double scale = (double)constants[i / SCORER_LANES].scale[i % SCORER_LANES];
        double square = 0;
        for (size_t k = 0; k < rough->d; k++) {
            const double x = (double)a[i * rough->d + k];
            left[i * rough->d + k] = (float)(x - scale * packed(units, SCORER_LANES, k, 0));
            square += x * x;
        }
        if (!(square <= longest))
            longest = square;
        if (isnan(square))
            return INFINITY;
    }
    return norm_up(longest);
}

/* ---- H ---- */

/* What is squared at a time. H's largest eigenvalue is at most the sum of those of its diagonal blocks. */
enum { BLOCK = 64, SQUARINGS = 7 };

static float dot(const float *x, const float *y, size_t d)
{
    enum { SUMS = 16 };
    float sums[SUMS] = {0}, total = 0;
    size_t k = 0;
    for (; k + SUMS <= d; k += SUMS)
        for (size_t i = 0; i < SUMS; i++)
            sums[i] += x[k + i] * y[k + i];
    for (; k < d; k++)
        total += x[k] * y[k];
    for (size_t i = 0; i < SUMS; i++)
        total += sums[i];
    return total;
}

/* h += the products of `count` rows, divided by scale^2. */
static void gram_add(float h[BLOCK][BLOCK], const float *rows, size_t count, size_t d, float scale)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k <= i; k++) {
            h[i][k] += dot(rows + i * d, rows + k * d, d) / scale / scale;
            h[k][i] = h[i][k];
        }
    }
}

/* Divides by the trace, which is returned. */
static double trace_out(float h[BLOCK][BLOCK], size_t count)
{
    double trace = 0;
    for (size_t i = 0; i < count; i++)
        trace += (double)h[i][i];
    const float inverse = (float)(1 / trace);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            h[i][k] *= inverse;
    return trace;
}

/* Not less than the largest eigenvalue: trace(H^128)^(1/128). h is lost. */
static double eigenvalue(float h[BLOCK][BLOCK], size_t count)
{
    float square[BLOCK][BLOCK];
    double bound = trace_out(h, count), power = 1;
    for (int s = 0; s < SQUARINGS; s++) {
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < count; k++)
                square[i][k] = 0;
            for (size_t l = 0; l < count; l++)
                for (size_t k = 0; k < count; k++)
                    square[i][k] += h[i][l] * h[l][k];
        }
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < count; k++)
                h[i][k] = square[i][k];
        power /= 2;
        bound *= pow(trace_out(h, count), power);
    }
    return bound;
}

/* spectral and longest of a stage; left: NULL for the second one. */
static void spectrum(
    struct scorer_stage *stage, const float *a, const float *left, size_t m, size_t d, float alpha, float phi)
{
    /* Roundings of the squarings; of H's elements, as a share of the largest. */
    const double squarings = 1.002, element = ((double)d / 8 + 16) * UNIT;
    double sum = 0, longest = 0;
    for (size_t from = 0; from < m; from += BLOCK) {
        const size_t count = m - from < BLOCK ? m - from : BLOCK;
        float h[BLOCK][BLOCK] = {0};
        gram_add(h, a + from * d, count, d, alpha);
        if (left)
            gram_add(h, left + from * d, count, d, phi);
        for (size_t i = 0; i < count; i++)
            longest = (double)h[i][i] > longest ? (double)h[i][i] : longest;
        sum += eigenvalue(h, count) * squarings;
    }
    stage->spectral = (float)(sqrt(sum + (double)m * element * longest) * UP);
    stage->longest = (float)(sqrt(longest * (1 + element)) * UP);
}

/* The largest norm of what two int8 leave of A. */
static float user_last(const struct scorer *rough, const void *hi, const void *rest, const float *a)
{
    const struct scorer_lanes *first = scorer_user_lanes(rough, hi), *second = scorer_user_lanes(rough, rest);
    double longest = 0;
    for (size_t i = 0; i < rough->m; i++) {
        const size_t at = scorer_lane(rough->steps, i), panel = i / SCORER_LANES, lane = i % SCORER_LANES;
        const double coarse = (double)first[panel].scale[lane], fine = (double)second[panel].scale[lane];
        double square = 0;
        for (size_t k = 0; k < rough->d; k++) {
            const double x = (double)a[i * rough->d + k] -
                             coarse * packed((const uint32_t *)hi + at, SCORER_LANES, k, 0) -
                             fine * packed((const uint32_t *)rest + at, SCORER_LANES, k, 0);
            square += x * x;
        }
        longest = square > longest ? square : longest;
    }
    return norm_up(longest);
}

void scorer_bound_user(const struct scorer *rough, struct scorer_stage stages[SCORER_STAGES], void *hi,
    void *rest, float *left, const float *a)
{
    const size_t m = rough->m, d = rough->d;
    scorer_pack_user(rough, hi, a);
    const float alpha = user_left(rough, left, hi, a);
    scorer_pack_user(rough, rest, left);
    double longest = 0, mean = 0;
    for (size_t i = 0; i < m; i++) {
        double square = 0;
        for (size_t k = 0; k < d; k++)
            square += (double)left[i * d + k] * (double)left[i * d + k];
        longest = square > longest ? square : longest;
        mean += square / (double)m;
    }
    /* Nothing is left of numbers that int8 holds; H wants to divide by phi. */
    const float least = 1e-6F * alpha, root = norm_up(mean), phi = root > least ? root : least;
    const float last = user_last(rough, hi, rest, a);
    const float rounding = (float)(1.1 * UNIT * (double)(d + 16)) * (alpha + norm_up(longest));
    stages[0] = (struct scorer_stage){alpha, phi, rounding, INFINITY, INFINITY};
    stages[1] = (struct scorer_stage){alpha, 0, rounding + last, INFINITY, INFINITY};
    if (!(alpha > 1e-12F && alpha < HUGE_TOP))
        return;
    spectrum(&stages[0], a, left, m, d, alpha, phi);
    spectrum(&stages[1], a, NULL, m, d, alpha, phi);
}

/* ---- the bound ---- */

static float larger(float x, float y)
{
    return x > y ? x : y;
}

static float smaller(float x, float y)
{
    return x < y ? x : y;
}

/* Four rows at a time, which the compiler keeps in a vector. */
static void reach_rows(float *reach, float *top, float *crude, const struct scorer_stage *stage,
    const float *rho, const float *beta, size_t padded)
{
    float tops[4] = {0}, norms[4] = {0};
    for (size_t j = 0; j < padded; j += 4) {
        float y[4];
        for (size_t q = 0; q < 4; q++) {
            const float e = stage->alpha * rho[j + q], f = stage->phi * beta[j + q];
            y[q] = sqrtf(e * e + f * f);
        }
        for (size_t q = 0; q < 4; q++) {
            reach[j + q] = y[q];
            tops[q] = larger(y[q], tops[q]);
            norms[q] = larger(beta[j + q], norms[q]);
        }
    }
    *top = larger(larger(tops[0], tops[1]), larger(tops[2], tops[3]));
    *crude = stage->crude * larger(larger(norms[0], norms[1]), larger(norms[2], norms[3])) + TINY;
}

void scorer_bound_reach(struct scorer_reach *reach, float *y, float *z, const struct scorer_stage *stage,
    const float *norms, size_t n)
{
    const size_t padded = scorer_norms(n);
    reach_rows(y, &reach->y_top, &reach->y_crude, stage, norms, norms + padded, padded);
    reach_rows(z, &reach->z_top, &reach->z_crude, stage, norms + 2 * padded, norms + 3 * padded, padded);
}

float scorer_bound_upper(const struct scorer_stage *stage, const struct scorer_reach *reach,
    const struct scorer_moments *moments, size_t terms)
{
    const float omega = (float)UNIT * (256 + 12 * (float)terms), top = moments->top;
    /* Written so that NaN is not sane, either. */
    const bool sane = omega < 0.05F && stage->spectral < HUGE_TOP && reach->y_top < HUGE_REACH &&
                      reach->z_top < HUGE_REACH && reach->y_crude < HUGE_REACH &&
                      (top == 0 || (top > 1e-30F && top < HUGE_TOP)) && fabsf(moments->score) <= 2 * top;
    if (!sane)
        return INFINITY;
    const float lambda = stage->spectral * stage->spectral;
    const float y = stage->longest * reach->y_top, z = stage->longest * reach->z_top;
    const float y_crude = reach->y_crude, z_crude = reach->z_crude;
    const float positive = moments->positive,
                spread = 2 * positive + omega; /* sum |c|, as sum c is nearly 0 */
    const float shift = smaller(stage->spectral * moments->weights_z, z) + z_crude;
    const float x = z + z_crude + shift;
    if (!(x < 1.5F))
        return INFINITY;
    const float sum_e = smaller(stage->spectral * moments->weights_y, y) + y_crude;
    const float sum_cd = smaller(stage->spectral * moments->spread_z, z * spread) + z_crude * spread;
    const float first = sum_e + top * sum_cd;
    const float mean_d = sqrtf(smaller(lambda * moments->weights_zz, z * z)) + z_crude;
    const float mean_e = sqrtf(smaller(lambda * moments->weights_yy, y * y)) + y_crude;
    const float second = mean_d * mean_e / (1 - x / 2);
    const float mean_cd =
        sqrtf(smaller(lambda * moments->positive_zz, z * z * positive)) + (z_crude + shift) * sqrtf(positive);
    const float third = top * mean_cd * mean_cd / (2 * (1 - x / 3));
    const float upper =
        moments->score + (first + second + third) * (1 + 2 * omega) + omega * (4 * top + y + y_crude);
    return upper < HUGE_TOP ? upper : INFINITY;
}
