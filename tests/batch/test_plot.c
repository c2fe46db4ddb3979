#include "batch/plot.h"
#include "batch/plot_axis.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_axis(void **state)
{
    (void)state;
    static const struct {
        double low, high, first, step;
        size_t count;
        const char *label; /* of the second tick */
    } cases[] = {
        {0, 1, 0, 0.2, 6, "0.2"},
        {0.6981, 0.7093, 0.695, 0.005, 4, "0.700"},
        {0, 97, 0, 20, 6, "20"},
        {0, 1080, 0, 500, 4, "500"},
        {0, 120000, 0, 50000, 4, "50k"},
        {0, 5e7, 0, 1e7, 6, "10M"},
        {-0.01, 0.004, -0.01, 0.005, 4, "-0.005"},
        {-1, 1, -1, 0.5, 5, "-0.5"},
        {3, 3, 2.8, 0.1, 5, "2.9"},
        {0, 0, -0.6, 0.2, 7, "-0.4"},
        {NAN, 1, 0, 0.2, 6, "0.2"},
        {INFINITY, -INFINITY, 0, 0.2, 6, "0.2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct plot_axis axis = plot_axis_make(cases[i].low, cases[i].high, 5);
        if (cases[i].low <= cases[i].high && isfinite(cases[i].high - cases[i].low)) {
            assert_true(axis.first <= cases[i].low + 1e-9);
            assert_true(plot_axis_last(&axis) >= cases[i].high - 1e-9);
        }
        assert_in_range(axis.count, 3, 9);
        if (!cases[i].label)
            continue;
        char label[32];
        plot_axis_label(label, &axis, 1);
        if (fabs(axis.first - cases[i].first) > 1e-9 || fabs(axis.step - cases[i].step) > 1e-9 ||
            axis.count != cases[i].count || strcmp(label, cases[i].label) != 0)
            fail_msg("case %zu: first %g, step %g, %zu ticks, label %s", i, axis.first, axis.step, axis.count,
                label);
    }
    /* A tick that rounding left beside zero is zero. */
    const struct plot_axis axis = {-0.3, 0.1, 7};
    char label[32];
    plot_axis_label(label, &axis, 3);
    assert_string_equal(label, "0.0");
}

/* Ticks lie on whole multiples of 1, 2 or 5 times a power of ten, whatever the extent. */
static void test_axis_any(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        const double low = sin(i) * pow(10, i % 13 - 6),
                     high = low + (0.01 + fabs(cos(7 * i))) * pow(10, i % 11 - 5);
        const struct plot_axis axis = plot_axis_make(low, high, 5);
        const double mantissa = axis.step / pow(10, floor(log10(axis.step) + 1e-9));
        assert_true(fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 || fabs(mantissa - 5) < 1e-6);
        assert_true(axis.first <= low + 1e-6 * axis.step && plot_axis_last(&axis) >= high - 1e-6 * axis.step);
        assert_in_range(axis.count, 2, 8);
    }
}

static char *printed(const struct plot *plot, const char *text)
{
    char *bytes;
    size_t len;
    FILE *stream = open_memstream(&bytes, &len);
    assert_non_null(stream);
    if (plot)
        plot_print(stream, plot);
    else
        plot_print_text(stream, text);
    assert_int_equal(fclose(stream), 0);
    return bytes;
}

static void test_escaping(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"a<b> & \"c\" 'd'", "a&lt;b&gt; &amp; &quot;c&quot; 'd'"},
        {"]]><script>", "]]&gt;&lt;script&gt;"},
        {"tab\tline\nbell\a", "tab line bell "},
        {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
        {"\xff\xc3", "??"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = printed(NULL, cases[i][0]);
        assert_string_equal(got, cases[i][1]);
        free(got);
    }
}

static size_t occurrences(const char *text, const char *what)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        count++;
    return count;
}

/* No coordinate is NaN whatever the data are; a point that is none is left out, and the line is broken there. */
static void test_gaps(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5}, y[] = {1, 2, NAN, 3, 4}, none[] = {NAN, NAN, NAN, NAN, NAN};
    const char *const names[] = {"a", "b", "c", "d", "e"};
    const struct plot_series series[] = {{.name = "broken", .count = 5, .x = x, .y = y, .low = y, .high = y},
        {.name = "nothing", .count = 5, .x = x, .y = none, .low = none, .high = none, .spread = PLOT_BAND},
        {.name = "empty", .x = x, .y = y}};
    const struct plot_panel panels[] = {
        {.title = "lines", .series = series, .series_count = 3},
        {.title = "log", .series = series, .series_count = 2, .x_log = true},
        {.title = "only nothing", .series = series + 1, .series_count = 1, .x_log = true},
        {.title = "bars", .kind = PLOT_BARS, .series = series, .series_count = 2, .names = names},
        {.title = "no series"},
    };
    const struct plot plot = {"<title>", "about", panels, 5, 2};
    char *got = printed(&plot, NULL);
    assert_null(strstr(got, "nan"));
    assert_null(strstr(got, "inf"));
    assert_null(strstr(got, "<title><title>"));
    assert_int_equal(occurrences(got, "<circle "), 8);
    assert_int_equal(occurrences(got, "<rect class=\"bar "), 4);
    assert_int_equal(occurrences(got, "<g"), occurrences(got, "</g>"));
    const char *curve = strstr(got, "class=\"line s0\"");
    assert_non_null(curve);
    char first[512];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(curve, ">"), curve);
    assert_int_equal(occurrences(first, "M"), 2);
    free(got);
}

static void test_write(void **state)
{
    (void)state;
    char dir[256], path[300];
    const double x[] = {4, 8}, y[] = {0.7, 0.72};
    const struct plot_series series = {.name = "AUC", .count = 2, .x = x, .y = y};
    const struct plot_panel panel = {.title = "m", .series = &series, .series_count = 1, .x_log = true};
    const struct plot plot = {"one", "two", &panel, 1, 1};
    struct err err = ERR_INIT;
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/a.svg", dir);
    assert_int_equal(plot_write(path, &plot, &err), 0);
    assert_int_equal(plot_write(path, &plot, &err), 0);
    snprintf(path, sizeof path, "%s/nowhere/a.svg", dir);
    assert_int_equal(plot_write(path, &plot, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "nowhere"));
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axis),
        cmocka_unit_test(test_axis_any),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests_name("plot", tests, NULL, NULL);
}
