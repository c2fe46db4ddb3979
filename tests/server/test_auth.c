/* The token file and the header, without a socket; rotation under load is in api.py. */
#include "server/auth.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OLD "old-token-0123456789"
#define NEW "new/token+0123456789=="
#define LETTERS_255                                                                                          \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"                                      \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl"                                                                 \
    "mnopqrstuvwxyz0123456789-._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"           \
    "ABCDEFGHIJKL"                                                                                           \
    "MNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01234567"

static char folder[256];
static const struct log silent = {.fd = -1, .level = LOG_ERROR};

static const char *put(const char *text)
{
    const char *path = scratch_write(folder, "tokens", text, strlen(text));
    assert_int_equal(chmod(path, 0640), 0);
    return path;
}

static int try_open(const char *text, struct err *err)
{
    struct auth *auth = NULL;
    const int code = auth_open(&auth, "server.token_file", put(text), &silent, err);
    assert_true((code == 0) == (auth != NULL));
    auth_free(auth);
    return code;
}

static void test_files(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const good[] = {OLD, OLD "\n", OLD "\n" NEW, OLD "\n" NEW "\n",
        LETTERS_255 "\n" LETTERS_255 "\n", "0123456789abcdef\n"};
    static const char *const bad[] = {"", "\n", "0123456789abcde\n", LETTERS_255 "x\n", OLD " \n", OLD "\r\n",
        OLD "\n\n", OLD "\n" NEW "\n" OLD "\n", OLD "\"\n", OLD "\x01\n", OLD "\nshort\n",
        "\xef\xbb\xbf" OLD "\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (try_open(good[i], &err) < 0)
            fail_msg("good file %zu: %s", i, err.message);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (try_open(bad[i], &err) != -ERR_INVALID)
            fail_msg("bad file %zu passes", i);
        assert_null(strstr(err.message, "0123456789abcde"));
        assert_non_null(strstr(err.message, "server.token_file"));
    }
}

static void test_modes(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct auth *auth = NULL;
    const char *path = put(OLD "\n");
    static const mode_t open_to_all[] = {0644, 0604, 0602, 0601};
    for (size_t i = 0; i < sizeof open_to_all / sizeof *open_to_all; i++) {
        chmod(path, open_to_all[i]);
        assert_int_equal(auth_open(&auth, "k", path, &silent, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "open to everybody"));
    }
    assert_int_equal(auth_open(&auth, "k", folder, &silent, &err), -ERR_INVALID);
    assert_true(auth_open(&auth, "k", "/nonexistent/tokens", &silent, &err) < 0);
    assert_int_equal(auth_open(&auth, "k", "", &silent, &err), 0);
    assert_null(auth);
    assert_true(auth_allows(NULL, NULL));
}

static void test_headers(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const good[] = {"Bearer " OLD, "bearer " OLD, "BEARER  " OLD, "Bearer " NEW};
    static const char *const bad[] = {NULL, "", "Bearer", "Bearer ", OLD, "Bearer" OLD, "Basic " OLD,
        "Bearer " OLD " ", "Bearer " OLD "x", "Bearer old-token-012345678", "Bearer " NEW "," OLD,
        "Bearer \t" OLD, "Bearer Old-token-0123456789", "Bearer " LETTERS_255,
        "Bearer " LETTERS_255 LETTERS_255};
    struct auth *auth = NULL;
    assert_int_equal(auth_open(&auth, "k", put(OLD "\n" NEW "\n"), &silent, &err), 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!auth_allows(auth, good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (auth_allows(auth, bad[i]))
            fail_msg("allowed: %s", bad[i] ? bad[i] : "nothing");
    auth_free(auth);
    /* The slot without a token matches nothing. */
    assert_int_equal(auth_open(&auth, "k", put(OLD "\n"), &silent, &err), 0);
    assert_true(auth_allows(auth, good[0]));
    assert_false(auth_allows(auth, "Bearer " NEW));
    assert_false(auth_allows(auth, "Bearer                 "));
    auth_free(auth);
}

static void test_rotation(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct auth *auth = NULL;
    assert_int_equal(auth_open(&auth, "k", put(OLD "\n"), &silent, &err), 0);
    put(OLD "\n" NEW "\n");
    assert_false(auth_allows(auth, "Bearer " NEW)); /* not within the second */
    usleep(1100000);
    assert_true(auth_allows(auth, "Bearer " NEW));
    assert_true(auth_allows(auth, "Bearer " OLD));
    const char *path = put(NEW "\n");
    usleep(1100000);
    assert_false(auth_allows(auth, "Bearer " OLD));
    assert_true(auth_allows(auth, "Bearer " NEW));
    /* Whatever happens to the file, nobody is locked out and nobody let in. */
    unlink(path);
    usleep(1100000);
    assert_true(auth_allows(auth, "Bearer " NEW));
    put("broken\n");
    usleep(1100000);
    assert_true(auth_allows(auth, "Bearer " NEW));
    assert_false(auth_allows(auth, "Bearer " OLD));
    auth_free(auth);
}

static int make_folder(void **state)
{
    (void)state;
    scratch_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_rotation),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
