/* How far the float32 kernel's score may be above what int8 knows of it.
 *
 * Rows a_i of A (i < m), b_j of B and g_j of G (j < n). Of b_j a number is taken off first, so that int8 spends its
 * steps on what b_j varies by: gelu's values lie nearly all on one side of zero. Int8 then knows
 *
 *     a_i = A_i + f_i,   b_j = c_j 1 + B_j + e_j,   g_j = c'_j 1 + G_j + o_j,
 *
 * where capitals are what is packed and f, e, o are residuals whose norms are known. With mu_j the mean of B_j's numbers,
 *
 *     a_i b_j = A_i B_j + c_j sum(a_i) + mu_j sum(f_i)   +   a_i e_j + f_i (B_j - mu_j 1),
 *
 * the first half of which is K_ij, as computed; L_ij is the same of g_j. beta_j = |B_j - mu_j 1|; below B_j means that
 * difference. The float32 kernel's products are K + E and L + D with
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
 * So S - s <= max(N, 0). With |D - t| <= x: |exp(D - t) - 1| <= |D - t| (exp(x) - 1) / x and
 * r(D - t) <= (D - t)^2 r(x) / x^2, as (exp(v) - 1) / v and r(v) / v^2 grow with v.
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
 * What int8 leaves of a_i and b_j is packed in a second int8 each, F_i + f'_i = f_i and E_j + e'_j = e_j, and two ways of
 * using it are cheaper than float32. Where the weight is spread over the rows, a second pass adds F_i B_j, so that H is
 * A A^T / alpha^2 alone, y_j = alpha |e_j|, and f'_i B_j, some hundred times smaller than before, is bounded like
 * rounding, by the product of norms. Where few rows have most of the weight, p is long and the bound loose; these rows are
 * refined:
 *
 *     a_i b_j = A_i B_j + c_j sum(a_i) + F_i B_j + A_i E_j   +   f'_i B_j + f_i E_j + a_i e'_j.
 *
 * All of the second half is bounded like rounding, and c_i = 0 in (2), w_i = 0 in (3) for refined rows. The sums of c and
 * w that stand for no product with a residual (sum max(k, 0), and sum |c| beside rounding) are still those of all rows.
 *
 * Rounding. u = 2^-24. Products of d terms in any order, with or without FMA: at most (d + 2) u (1 + o(1)) |a_i| |b_j|
 * off in the float32 kernel. In int8, where the integers are exact: 18 roundings at most of numbers that are at most
 * |a| (2 |B_j| + (|c_j| + |mu_j|) sqrt(d)), |a| being the longest a_i and f_i together. A row's rounding is
 * 1.1 u ((d + 8) |b_j| + 40 (...)) with this bracket. Weights: an exponent within u 86 in all, its function within 4u,
 * and 6u for each of T merges of tiles, of 8 rows and 2 pairs or more, T <= (m / 8 + 1) (n / 2 + 1); sums of m n terms in
 * any order, above and below. That is at most 2 (100 + 6 T) + 2 m n <= 256 + 12 m n of u, in short omega, of the largest
 * similarity. The same omega covers the sums that are made here, whose terms are all positive: as a factor 1 + 2 omega.
 * Weights below exp(-86) and numbers below 2^-126 vanish in a rounding or in TINY. Rounded norms are rounded up.
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

/* A row's middle, which leaves int8 the smallest steps. */
static float middle(const float *row, size_t d)
{
    float low = row[0], high = row[0];
    for (size_t k = 1; k < d; k++) {
        low = row[k] < low ? row[k] : low;
        high = row[k] > high ? row[k] : high;
    }
    return low / 2 + high / 2;
}

static void keep_larger(float *top, float norm)
{
    *top = norm > *top ? norm : *top;
}

/* left = what int8 leaves of row r, whose shift is given. Returns the mean of what int8 holds. */
static float content_left(const struct scorer *rough, float *left, float *rho, float *beta,
    float tops[SCORER_TOPS], const void *first, size_t r, const float *row, float shift)
{
    const double scale = (double)scorer_row_scales(rough, first)[r], d = (double)rough->d;
    size_t stride;
    const uint32_t *units = (const uint32_t *)first + scorer_row(rough, r, &stride);
    double rest = 0, whole = 0, sum = 0, full = 0;
    for (size_t k = 0; k < rough->d; k++) {
        const double q = scale * packed(units, stride, k, SCORER_BIAS),
                     x = (double)row[k] - (double)shift - q;
        left[k] = (float)x;
        rest += x * x;
        whole += q * q;
        full += (double)row[k] * (double)row[k];
        sum += q;
    }
    const float mean = (float)(sum / d);
    const double off = sum / d - (double)mean, varies = whole - sum * (sum / d) + off * off * d;
    const double bracket = 2 * sqrt(whole) + (fabs((double)shift) + fabs((double)mean)) * sqrt(d);
    *rho = norm_up(rest);
    /* The difference of two sums is off by d 2^-52 of them at most. */
    *beta = norm_up((varies > 0 ? varies : 0) + whole * 0x1p-50 * (d + 4));
    const double rounding = 1.1 * UNIT * ((d + 8) * sqrt(full) + 40 * bracket);
    keep_larger(&tops[SCORER_RHO], *rho);
    keep_larger(&tops[SCORER_WHOLE], norm_up(whole));
    keep_larger(&tops[SCORER_ROUNDING], norm_up(rounding * rounding));
    return mean;
}

/* The norm of what two int8 leave of a row; left: what the first leaves, in float64 but for a rounding. */
static float last_norm(
    const float *left, const uint32_t *units, size_t stride, size_t d, double scale, unsigned bias)
{
    double square = 0;
    for (size_t k = 0; k < d; k++) {
        const double x = (double)left[k],
                     rest = fabs(x - scale * packed(units, stride, k, bias)) + UNIT * fabs(x);
        square += rest * rest;
    }
    return norm_up(square);
}

void scorer_bound_pack_content(const struct scorer *rough, float *bounds, void *first, void *second,
    float *spare, const float *b, const float *gate)
{
    const size_t n = rough->n, d = rough->d, padded = scorer_norms(n);
    float *shifts = bounds, *means = shifts + 2 * padded, *norms = means + 2 * padded;
    memset(bounds, 0, scorer_bound_floats(n) * sizeof *bounds);
    for (size_t r = 0; r < 2 * n; r++) {
        const float *row = (r % 2 ? gate : b) + r / 2 * d;
        float *shifted = spare + (r % 2 * n + r / 2) * d;
        shifts[r] = middle(row, d);
        for (size_t k = 0; k < d; k++)
            shifted[k] = row[k] - shifts[r];
    }
    scorer_pack_content(rough, first, spare, spare + n * d);
    for (size_t r = 0; r < 2 * n; r++) {
        float *rho = norms + r % 2 * (2 * padded + SCORER_TOPS), *beta = rho + padded;
        means[r] = content_left(rough, spare + (r % 2 * n + r / 2) * d, rho + r / 2, beta + r / 2,
            beta + padded, first, r, (r % 2 ? gate : b) + r / 2 * d, shifts[r]);
    }
    scorer_pack_content(rough, second, spare, spare + n * d);
    for (size_t r = 0; r < 2 * n; r++) {
        float *tops = norms + r % 2 * (2 * padded + SCORER_TOPS) + 2 * padded;
        size_t stride;
        const uint32_t *units = (const uint32_t *)second + scorer_row(rough, r, &stride);
        keep_larger(&tops[SCORER_FINE], last_norm(spare + (r % 2 * n + r / 2) * d, units, stride, d,
                                            (double)scorer_row_scales(rough, second)[r], SCORER_BIAS));
    }
}

/* left = a - what int8 knows of it, and the sums of the rows of both. Returns the largest norm of a row of a. */
static float user_left(
    const struct scorer *rough, float *left, float *sums, const void *first, const float *a)
{
    const struct scorer_lanes *constants = scorer_user_lanes(rough, first);
    const size_t lanes = rough->panels * SCORER_LANES;
    double longest = 0;
    bool broken = false;
    for (size_t i = 0; i < rough->m; i++) {
        const uint32_t *units = (const uint32_t *)first + scorer_lane(rough->steps, i);
        const double scale = (double)constants[i / SCORER_LANES].scale[i % SCORER_LANES];
        double square = 0, sum = 0, left_sum = 0;
        for (size_t k = 0; k < rough->d; k++) {
            const double x = (double)a[i * rough->d + k], f = x - scale * packed(units, SCORER_LANES, k, 0);
            left[i * rough->d + k] = (float)f;
            square += x * x;
            sum += x;
            left_sum += f;
        }
        sums[i] = (float)sum;
        sums[lanes + i] = (float)left_sum;
        longest = square <= longest ? longest : square;
        broken |= isnan(square);
    }
    for (size_t i = rough->m; i < lanes; i++) { /* lanes beyond m repeat row 0 */
        sums[i] = sums[0];
        sums[lanes + i] = sums[lanes];
    }
    return broken ? INFINITY : norm_up(longest);
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

/* spectral and longest of both passes: with what int8 leaves of A, and without. */
static void spectra(
    struct scorer_known known[SCORER_PASSES], const float *a, const float *left, size_t m, size_t d)
{
    /* Roundings of the squarings; of H's elements, as a share of the largest. */
    const double squarings = 1.002, element = ((double)d / 8 + 16) * UNIT;
    double sums[SCORER_PASSES] = {0}, longest[SCORER_PASSES] = {0};
    for (size_t from = 0; from < m; from += BLOCK) {
        const size_t count = m - from < BLOCK ? m - from : BLOCK;
        float grams[SCORER_PASSES][BLOCK][BLOCK] = {0};
        gram_add(grams[1], a + from * d, count, d, known[0].alpha);
        memcpy(grams[0], grams[1], sizeof grams[0]);
        gram_add(grams[0], left + from * d, count, d, known[0].phi);
        for (int pass = 0; pass < SCORER_PASSES; pass++) {
            for (size_t i = 0; i < count; i++)
                longest[pass] = fmax(longest[pass], (double)grams[pass][i][i]);
            sums[pass] += eigenvalue(grams[pass], count) * squarings;
        }
    }
    for (int pass = 0; pass < SCORER_PASSES; pass++) {
        known[pass].spectral = (float)(sqrt(sums[pass] + (double)m * element * longest[pass]) * UP);
        known[pass].longest = (float)(sqrt(longest[pass] * (1 + element)) * UP);
    }
}

/* The largest norm of what two int8 leave of A; left: what one does. */
static float user_last(const struct scorer *rough, const void *second, const float *left)
{
    const struct scorer_lanes *constants = scorer_user_lanes(rough, second);
    float longest = 0;
    for (size_t i = 0; i < rough->m; i++) {
        const double scale = (double)constants[i / SCORER_LANES].scale[i % SCORER_LANES];
        keep_larger(
            &longest, last_norm(left + i * rough->d, (const uint32_t *)second + scorer_lane(rough->steps, i),
                          SCORER_LANES, rough->d, scale, 0));
    }
    return longest;
}

/* rows: what is packed, with units as [lane][step], which keeps a row in few lines of the cache. */
static void to_rows(const struct scorer *rough, void *rows, const void *packed)
{
    const size_t steps = rough->steps, lanes = rough->panels * SCORER_LANES, units = lanes * steps;
    uint32_t *to = rows;
    for (size_t i = 0; i < lanes; i++)
        for (size_t step = 0; step < steps; step++)
            to[i * steps + step] = ((const uint32_t *)packed)[scorer_lane(steps, i) + step * SCORER_LANES];
    memcpy(to + units, (const uint32_t *)packed + units, rough->user_bytes - units * sizeof *to);
}

void scorer_bound_pack_user(const struct scorer *rough, struct scorer_known known[SCORER_PASSES], float *sums,
    void *const packed[SCORER_PASSES], void *const rows[SCORER_PASSES], float *left, const float *a)
{
    const size_t m = rough->m, d = rough->d, lanes = rough->panels * SCORER_LANES;
    scorer_pack_user(rough, packed[0], a);
    const float alpha = user_left(rough, left, sums, packed[0], a);
    for (size_t i = 0; i < lanes; i++) { /* the second pass knows better than a mean */
        sums[2 * lanes + i] = 0;
        sums[3 * lanes + i] = -sums[lanes + i];
    }
    scorer_pack_user(rough, packed[1], left);
    for (int pass = 0; pass < SCORER_PASSES; pass++)
        to_rows(rough, rows[pass], packed[pass]);
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
    known[0] = (struct scorer_known){
        alpha, phi, norm_up(longest), user_last(rough, packed[1], left), INFINITY, INFINITY};
    known[1] = known[0];
    known[1].phi = 0;
    if (alpha > 1e-12F && alpha < HUGE_TOP)
        spectra(known, a, left, m, d);
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
static void reach_rows(float *reach, float *top, float *crude, float *refined,
    const struct scorer_known *known, const float *norms, size_t padded)
{
    const float *rho = norms, *beta = rho + padded, *tops = beta + padded;
    float most[4] = {0};
    for (size_t j = 0; j < padded; j += 4) {
        float y[4];
        for (size_t q = 0; q < 4; q++) {
            const float e = known->alpha * rho[j + q], f = known->phi * beta[j + q];
            y[q] = sqrtf(e * e + f * f);
        }
        for (size_t q = 0; q < 4; q++) {
            reach[j + q] = y[q];
            most[q] = larger(y[q], most[q]);
        }
    }
    *top = larger(larger(most[0], most[1]), larger(most[2], most[3]));
    *crude = (known->alpha + known->left) * tops[SCORER_ROUNDING] + TINY;
    *refined = *crude + known->last * tops[SCORER_WHOLE] +
               known->left * (tops[SCORER_RHO] + tops[SCORER_FINE]) + known->alpha * tops[SCORER_FINE];
}

void scorer_bound_reach(struct scorer_reach *reach, float *y, float *z, const struct scorer_known *known,
    const float *const norms[2], size_t n)
{
    const size_t padded = scorer_norms(n);
    reach_rows(y, &reach->y_top, &reach->y_crude, &reach->y_refined, known, norms[0], padded);
    reach_rows(z, &reach->z_top, &reach->z_crude, &reach->z_refined, known, norms[1], padded);
}

/* (exp(x) - 1) / x and (exp(x) - 1 - x) / x^2, or a little more; 0 <= x < 5. Where the differences would lose digits,
 * geometric series bound those of exp. */
struct growth {
    float second, third;
};

static struct growth growth_of(float x)
{
    if (x < 0.25F)
        return (struct growth){1 / (1 - x / 2), 0.5F / (1 - x / 3)};
    const float e = expf(x) * (1 + 0x1p-16F) - 1;
    return (struct growth){e / x, (e - x) / (x * x)};
}

float scorer_bound_upper(const struct scorer_known *known, const struct scorer_reach *reach,
    const struct scorer_moments *moments, size_t terms, bool refined)
{
    const float y_crude = refined ? reach->y_refined : reach->y_crude,
                z_crude = refined ? reach->z_refined : reach->z_crude;
    const float omega = (float)UNIT * (256 + 12 * (float)terms), top = moments->top;
    /* Written so that NaN is not sane, either. */
    const bool sane = omega < 0.05F && known->spectral < HUGE_TOP && reach->y_top < HUGE_REACH &&
                      reach->z_top < HUGE_REACH && y_crude < HUGE_REACH && z_crude < HUGE_REACH &&
                      (top == 0 || (top > 1e-30F && top < HUGE_TOP)) && fabsf(moments->score) <= 2 * top;
    if (!sane)
        return INFINITY;
    const float lambda = known->spectral * known->spectral;
    const float y = known->longest * reach->y_top, z = known->longest * reach->z_top;
    const float positive = moments->positive,
                spread = 2 * positive + omega; /* sum |c|, as sum c is nearly 0 */
    const float shift = smaller(known->spectral * moments->weights_z, z) + z_crude;
    const float x = z + z_crude + shift;
    if (!(x < 5))
        return INFINITY;
    const struct growth growth = growth_of(x);
    const float sum_e = smaller(known->spectral * moments->weights_y, y) + y_crude;
    const float sum_cd = smaller(known->spectral * moments->spread_z, z * spread) + z_crude * spread;
    const float first = sum_e + top * sum_cd;
    const float mean_d = sqrtf(smaller(lambda * moments->weights_zz, z * z)) + z_crude;
    const float mean_e = sqrtf(smaller(lambda * moments->weights_yy, y * y)) + y_crude;
    const float second = mean_d * mean_e * growth.second;
    const float mean_cd =
        sqrtf(smaller(lambda * moments->positive_zz, z * z * positive)) + (z_crude + shift) * sqrtf(positive);
    const float third = top * mean_cd * mean_cd * growth.third;
    const float upper =
        moments->score + (first + second + third) * (1 + 2 * omega) + omega * (4 * top + y + y_crude);
    return upper < HUGE_TOP ? upper : INFINITY;
}
