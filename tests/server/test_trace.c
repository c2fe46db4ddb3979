/* traceparent by the grammar of W3C Trace Context, and what the answer carries on. */
#include "server/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool sampled;
    } rows[] = {
        {"00-" TRACE "-" PARENT "-01", true},
        {"00-" TRACE "-" PARENT "-00", false},
        {"00-" TRACE "-" PARENT "-03", true}, /* flags that are not known yet */
        {"00-" TRACE "-" PARENT "-fe", false},
        {"00-" TRACE "-" PARENT "-ff", true},
        {"00-" TRACE "-" PARENT "-0b", true},
        {"  00-" TRACE "-" PARENT "-01\t ", true}, /* white space around a field's value is none of it */
        {"01-" TRACE "-" PARENT "-01", true},      /* versions to come begin as this one */
        {"cc-" TRACE "-" PARENT "-01-what-the-future-will-be-like", true},
        {"cc-" TRACE "-" PARENT "-00-", false},
        {"fe-" TRACE "-" PARENT "-01", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trace trace = {.span_id = "b7ad6b7169203331"};
        if (!trace_parse(&trace, rows[i].value))
            fail_msg("\"%s\" is refused", rows[i].value);
        assert_string_equal(trace.trace_id, TRACE);
        assert_string_equal(trace.parent_id, PARENT);
        assert_int_equal(trace.sampled, rows[i].sampled);
        char text[TRACE_TEXT];
        trace_format(text, &trace);
        assert_string_equal(
            text, rows[i].sampled ? "00-" TRACE "-b7ad6b7169203331-01" : "00-" TRACE "-b7ad6b7169203331-00");
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        " ",
        "00",
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-",
        "00-" TRACE "-" PARENT "-1",
        "00-" TRACE "-" PARENT "-011",
        "00-" TRACE "-" PARENT "-01-", /* this version ends with the flags */
        "00-" TRACE "-" PARENT "-01-what-the-future-will-be-like",
        "00-" TRACE "-" PARENT "-01 x",
        "cc-" TRACE "-" PARENT "-01.what",
        "cc-" TRACE "-" PARENT "-011",
        "ff-" TRACE "-" PARENT "-01",
        "0-" TRACE "-" PARENT "-01",
        "0x-" TRACE "-" PARENT "-01",
        "0A-" TRACE "-" PARENT "-01",
        "000-" TRACE "-" PARENT "-01",
        " 0-" TRACE "-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47361-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473.-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473 -" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        "00-" TRACE "-00f067aa0ba902b-01",
        "00-" TRACE "-00f067aa0ba902b71-01",
        "00-" TRACE "-00f067aa0ba902bg-01",
        "00-" TRACE "-" PARENT "-0G",
        "00-" TRACE "-" PARENT "-0A",
        "00-" TRACE "-" PARENT "--1",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-" TRACE "-" PARENT "-01,00-" TRACE "-" PARENT "-01",
        "\"00-" TRACE "-" PARENT "-01\"",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct trace before = {.trace_id = "unchanged"};
        struct trace trace = before;
        if (trace_parse(&trace, rows[i]))
            fail_msg("\"%s\" is taken", rows[i]);
        assert_memory_equal(&trace, &before, sizeof trace);
    }
}

/* Whatever byte is changed in a valid one, what is taken is of the grammar still. */
static void test_each_byte(void **state)
{
    (void)state;
    static const char valid[] = "00-" TRACE "-" PARENT "-01";
    size_t taken = 0;
    for (size_t i = 0; i < sizeof valid - 1; i++) {
        for (unsigned byte = 1; byte < 256; byte++) {
            char value[sizeof valid];
            struct trace trace;
            memcpy(value, valid, sizeof valid);
            value[i] = (char)byte;
            const bool dash = valid[i] == '-',
                       hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
            const bool right = dash ? byte == '-' : hex;
            assert_int_equal(trace_parse(&trace, value), right);
            taken += right;
        }
    }
    assert_int_equal(taken, 52 * 16 + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_each_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
