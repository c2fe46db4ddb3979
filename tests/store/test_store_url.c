/* What store_open takes and what it says about the rest. Nothing is connected to. */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int open_url(const char *url, const struct store_options *options, struct err *err)
{
    struct store *store = NULL;
    const int rc = store_open(&store, url, options, err);
    assert_true((rc == 0) == (store != NULL));
    store_close(store);
    return rc;
}

static void test_good(void **state)
{
    (void)state;
    static const char *const urls[] = {"redis://localhost", "redis://localhost/", "redis://localhost:6379",
        "redis://localhost:6379/", "redis://localhost:65535/15", "redis://[::1]", "redis://[::1]:7000/3",
        "redis://10.0.0.1/0", "redis+unix:/run/redis.sock", "redis+unix:/run/redis.sock?db=2",
        "redis+unix:relative.sock", "redis+cluster://a", "redis+cluster://a:1,[::1],10.0.0.1:2/0",
        "redis+sentinel://a/name", "redis+sentinel://a:1,b,[::1]:3/my-master.1?db=2"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct err err = ERR_INIT;
        if (open_url(urls[i], NULL, &err) < 0)
            fail_msg("%s: %s", urls[i], err.message);
    }
    struct store_options options = STORE_OPTIONS_INIT;
    options.password = "p";
    assert_int_equal(open_url("redis://daemon@localhost:1/2", &options, NULL), 0);
    assert_int_equal(open_url("redis+unix:/s?user=daemon&db=1", &options, NULL), 0);
    assert_int_equal(open_url("redis+sentinel://daemon@a,b/name", &options, NULL), 0);
    assert_int_equal(open_url("redis+unix:/s?db=1&user=daemon", &options, NULL), 0);
}

static void refuse(const char *url, const char *says)
{
    struct err err = ERR_INIT;
    const int rc = open_url(url, NULL, &err);
    if (rc != -ERR_INVALID)
        fail_msg("%s: %d %s", url, rc, err.message);
    assert_int_equal(err.code, rc);
    if (!strstr(err.message, says))
        fail_msg("%s: \"%s\" does not say \"%s\"", url, err.message, says);
    if (strstr(err.message, "s3cret"))
        fail_msg("%s: the message shows the password", url);
}

static void test_bad(void **state)
{
    (void)state;
    char url[1024];
    refuse("", "no scheme");
    refuse("/var/lib/embsum", "no scheme");
    refuse("localhost", "no scheme");
    refuse("://x", "unknown scheme");
    refuse("http://localhost", "unknown scheme \"http:\"");
    refuse("LMDB:/x", "unknown scheme");
    refuse("redis:localhost", "unknown scheme \"redis:\"");
    refuse("rediss://localhost", "unknown scheme \"rediss:\"");
    refuse("redis+cluster://", "host is missing");
    refuse("redis+cluster://a:1,", "host is missing");
    refuse("redis+cluster://a:x,b", "port");
    refuse("redis+cluster://a,b/1", "database 0");
    refuse("redis+cluster://a,b/name", "database 0");
    refuse("redis+cluster://a?db=1", "database 0");
    refuse("redis+cluster://daemon@a", "no password");
    refuse("redis+cluster://u:s3cret@a,b", "password has no place");
    refuse("redis+sentinel://a:1", "what they call the master");
    refuse("redis+sentinel://a:1/", "what they call the master");
    refuse("redis+sentinel://a:1/a b", "what they call the master");
    refuse("redis+sentinel://a:1?db=1", "what they call the master");
    refuse("redis+sentinel:///name", "host is missing");
    refuse("redis+sentinel://a,,b/name", "host is missing");
    refuse("redis+sentinel://a,/name", "host is missing");
    refuse("redis+sentinel://a:0,b/name", "port");
    refuse("redis+sentinel://a/name?db=x", "database");
    refuse("redis+sentinel://a/name/1", "what they call the master");
    refuse("redis+sentinel://daemon@a/name", "no password");
    refuse("redis+sentinel://u:s3cret@a/name", "password has no place");
    refuse("lmdb:", "needs the path");
    refuse("redis://", "host is missing");
    refuse("redis:///0", "host is missing");
    refuse("redis://:6379", "host is missing");
    refuse("redis://[]:1", "host is missing");
    refuse("redis://[::1", "no ]");
    refuse("redis://[::1]x", "after [host]");
    refuse("redis://h:", "port");
    refuse("redis://h:0", "port");
    refuse("redis://h:65536", "port");
    refuse("redis://h:-1", "port");
    refuse("redis://h:6379x", "port");
    refuse("redis://h:06379", "port");
    refuse("redis://h:1:2", "port");
    refuse("redis://h/x", "database");
    refuse("redis://h/-1", "database");
    refuse("redis://h/1/2", "database");
    refuse("redis://h/99999999999999999999", "database");
    refuse("redis://@h", "user is missing");
    refuse("redis://daemon@h", "no password");
    refuse("redis://daemon:s3cret@h", "password has no place");
    refuse("redis://:s3cret@h", "password has no place");
    refuse("redis+unix:", "path of the socket is missing");
    refuse("redis+unix:?db=1", "path of the socket is missing");
    refuse("redis+unix:/s?", "after ?");
    refuse("redis+unix:/s?x=1", "after ?");
    refuse("redis+unix:/s?db=", "database");
    refuse("redis+unix:/s?db=1&", "after ?");
    refuse("redis+unix:/s?user=", "user is missing");
    refuse("redis+unix:/s?user=u:s3cret", "password has no place");
    memset(url, 'a', sizeof url);
    memcpy(url, "redis+unix:/", 12);
    url[sizeof url - 1] = '\0';
    refuse(url, "longer than 107 bytes");
    memcpy(url, "redis://", 8);
    memset(url + 8, 'a', 4);
    refuse(url, "longer than 255 bytes");
}

static void test_options(void **state)
{
    (void)state;
    static const struct {
        struct store_options options;
        const char *says;
    } cases[] = {
        {{"", NULL, 1, 1, 1, 1, false}, "prefix"},
        {{"a:b", NULL, 1, 1, 1, 1, false}, "prefix"},
        {{"a*", NULL, 1, 1, 1, 1, false}, "prefix"},
        {{"{a}", NULL, 1, 1, 1, 1, false}, "prefix"},
        {{"0123456789012345678901234567890123456789012345678901234567890123", NULL, 1, 1, 1, 1, false},
            "prefix"},
        {{NULL, NULL, 0, 1, 1, 1, false}, "timeouts"},
        {{NULL, NULL, 1, -1, 1, 1, false}, "timeouts"},
        {{NULL, NULL, 1, 1, 0, 1, false}, "retry"},
        {{NULL, NULL, 1, 1, 2, 1, false}, "retry"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = ERR_INIT;
        assert_int_equal(open_url("redis://h", &cases[i].options, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    const struct store_options good = {"my-app.prod_2", NULL, 1, 1, 1, 1, true};
    assert_int_equal(open_url("redis://h", &good, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests_name("store URL", tests, NULL, NULL);
}
