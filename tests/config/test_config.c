#include "config/config.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/embsum-test-config-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *data, size_t len)
{
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void assert_message(const struct err *err, int code, const char *part)
{
    assert_int_equal(err->code, code);
    if (!strstr(err->message, part))
        fail_msg("\"%s\" does not say \"%s\"", err->message, part);
}

/* The file is refused with a message that holds each of the parts, and the configuration stays as it was. */
static void assert_refused(const char *json, const char *const *parts)
{
    struct config config, before;
    struct err err = ERR_INIT;
    write_file(json, strlen(json));
    config_init(&config);
    config.server.workers = 3;
    before = config;
    if (config_load(&config, path, &err) == 0)
        fail_msg("taken: %s", json);
    assert_message(&err, -ERR_INVALID, path);
    for (; *parts; parts++)
        assert_message(&err, -ERR_INVALID, *parts);
    assert_memory_equal(&config, &before, sizeof config);
}
#define REFUSED(json, ...) assert_refused(json, (const char *const[]){__VA_ARGS__, NULL})

static void test_defaults(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    config_init(&config);
    assert_string_equal(config.server.listen, "127.0.0.1:8080");
    assert_int_equal(config.server.workers, 0);
    assert_int_equal(config.server.connections_max, 1024);
    assert_int_equal(config.server.body_max_bytes, 262144);
    assert_int_equal(config.server.header_max_bytes, 16384);
    assert_int_equal(config.server.idle_timeout_ms, 30000);
    assert_int_equal(config.server.shutdown_timeout_ms, 5000);
    assert_int_equal(config.rank.candidates_max, 10000);
    assert_int_equal(config.rank.users_max, 64);
    assert_true(config.rank.default_user);
    assert_string_equal(config.store.url, "lmdb:/var/lib/embsum/store");
    assert_string_equal(config.store.prefix, "embsum");
    assert_string_equal(config.store.password_file, "");
    assert_int_equal(config.store.connect_timeout_ms, 200);
    assert_int_equal(config.store.command_timeout_ms, 200);
    assert_int_equal(config.store.retry_min_ms, 50);
    assert_int_equal(config.store.retry_max_ms, 1000);
    assert_int_equal(config.store.poll_ms, 250);
    assert_int_equal(config.memory.limit_bytes, 1073741824);
    assert_true(config.shadow.share == 0);
    assert_string_equal(config.shadow.generation, "");
    assert_string_equal(config.log.level, "info");
    assert_int_equal(config_check(&config, &err), 0);
}

static void test_file(void **state)
{
    (void)state;
    struct config config, expected;
    struct err err = ERR_INIT;
    const char json[] =
        "{\"server\": {\"listen\": \"[::1]:0\", \"workers\": 2}, \"rank\": {\"default_user\": false},"
        " \"memory\": {}, \"shadow\": {\"share\": 0.01}, \"log\": {\"level\": \"debug\"}}\n";
    write_file(json, strlen(json));
    config_init(&config);
    config_init(&expected);
    strcpy(expected.server.listen, "[::1]:0");
    memset(config.log.level, 'x', 16); /* what stood behind a shorter value must not show */
    config.log.level[16] = '\0';
    expected.server.workers = 2;
    expected.rank.default_user = false;
    strcpy(expected.log.level, "debug");
    if (config_load(&config, path, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(config.server.listen, expected.server.listen);
    assert_string_equal(config.log.level, "debug");
    assert_int_equal(config.server.workers, 2);
    assert_false(config.rank.default_user);
    assert_true(config.shadow.share == 0.01);
    assert_int_equal(config.server.connections_max, expected.server.connections_max);
    assert_string_equal(config.store.url, expected.store.url);
}

static void test_file_unreadable(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    config_init(&config);
    assert_int_equal(config_load(&config, "/nonexistent/embsum.json", &err), -ERR_NOT_FOUND);
    assert_message(&err, -ERR_NOT_FOUND, "/nonexistent/embsum.json: No such file");
    assert_int_equal(config_load(&config, folder, &err), -ERR_IO);
    assert_message(&err, -ERR_IO, folder);
    assert_int_equal(config_load(&config, folder, NULL), -ERR_IO);
}

static void test_file_not_json(void **state)
{
    (void)state;
    REFUSED("", ":1:");
    REFUSED("{", ":1:");
    REFUSED("{\"server\": {\"workers\": 1}\n", ":2:");
    REFUSED("{} x", ":1:");
    REFUSED("{\"server\": {},\n \"server\": {}}", ":2:", "duplicate", "server");
    REFUSED("{\"server\": {\"workers\": 1,\n\n\"workers\": 1}}", ":3:", "duplicate", "workers");
    REFUSED("{\"server\": {\"workers\": 9223372036854775808}}", ":1:", "integer");
    REFUSED("{\"log\": {\"level\": \"info\\u0000\"}}", ":1:");
    REFUSED("{\"log\": {\"level\": \"\xff\"}}", ":1:19: unable to decode byte 0xff");
    REFUSED("[]", "not an object");
}

static void test_file_unknown(void **state)
{
    (void)state;
    REFUSED("{\"sever\": {}}", "\"sever\" is no section",
        "known: server, rank, scoring, store, memory, shadow, log, admin");
    REFUSED("{\"server.listen\": \"a:1\"}", "\"server.listen\" is no section");
    REFUSED("{\"\": {}}", "\"\" is no section");
    REFUSED("{\"serve\": {}}", "\"serve\" is no section");
    REFUSED("{\"server\": {\"worker\": 1}}", "\"worker\" in server is no key",
        "listen, workers, io_threads, queue_max");
    REFUSED("{\"server\": {\"\": 1}}", "\"\" in server is no key");
    REFUSED("{\"rank\": {\"workers\": 1}}", "\"workers\" in rank is no key",
        "candidates_max, users_max, deadline_ms, default_user");
    REFUSED("{\"memory\": {\"new\\nline\": 1}}",
        "\"new\\x0aline\" in memory is no key; known: limit_bytes, preload, warm_ms");
    REFUSED("{\"server\": 5}", "server is 5", "an object");
    REFUSED("{\"server\": [1]}", "server is a list", "an object");
    REFUSED("{\"server\": {\"workers\": 5, \"x\": 1}}", "\"x\" in server"); /* nothing is half loaded */

    char json[400] = "{\"store\": {\"";
    memset(json + strlen(json), 'k', 300);
    strcat(json, "\": 1}}");
    REFUSED(json, "...\" in store is no key");
}

/* The value of an unknown key may be a secret. */
static void test_unknown_value_is_not_shown(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    const char json[] = "{\"store\": {\"password\": \"hunter2\"}}";
    write_file(json, strlen(json));
    config_init(&config);
    assert_int_equal(config_load(&config, path, &err), -ERR_INVALID);
    assert_null(strstr(err.message, "hunter2"));
}

static void test_file_values(void **state)
{
    (void)state;
    REFUSED("{\"server\": {\"workers\": \"2\"}}", "server.workers is \"2\"", "a whole number from 0 to 256");
    REFUSED("{\"server\": {\"workers\": 2.0}}", "server.workers is 2.0;");
    REFUSED("{\"server\": {\"workers\": true}}", "server.workers is true;");
    REFUSED("{\"server\": {\"workers\": null}}", "server.workers is null;");
    REFUSED("{\"server\": {\"workers\": {}}}", "server.workers is an object;");
    REFUSED("{\"server\": {\"workers\": [2]}}", "server.workers is a list;");
    REFUSED("{\"server\": {\"workers\": -1}}", "server.workers is -1;");
    REFUSED("{\"server\": {\"workers\": 257}}", "server.workers is 257;");
    REFUSED(
        "{\"memory\": {\"limit_bytes\": 9223372036854775807}}", "memory.limit_bytes is 9223372036854775807;");
    REFUSED("{\"rank\": {\"default_user\": \"true\"}}", "rank.default_user is \"true\"", "true, false");
    REFUSED("{\"rank\": {\"default_user\": 1}}", "rank.default_user is 1;");
    REFUSED("{\"shadow\": {\"share\": 1.01}}", "shadow.share is 1.01;", "a number from 0 to 1");
    REFUSED("{\"shadow\": {\"share\": -1}}", "shadow.share is -1;");
    REFUSED("{\"shadow\": {\"share\": \"0.5\"}}", "shadow.share is \"0.5\";");
    REFUSED("{\"shadow\": {\"share\": true}}", "shadow.share is true;");
    REFUSED("{\"shadow\": {\"generation\": \"a:b\"}}", "shadow.generation is \"a:b\"", "nothing, or 1 to 63");
    REFUSED("{\"log\": {\"level\": \"INFO\"}}", "log.level is \"INFO\"", "debug, info, warn, error");
    REFUSED("{\"log\": {\"level\": \"\"}}", "log.level is \"\"");
    REFUSED("{\"log\": {\"level\": \"inf\"}}", "log.level is \"inf\"");
    REFUSED("{\"log\": {\"level\": \"debug|info\"}}", "log.level is \"debug|info\"");
    REFUSED("{\"log\": {\"level\": false}}", "log.level is false;");
    REFUSED("{\"server\": {\"listen\": \"8080\"}}", "server.listen is \"8080\"",
        "IPv4:port, [IPv6]:port or name:port");
    REFUSED("{\"server\": {\"listen\": 8080}}", "server.listen is 8080;");
    REFUSED("{\"store\": {\"url\": \"\"}}", "store.url is \"\"", "a text of 1 to 1023 bytes");
    REFUSED("{\"store\": {\"prefix\": \"a{b}\"}}", "store.prefix is \"a{b}\"", "1 to 63 letters");
    REFUSED("{\"store\": {\"prefix\": \"\"}}", "store.prefix is \"\"");
    REFUSED("{\"store\": {\"prefix\": \"\\\"\\u001b[31m\xc3\xa9\"}}",
        "store.prefix is \"\\\"\\x1b[31m\\xc3\\xa9\"");
}

static void test_long_texts(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    char text[CONFIG_STRING_MAX + 1];
    config_init(&config);
    memset(text, 'p', sizeof text);
    text[CONFIG_STRING_MAX - 1] = '\0';
    assert_int_equal(config_set(&config, "store.password_file", text, &err), 0);
    assert_string_equal(config.store.password_file, text);
    text[CONFIG_STRING_MAX - 1] = 'p';
    text[CONFIG_STRING_MAX] = '\0';
    assert_int_equal(config_set(&config, "store.password_file", text, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "ppp...\"; allowed: a text of 0 to 1023 bytes");
    assert_int_equal(strlen(config.store.password_file), CONFIG_STRING_MAX - 1);
    text[64] = '\0';
    assert_int_equal(config_set(&config, "store.prefix", text, &err), -ERR_INVALID);
    text[63] = '\0';
    assert_int_equal(config_set(&config, "store.prefix", text, &err), 0);
}

static void test_set(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    static const char *const bad[][2] = {{"server.workers", ""}, {"server.workers", "two"},
        {"server.workers", "2 "}, {"server.workers", " 2"}, {"server.workers", "+2"},
        {"server.workers", "0x2"}, {"server.workers", "2k"}, {"server.workers", "2-"},
        {"server.workers", "-"}, {"server.workers", "-1"}, {"server.workers", "257"},
        {"server.workers", "99999999999999999999"}, {"rank.default_user", ""}, {"rank.default_user", "yes"},
        {"shadow.share", ""}, {"shadow.share", "."}, {"shadow.share", "1.1"}, {"shadow.share", "-0"},
        {"shadow.share", "1e-3"}, {"shadow.share", "nan"}, {"shadow.share", "0.1.1"}, {"shadow.share", "0x0"},
        {"rank.default_user", "TRUE"}, {"rank.default_user", "truefalse"}, {"log.level", "trace"}};
    config_init(&config);
    assert_int_equal(config_set(&config, "server.workers", "256", &err), 0);
    assert_int_equal(config.server.workers, 256);
    assert_int_equal(config_set(&config, "memory.limit_bytes", "17592186044416", &err), 0);
    assert_int_equal(config.memory.limit_bytes, 17592186044416);
    assert_int_equal(config_set(&config, "rank.default_user", "false", &err), 0);
    assert_false(config.rank.default_user);
    assert_int_equal(config_set(&config, "shadow.share", "0.25", &err), 0);
    assert_true(config.shadow.share == 0.25);
    assert_int_equal(config_set(&config, "shadow.share", "1", &err), 0);
    assert_true(config.shadow.share == 1);
    assert_int_equal(config_set(&config, "log.level", "error", &err), 0);
    assert_string_equal(config.log.level, "error");
    const struct config before = config;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (config_set(&config, bad[i][0], bad[i][1], &err) == 0)
            fail_msg("%s took %s", bad[i][0], bad[i][1]);
        assert_message(&err, -ERR_INVALID, bad[i][0]);
        assert_int_equal(config_set(&config, bad[i][0], bad[i][1], NULL), -ERR_INVALID);
    }
    assert_int_equal(config_set(&config, "server", "2", &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "\"server\" is no key");
    assert_int_equal(config_set(&config, "server.workers.x", "2", &err), -ERR_INVALID);
    assert_memory_equal(&config, &before, sizeof config);
}

static void test_environment(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    char *good[] = {(char[]){"PATH=/bin"}, (char[]){"EMBSUM_SERVER_WORKERS=3"},
        (char[]){"EMBSUM_SERVER_WORKERS=4"}, (char[]){"EMBSUM_SERVICE_HOST=10.0.0.1"},
        (char[]){"EMBSUM_SERVER_PORT=tcp://10.0.0.1:80"}, (char[]){"EMBSUM_SERVER_WORKERS_X=9"},
        (char[]){"EMBSUM_STORE_PASSWORD=secret"}, (char[]){"embsum_log_level=debug"},
        (char[]){"EMBSUM_STORE_URL=redis+unix:/run/r=1"}, (char[]){"EMBSUM_LOG_LEVEL"}, (char[]){"="},
        (char[]){""}, NULL};
    config_init(&config);
    if (config_env(&config, good, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(config.server.workers, 3);
    assert_string_equal(config.store.url, "redis+unix:/run/r=1");
    assert_string_equal(config.log.level, "info");

    char *bad[] = {(char[]){"EMBSUM_LOG_LEVEL=warn"}, (char[]){"EMBSUM_RANK_USERS_MAX=many"}, NULL};
    const struct config before = config;
    assert_int_equal(config_env(&config, bad, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID,
        "environment EMBSUM_RANK_USERS_MAX: rank.users_max is \"many\"; allowed: a whole number from 1 to "
        "10000");
    assert_memory_equal(&config, &before, sizeof config);
    assert_int_equal(config_env(&config, (char *[]){NULL}, &err), 0);
}

static void test_check(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    config_init(&config);
    config.store.retry_min_ms = config.store.retry_max_ms;
    assert_int_equal(config_check(&config, &err), 0);
    config.store.retry_min_ms++;
    assert_int_equal(config_check(&config, &err), -ERR_INVALID);
    assert_message(
        &err, -ERR_INVALID, "store.retry_min_ms is 1001; allowed: at most store.retry_max_ms, 1000");
    config_init(&config);
    config.server.workers = 8;
    config.server.connections_max = 7;
    assert_int_equal(config_check(&config, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "server.workers is 8");
}

/* Where others can connect they need tokens, or the configuration says that they do not. */
static void test_check_listeners(void **state)
{
    (void)state;
    static const struct {
        const char *listen, *tokens, *anonymous, *admin, *admin_tokens;
        const char *message; /* NULL: fine */
    } rows[] = {
        {"127.0.0.1:1", "", "false", "", "", NULL},
        {"localhost:1", "", "false", "[::1]:2", "", NULL},
        {"0.0.0.0:1", "", "false", "", "", "server.listen is \"0.0.0.0:1\", where others can connect"},
        {"[::]:1", "", "false", "", "", "server.listen"},
        {"host:1", "", "false", "", "", "server.listen"},
        {"0.0.0.0:1", "/tokens", "false", "", "", NULL},
        {"0.0.0.0:1", "", "true", "", "", NULL},
        {"0.0.0.0:1", "/tokens", "true", "0.0.0.0:2", "", "admin.listen is \"0.0.0.0:2\""},
        {"127.0.0.1:1", "", "true", "0.0.0.0:2", "/tokens", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config config;
        struct err err = ERR_INIT;
        config_init(&config);
        assert_int_equal(config_set(&config, "server.listen", rows[i].listen, &err), 0);
        assert_int_equal(config_set(&config, "server.token_file", rows[i].tokens, &err), 0);
        assert_int_equal(config_set(&config, "server.allow_anonymous", rows[i].anonymous, &err), 0);
        assert_int_equal(config_set(&config, "admin.listen", rows[i].admin, &err), 0);
        assert_int_equal(config_set(&config, "admin.token_file", rows[i].admin_tokens, &err), 0);
        assert_int_equal(config_check(&config, &err), rows[i].message ? -ERR_INVALID : 0);
        if (rows[i].message)
            assert_message(&err, -ERR_INVALID, rows[i].message);
    }
}

static void test_password(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    char out[CONFIG_STRING_MAX] = "untouched", longest[CONFIG_STRING_MAX + 1];
    config_init(&config);
    unsetenv("EMBSUM_STORE_PASSWORD");
    assert_int_equal(config_password(&config, out, &err), 0);
    assert_string_equal(out, "");
    setenv("EMBSUM_STORE_PASSWORD", "from the environment\n", 1);
    assert_int_equal(config_password(&config, out, &err), 0);
    assert_string_equal(out, "from the environment\n");

    /* The file goes before the environment. */
    strcpy(config.store.password_file, path);
    write_file("s3cret \n\n", 9);
    assert_int_equal(config_password(&config, out, &err), 0);
    assert_string_equal(out, "s3cret \n");
    memset(longest, 'p', sizeof longest);
    longest[CONFIG_STRING_MAX - 1] = '\n';
    write_file(longest, CONFIG_STRING_MAX);
    assert_int_equal(config_password(&config, out, &err), 0);
    assert_int_equal(strlen(out), CONFIG_STRING_MAX - 1);

    strcpy(out, "untouched");
    longest[CONFIG_STRING_MAX - 1] = 'p';
    longest[CONFIG_STRING_MAX] = '\n';
    write_file(longest, CONFIG_STRING_MAX + 1);
    assert_int_equal(config_password(&config, out, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "has more than 1023 bytes");
    assert_null(strstr(err.message, "ppp"));
    write_file("a\0b", 3);
    assert_int_equal(config_password(&config, out, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "NUL");
    write_file("\n", 1);
    assert_int_equal(config_password(&config, out, &err), -ERR_INVALID);
    assert_message(&err, -ERR_INVALID, "is empty");
    strcpy(config.store.password_file, "/nonexistent/password");
    assert_int_equal(config_password(&config, out, &err), -ERR_NOT_FOUND);
    assert_message(&err, -ERR_NOT_FOUND, "store.password_file /nonexistent/password");
    strcpy(config.store.password_file, folder);
    assert_int_equal(config_password(&config, out, &err), -ERR_IO);
    assert_string_equal(out, "untouched");
    unsetenv("EMBSUM_STORE_PASSWORD");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_unreadable),
        cmocka_unit_test(test_file_not_json),
        cmocka_unit_test(test_file_unknown),
        cmocka_unit_test(test_unknown_value_is_not_shown),
        cmocka_unit_test(test_file_values),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_check_listeners),
        cmocka_unit_test(test_password),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
