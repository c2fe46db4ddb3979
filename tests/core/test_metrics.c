/* MIND's metrics against tests/golden/metrics.py (1,800 random impressions, of which more than 1,000 have a tie between a
 * positive and a negative), against an example worked by hand, and where they are at their edges. */
#include "core/kendall.h"
#include "core/metrics.h"
#include "core/rng.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };
static const double bound = 1e-12;

static void assert_near(double got, double expected)
{
    if (!(fabs(got - expected) <= bound))
        fail_msg("%.17g instead of %.17g", got, expected);
}

/* The metrics of a few candidates, in one call. */
static bool judge(struct metrics *out, const float *scores, const uint8_t *labels, size_t count)
{
    uint32_t order[MOST];
    metrics_order(order, scores, count);
    return metrics_impression(out, scores, labels, order, count);
}

/* How much the golden impressions can show. */
struct power {
    size_t tied;     /* a positive and a negative have the same score: auc counts halves */
    size_t reversed; /* and a ranked metric would be another, were ties broken from the other end */
    size_t cut;      /* a positive has a rank beyond 10: ndcg@10 must not see it */
};

static void count_power(struct power *power, const float *scores, const uint8_t *labels, size_t count)
{
    struct metrics forward, backward;
    float mirrored_scores[MOST];
    uint8_t mirrored_labels[MOST];
    uint32_t order[MOST];
    bool tied = false, cut = false;
    metrics_order(order, scores, count);
    for (size_t i = 0; i < count; i++) {
        mirrored_scores[count - 1 - i] = scores[i];
        mirrored_labels[count - 1 - i] = labels[i];
        cut |= i >= 10 && labels[order[i]];
        for (size_t j = 0; j < i; j++)
            tied |= scores[i] == scores[j] && labels[i] != labels[j];
    }
    if (!judge(&forward, scores, labels, count) || !judge(&backward, mirrored_scores, mirrored_labels, count))
        return;
    assert_near(backward.auc, forward.auc);
    power->tied += tied;
    power->reversed += fabs(forward.mrr - backward.mrr) > bound ||
                       fabs(forward.ndcg5 - backward.ndcg5) > bound ||
                       fabs(forward.ndcg10 - backward.ndcg10) > bound ||
                       fabs(forward.mrr_first - backward.mrr_first) > bound;
    power->cut += cut;
}

static void check_line(char *line, struct metrics_set *set, struct power *power)
{
    float scores[MOST];
    uint8_t labels[MOST];
    uint32_t order[MOST];
    size_t count = 0;
    double expected[5];
    char *at = strchr(line, '\t');
    assert_non_null(at);
    for (int used; sscanf(at, " %f:%hhu%n", &scores[count], &labels[count], &used) == 2; at += used)
        assert_true(++count < MOST);
    struct metrics got = {-1, -1, -1, -1, -1};
    if (line[0] == '-' && line[1] == '\t') {
        assert_false(judge(&got, scores, labels, count));
        assert_true(got.auc == -1 && got.mrr_first == -1); /* untouched */
    } else {
        assert_int_equal(sscanf(line, "%lf %lf %lf %lf %lf", &expected[0], &expected[1], &expected[2],
                             &expected[3], &expected[4]),
            5);
        assert_true(judge(&got, scores, labels, count));
        assert_near(got.auc, expected[0]);
        assert_near(got.mrr, expected[1]);
        assert_near(got.ndcg5, expected[2]);
        assert_near(got.ndcg10, expected[3]);
        assert_near(got.mrr_first, expected[4]);
    }
    count_power(power, scores, labels, count);
    metrics_order(order, scores, count);
    assert_int_equal(metrics_set_add(set, scores, labels, order, count, NULL), 0);
}

static void test_golden(void **state)
{
    (void)state;
    FILE *stream = fopen("tests/golden/metrics.txt", "re");
    assert_non_null(stream);
    char line[4096];
    struct metrics_set set = {0};
    struct power power = {0};
    size_t impressions = 0, skipped = 0;
    double auc, mrr, ndcg5, ndcg10, first, pooled;
    bool summed = false;
    while (fgets(line, sizeof line, stream)) {
        if (line[0] != '#') {
            check_line(line, &set, &power);
            continue;
        }
        assert_int_equal(sscanf(line,
                             "# impressions %zu skipped %zu auc %lf mrr %lf ndcg@5 %lf ndcg@10 %lf mrr_first "
                             "%lf auc_pooled %lf",
                             &impressions, &skipped, &auc, &mrr, &ndcg5, &ndcg10, &first, &pooled),
            8);
        summed = true;
    }
    fclose(stream);
    assert_true(summed);
    print_message(
        "%zu impressions: %zu with a tie across labels, in %zu of them its order matters, %zu with positives "
        "beyond rank 10\n",
        impressions, power.tied, power.reversed, power.cut);
    assert_true(power.tied >= 1000 && power.reversed >= 500 && power.cut >= 300);
    assert_int_equal(set.counted + set.skipped, impressions);
    assert_int_equal(set.skipped, skipped);
    const struct metrics mean = metrics_set_mean(&set);
    assert_near(mean.auc, auc);
    assert_near(mean.mrr, mrr);
    assert_near(mean.ndcg5, ndcg5);
    assert_near(mean.ndcg10, ndcg10);
    assert_near(mean.mrr_first, first);
    assert_near(metrics_set_auc_pooled(&set), pooled);
    assert_near(metrics_set_auc_pooled(&set), pooled); /* sorted already */
    metrics_set_done(&set);
}

static void test_order(void **state)
{
    (void)state;
    struct rng rng = rng_seed(3, 0);
    uint32_t order[300];
    float scores[300];
    for (size_t count = 0; count < 300; count++) {
        bool seen[300] = {false};
        for (size_t i = 0; i < count; i++) /* -0 and 0 are a tie */
            scores[i] = (float)(rng_next(&rng) % (count / 3 + 1)) * (i % 2 ? -1.0f : 1.0f);
        metrics_order(order, scores, count);
        for (size_t k = 0; k < count; k++) {
            assert_true(order[k] < count && !seen[order[k]]);
            seen[order[k]] = true;
            if (k)
                assert_true(scores[order[k - 1]] > scores[order[k]] ||
                            (scores[order[k - 1]] == scores[order[k]] && order[k - 1] < order[k]));
        }
    }
}

/* Pairs, one by one: the definition. */
static double tau_plain(const uint32_t *order, const uint32_t *other, size_t count)
{
    size_t place[2][300];
    double agreed = 0;
    for (size_t k = 0; k < count; k++) {
        place[0][order[k]] = k;
        place[1][other[k]] = k;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            agreed += (place[0][i] < place[0][j]) == (place[1][i] < place[1][j]) ? 1 : -1;
    return agreed / ((double)count * (double)(count - 1) / 2);
}

static void test_tau(void **state)
{
    (void)state;
    struct rng rng = rng_seed(4, 0);
    uint32_t order[300], other[300], scratch[601];
    float scores[300];
    for (size_t count = 2; count < 300; count++) {
        for (size_t i = 0; i < count; i++)
            scores[i] = (float)(rng_next(&rng) % (count / 3 + 1));
        metrics_order(order, scores, count);
        assert_true(metrics_tau(order, order, count, scratch) == 1);
        for (size_t k = 0; k < count; k++)
            other[k] = order[count - 1 - k];
        assert_true(metrics_tau(order, other, count, scratch) == -1);
        for (size_t i = 0; i < count; i++) /* near the first at times, far from it at others */
            scores[i] += (float)(rng_next(&rng) % (count % 7 * count / 7 + 1));
        metrics_order(other, scores, count);
        assert_near(metrics_tau(order, other, count, scratch), tau_plain(order, other, count));
        assert_near(metrics_tau(other, order, count, scratch), tau_plain(order, other, count));
    }
    /* By hand: a b c d e as b a c e d turns two of ten pairs round. */
    const uint32_t abcde[] = {0, 1, 2, 3, 4}, baced[] = {1, 0, 2, 4, 3};
    assert_near(metrics_tau(abcde, baced, 5, scratch), 0.6);
}

/* Pairs, one by one: the definition. */
static double tau_b_plain(const float *x, const float *y, size_t count)
{
    double same = 0, inverted = 0, tied_y = 0, tied_x = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            const int a = (x[i] > x[j]) - (x[i] < x[j]), b = (y[i] > y[j]) - (y[i] < y[j]);
            same += a * b > 0;
            inverted += a * b < 0;
            tied_y += a && !b;
            tied_x += !a && b;
        }
    return (same - inverted) / sqrt((same + inverted + tied_y) * (same + inverted + tied_x));
}

static void test_tau_b(void **state)
{
    (void)state;
    struct rng rng = rng_seed(5, 0);
    float x[300], y[300];
    uint32_t scratch[901], order[300], other[300], room[601];
    for (size_t count = 2; count < 300; count++) {
        const size_t values = count % 3 ? count / 3 + 2 : 10000000; /* many ties, or hardly any */
        for (size_t i = 0; i < count; i++) {
            x[i] = (float)(rng_next(&rng) % values);
            y[i] = count % 2 ? x[i] + (float)(rng_next(&rng) % values / 4) : (float)(rng_next(&rng) % values);
        }
        x[0] = -1; /* never all of them alike */
        y[1] = -1;
        assert_near(kendall_tau_b(x, y, count, scratch), tau_b_plain(x, y, count));
        assert_near(kendall_tau_b(y, x, count, scratch), tau_b_plain(x, y, count));
        assert_near(kendall_tau_b(x, x, count, scratch), 1);
        for (size_t i = 0; i < count; i++) /* without ties it is the other tau */
            x[i] = (float)i + 0.5f * (float)(rng_next(&rng) % 2), y[i] = (float)((i * 7919 + 13) % 1000003);
        metrics_order(order, x, count);
        metrics_order(other, y, count);
        assert_near(kendall_tau_b(x, y, count, scratch), metrics_tau(order, other, count, room));
    }
    /* By hand: of the pairs of 1 2 2 3 and 1 1 2 3, four go the same way and each has one tie. */
    const float few[] = {1, 2, 2, 3}, more[] = {1, 1, 2, 3}, minus[] = {-1, -2, -2, -3},
                flat[] = {0, -0.0f, 0, 0};
    assert_near(kendall_tau_b(few, more, 4, scratch), 4.0 / 5);
    assert_near(kendall_tau_b(few, minus, 4, scratch), -1);
    assert_true(isnan(kendall_tau_b(few, flat, 4, scratch)) && isnan(kendall_tau_b(flat, few, 4, scratch)));
    assert_true(isnan(kendall_tau_b(few, more, 1, scratch)) && isnan(kendall_tau_b(few, more, 0, scratch)));
}

static void test_edges(void **state)
{
    (void)state;
    struct metrics m;
    const float tied[12] = {0}, two[] = {1, 2};
    const uint8_t none[12] = {0}, all[] = {1, 1}, last[12] = {[11] = 1}, first[12] = {1}, lower[] = {1, 0};
    assert_false(judge(&m, two, none, 1));
    assert_false(judge(&m, two, all, 1));
    assert_false(judge(&m, two, all, 2));
    assert_false(judge(&m, two, none, 2));
    assert_false(judge(&m, two, none, 0));
    assert_true(judge(&m, tied, last, 12)); /* all ties: a half, and the place in the impression */
    assert_near(m.auc, 0.5);
    assert_near(m.mrr, 1.0 / 12);
    assert_near(m.ndcg5, 0);
    assert_near(m.ndcg10, 0);
    assert_true(judge(&m, tied, first, 12));
    assert_near(m.auc, 0.5);
    assert_near(m.mrr, 1);
    assert_near(m.ndcg5, 1);
    assert_true(judge(&m, two, lower, 2));
    assert_near(m.auc, 0);
    assert_near(m.mrr, 0.5);
    assert_near(m.mrr_first, 0.5);
    assert_near(m.ndcg10, 1 / log2(3));
}

/* Positives at ranks 2, 4 and 11 of 12: of the nine negatives they beat 8, 7 and 1; one more is tied with rank 2. */
static void test_by_hand(void **state)
{
    (void)state;
    struct metrics m;
    const float scores[12] = {1, 7, 12, 11, 11, 9, 8, 6, 5, 4, 3, 2};
    const uint8_t labels[12] = {[3] = 1, [5] = 1, [11] = 1};
    assert_true(judge(&m, scores, labels, 12));
    assert_near(m.auc, (7.5 + 7 + 1) / 27);
    assert_near(m.mrr, (1.0 / 2 + 1.0 / 4 + 1.0 / 11) / 3);
    assert_near(m.mrr_first, 0.5);
    assert_near(m.ndcg5, (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 0.5));
    assert_near(m.ndcg10, m.ndcg5);
}

static void test_set(void **state)
{
    (void)state;
    struct metrics_set set = {0};
    assert_true(isnan(metrics_set_mean(&set).auc));
    assert_true(isnan(metrics_set_auc_pooled(&set)));
    /* Each impression alone means nothing; the pool of both has four pairs: won, tied, lost, won. */
    const float high[] = {3, 1}, low[] = {1, 2};
    const uint8_t positive[] = {1, 1}, negative[] = {0, 0};
    const uint32_t order[] = {0, 1}, reverse[] = {1, 0};
    assert_int_equal(metrics_set_add(&set, high, positive, order, 2, NULL), 0);
    assert_true(isnan(metrics_set_auc_pooled(&set)));
    assert_int_equal(metrics_set_add(&set, low, negative, reverse, 2, NULL), 0);
    assert_int_equal(metrics_set_add(&set, low, NULL, reverse, 2, NULL), 0); /* no labels: not in the pool */
    assert_int_equal(set.counted, 0);
    assert_int_equal(set.skipped, 3);
    assert_true(isnan(metrics_set_mean(&set).ndcg5));
    assert_near(metrics_set_auc_pooled(&set), 2.5 / 4);
    metrics_set_done(&set);
    assert_null(set.scores[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_order),
        cmocka_unit_test(test_tau), cmocka_unit_test(test_tau_b), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_by_hand), cmocka_unit_test(test_set)};
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
