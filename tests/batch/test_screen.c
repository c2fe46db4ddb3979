/* Text for a terminal: widths, cuts, and what is never sent. */
#include "batch/screen.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is written of a text in so many columns. */
static char *put(const char *text, size_t len, size_t columns, size_t *used)
{
    char *written = NULL;
    size_t size = 0;
    FILE *const out = open_memstream(&written, &size);
    struct screen screen;
    screen_init(&screen, out);
    assert_false(screen.terminal);
    screen.locale = newlocale(LC_CTYPE_MASK, SCREEN_LOCALE, (locale_t)0); /* as a terminal's */
    assert_non_null(screen.locale);
    *used = screen_put(&screen, text, len, columns);
    fclose(out);
    screen_done(&screen);
    return written;
}

static void shows(const char *text, size_t columns, const char *want, size_t want_columns)
{
    size_t used;
    char *const got = put(text, strlen(text), columns, &used);
    assert_string_equal(got, want);
    assert_int_equal(used, want_columns);
    free(got);
}

static void test_cuts(void **state)
{
    (void)state;
    shows("a title", 7, "a title", 7);
    shows("a title", 6, "a t...", 6);
    shows("a title", 3, "...", 3);
    shows("a title", 2, "a ", 2);
    shows("", 5, "", 0);
    shows("\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!", 4, "\xc3\xa4...", 4);
    /* two columns each: no half of one */
    shows("\xe4\xb8\xad\xe6\x96\x87\xe6\x96\xb0\xe9\x97\xbb", 8,
        "\xe4\xb8\xad\xe6\x96\x87\xe6\x96\xb0\xe9\x97\xbb", 8);
    shows("\xe4\xb8\xad\xe6\x96\x87\xe6\x96\xb0\xe9\x97\xbb", 6, "\xe4\xb8\xad...", 5);
    shows("\xe4\xb8\xad\xe6\x96\x87", 2, "\xe4\xb8\xad", 2);
    /* a mark stays with its letter */
    shows("e\xcc\x81zzzz", 4, "e\xcc\x81...", 4);
}

static void test_never_sent(void **state)
{
    (void)state;
    shows("\x1b[31m", 80, "\\x1b[31m", 8);
    shows("\t\n\x7f", 80, "\\x09\\x0a\\x7f", 12);
    shows("\xc2\x9b", 80, "\\u009b", 6);              /* a control sequence in one character */
    shows("\xe2\x80\xae", 80, "\\u202e", 6);          /* right to left */
    shows("\xf3\xa0\x80\x81", 80, "\\U000e0001", 10); /* a tag */
    shows("\xe4\xb8", 80, "\\xe4\\xb8", 8);           /* half a character */
    shows("\xc0\x80\xed\xa0\x80", 80, "\\xc0\\x80\\xed\\xa0\\x80", 20); /* overlong, a surrogate */
    size_t used;
    char *const got = put("a\0b", 3, 80, &used);
    assert_string_equal(got, "a\\x00b");
    free(got);
    for (unsigned a = 0; a < 256; a++) /* whatever comes, no control byte goes out */
        for (unsigned b = 0; b < 256; b++) {
            const char bytes[2] = {(char)a, (char)b};
            char *const out = put(bytes, 2, 80, &used);
            for (const char *c = out; *c; c++)
                assert_true((unsigned char)*c >= ' ' && *c != 0x7F);
            free(out);
        }
}

static void wraps(const char *text, size_t width, const char *want)
{
    char *written = NULL;
    size_t size = 0;
    FILE *const out = open_memstream(&written, &size);
    struct screen screen;
    screen_init(&screen, out);
    screen.width = width;
    screen_wrap(&screen, text, strlen(text), 2, 2);
    fclose(out);
    screen_done(&screen);
    assert_string_equal(written, want);
    free(written);
}

static void test_wrapping(void **state)
{
    (void)state;
    wraps("one two three", SIZE_MAX, "one two three\n");
    wraps("one two three", 15, "one two three\n");
    wraps("one two three", 14, "one two\n  three\n");
    wraps("one two three", 9, "one two\n  three\n");
    wraps("one  two   three", 8, "one\n  two\n  three\n");
    wraps("incomprehensible", 12, "incompr...\n");
    wraps("an incomprehensible word", 12, "an\n  incompr...\n  word\n");
    wraps("", 20, "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts), cmocka_unit_test(test_never_sent), cmocka_unit_test(test_wrapping)};
    return cmocka_run_group_tests_name("screen", tests, NULL, NULL);
}
