#include "config/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080},
        {"0.0.0.0:0", "0.0.0.0", 0},
        {"[::1]:8080", "::1", 8080},
        {"[::]:65535", "::", 65535},
        {"[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80},
        {"localhost:80", "localhost", 80},
        {"node-1.example.com:443", "node-1.example.com", 443},
        {"a:1", "a", 1},
        {"10.example:1", "10.example", 1},
        {"4u:00080", "4u", 80},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct address address;
        if (!address_parse(&address, good[i].text))
            fail_msg("refused: %s", good[i].text);
        assert_string_equal(address.host, good[i].host);
        assert_int_equal(address.port, good[i].port);
        assert_true(address_parse(NULL, good[i].text));
    }
}

static void test_loopback(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loopback;
    } rows[] = {
        {"127.0.0.1:1", true},
        {"127.255.0.9:1", true},
        {"[::1]:1", true},
        {"[0:0::1]:1", true},
        {"[::ffff:127.0.0.1]:1", true},
        {"localhost:1", true},
        {"LocalHost:1", true},
        {"0.0.0.0:1", false},
        {"128.0.0.1:1", false},
        {"10.127.0.1:1", false},
        {"[::]:1", false},
        {"[::ffff:10.0.0.1]:1", false},
        {"[fe80::1]:1", false},
        {"localhost.example:1", false},
        {"localhost4:1", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct address address;
        assert_true(address_parse(&address, rows[i].text));
        if (address_is_loopback(&address) != rows[i].loopback)
            fail_msg("%s", rows[i].text);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ":", "localhost", "localhost:", ":8080", "localhost:http",
        "localhost:65536", "localhost:-1", "localhost:+1", "localhost: 80", "localhost:80 ",
        "localhost:000080", "256.0.0.1:80", "1.2.3:80", "1.2.3.4.5:80", "8080:80", "::1:8080", "[::1]",
        "[]:80", "[::1:80", "::1]:80", "[127.0.0.1]:80", "[::g]:80", "-a:80", "a-:80", "a-.b:80", "a..b:80",
        ".a:80", "a.:80", "a_b:80", "a b:80", "*:80", "http://a:80", "a/b:80", "caf\xc3\xa9:80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:80" /* a label of 64 */};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct address address = {"untouched", 7};
        if (address_parse(&address, bad[i]))
            fail_msg("taken: %s", bad[i]);
        assert_string_equal(address.host, "untouched");
        assert_int_equal(address.port, 7);
    }
}

/* The longest name that fits, and one byte more. */
static void test_long_names(void **state)
{
    (void)state;
    char text[ADDRESS_HOST_MAX + 8];
    memset(text, 'a', sizeof text);
    for (size_t i = 50; i < ADDRESS_HOST_MAX - 1; i += 50)
        text[i] = '.';
    strcpy(text + ADDRESS_HOST_MAX - 1, ":80");
    assert_true(address_parse(NULL, text));
    memset(text + ADDRESS_HOST_MAX - 1, 'a', 1);
    strcpy(text + ADDRESS_HOST_MAX, ":80");
    assert_false(address_parse(NULL, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
