/* Manifests: there and back, and every way to be wrong, by the key's name. */
#include "store/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct manifest sample(void)
{
    return (struct manifest){.m = 32,
        .n = 4,
        .d = 512,
        .dtype = BLOB_BF16,
        .users = 61,
        .contents = 240,
        .users_least = 61,
        .contents_least = 240,
        .model_sha256 = SHA,
        .created = 1795489200,
        .previous = "20261123T030000Z-1b2c3d4e"};
}

/* One that a refresh is inside of. */
static struct manifest changing(void)
{
    struct manifest manifest = sample();
    manifest.users_least = 60;
    manifest.contents_least = 0;
    manifest.settings = 0x5d41402abc4b2a76;
    manifest.refreshed = 1795489500;
    return manifest;
}

static void assert_same(const struct manifest *a, const struct manifest *b)
{
    assert_int_equal(a->m, b->m);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->d, b->d);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->users, b->users);
    assert_int_equal(a->contents, b->contents);
    assert_int_equal(a->users_least, b->users_least);
    assert_int_equal(a->contents_least, b->contents_least);
    assert_true(a->settings == b->settings);
    assert_true(a->refreshed == b->refreshed);
    assert_string_equal(a->model_sha256, b->model_sha256);
    assert_true(a->created == b->created);
    assert_string_equal(a->previous, b->previous);
}

static void test_text(void **state)
{
    (void)state;
    const struct manifest manifest = sample();
    char *const json = manifest_dump(&manifest);
    assert_string_equal(json,
        "{\"m\": 32, \"n\": 4, \"d\": 512, \"users\": 61, \"contents\": 240, \"dtype\": \"bfloat16\", "
        "\"model_sha256\": \"" SHA "\", \"created\": \"2026-11-24T03:00:00Z\", "
        "\"previous\": \"20261123T030000Z-1b2c3d4e\"}");
    free(json);
    const struct manifest other = changing();
    char *const more = manifest_dump(&other);
    assert_string_equal(more,
        "{\"m\": 32, \"n\": 4, \"d\": 512, \"users\": 61, \"contents\": 240, \"users_least\": 60, "
        "\"contents_least\": 0, \"dtype\": \"bfloat16\", \"model_sha256\": \"" SHA
        "\", \"created\": \"2026-11-24T03:00:00Z\", \"previous\": \"20261123T030000Z-1b2c3d4e\", "
        "\"settings\": \"5d41402abc4b2a76\", \"refreshed\": \"2026-11-24T03:05:00Z\"}");
    free(more);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct manifest in = sample(), out = {0};
    for (int i = 0; i < 3; i++) {
        char *const json = manifest_dump(&in);
        assert_non_null(json);
        assert_int_equal(manifest_parse(&out, json, strlen(json), NULL), 0);
        assert_same(&in, &out);
        free(json);
        in = i ? (struct manifest){.m = 1, .n = 1, .d = 1, .dtype = BLOB_F16}
               : changing(); /* all that may be empty */
    }
}

/* A text with one piece replaced is refused, and the message names what is wrong. */
static void refuse(const char *piece, const char *by, const char *named)
{
    const struct manifest manifest = changing();
    char *const json = manifest_dump(&manifest), text[1024];
    char *const at = strstr(json, piece);
    struct manifest out = {.m = 99};
    struct err err = ERR_INIT;
    assert_non_null(at);
    *at = '\0';
    const int len = snprintf(text, sizeof text, "%s%s%s", json, by, at + strlen(piece));
    assert_int_equal(manifest_parse(&out, text, (size_t)len, &err), -ERR_CORRUPT);
    assert_int_equal(err.code, -ERR_CORRUPT);
    assert_int_equal(out.m, 99);
    if (!strstr(err.message, named))
        fail_msg("\"%s\" does not name \"%s\"", err.message, named);
    free(json);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("\"m\": 32, ", "", "\"m\" is missing");
    refuse("\"n\": 4, ", "", "\"n\" is missing");
    refuse("\"d\": 512, ", "", "\"d\" is missing");
    refuse("\"users\": 61, ", "", "\"users\" is missing");
    refuse("\"contents\": 240, ", "", "\"contents\" is missing");
    refuse("\"dtype\": \"bfloat16\", ", "", "\"dtype\" is missing");
    refuse("\"model_sha256\": \"" SHA "\", ", "", "\"model_sha256\" is missing");
    refuse("\"created\": \"2026-11-24T03:00:00Z\", ", "", "\"created\" is missing");
    refuse("\"previous\": \"20261123T030000Z-1b2c3d4e\", ", "", "\"previous\" is missing");
    refuse("\"m\": 32", "\"m\": 32, \"k\": 1", "unknown key \"k\"");
    refuse("\"m\": 32", "\"m\": 32, \"m\": 32", "duplicate");
    refuse("\"m\": 32", "\"m\": 32.0", "\"m\" is not an integer");
    refuse("\"m\": 32", "\"m\": \"32\"", "\"m\" is not an integer");
    refuse("\"m\": 32", "\"m\": null", "\"m\" is not an integer");
    refuse("\"m\": 32", "\"m\": 0", "\"m\" is 0");
    refuse("\"n\": 4", "\"n\": -4", "\"n\" is -4");
    refuse("\"d\": 512", "\"d\": 65537", "\"d\" is 65537");
    refuse("\"users\": 61", "\"users\": -1", "\"users\" is -1");
    refuse("\"contents\": 240", "\"contents\": 9007199254740993", "\"contents\" is 9007199254740993");
    refuse("\"bfloat16\"", "\"int8\"", "\"dtype\" is unknown: \"int8\"");
    refuse("\"bfloat16\"", "1", "\"dtype\" is not a string");
    refuse(SHA, "0123", "\"model_sha256\"");
    refuse("abcdef0123", "ABCDEF0123", "\"model_sha256\"");
    refuse("2026-11-24T03:00:00Z", "2026-11-24T03:00:00", "\"created\"");
    refuse("2026-11-24T03:00:00Z", "2026-02-30T03:00:00Z", "\"created\"");
    refuse("2026-11-24T03:00:00Z", "2026-13-24T03:00:00Z", "\"created\"");
    refuse("2026-11-24T03:00:00Z", " 026-11-24T03:00:00Z", "\"created\"");
    refuse("2026-11-24T03:00:00Z", "2026-11-24T24:00:00Z", "\"created\"");
    refuse("20261123T030000Z-1b2c3d4e", "a b", "\"previous\"");
    refuse("20261123T030000Z-1b2c3d4e", "a\\u0000b", "manifest");
    refuse("\"users_least\": 60", "\"users_least\": 62", "least");
    refuse("\"contents_least\": 0", "\"contents_least\": 241", "least");
    refuse("\"contents_least\": 0", "\"contents_least\": \"0\"", "\"contents_least\" is not an integer");
    refuse("5d41402abc4b2a76", "5d41402abc4b2a7", "\"settings\"");
    refuse("5d41402abc4b2a76", "5D41402ABC4B2A76", "\"settings\"");
    refuse("\"5d41402abc4b2a76\"", "1", "\"settings\" is not a string");
    refuse("2026-11-24T03:05:00Z", "yesterday", "\"refreshed\"");
    refuse("}", "", "not JSON");
    refuse("}", "} x", "not JSON");
}

static void test_not_an_object(void **state)
{
    (void)state;
    static const char *const texts[] = {"", " ", "[]", "null", "1", "\"x\"", "{", "\xFF"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct manifest out;
        struct err err = ERR_INIT;
        assert_int_equal(manifest_parse(&out, texts[i], strlen(texts[i]), &err), -ERR_CORRUPT);
        assert_non_null(strstr(err.message, "manifest"));
    }
    const size_t len = 1 << 20;
    char *const blanks = malloc(len);
    assert_non_null(blanks);
    memset(blanks, ' ', len);
    struct manifest out;
    assert_int_equal(manifest_parse(&out, blanks, len, NULL), -ERR_CORRUPT);
    free(blanks);
}

/* Every text cut short and every byte changed: no crash, and what is accepted is in range. */
static void test_mutations(void **state)
{
    (void)state;
    const struct manifest manifest = sample();
    char *const json = manifest_dump(&manifest);
    const size_t len = strlen(json);
    struct manifest out;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(manifest_parse(&out, json, i, NULL), -ERR_CORRUPT);
    srand(7);
    for (int i = 0; i < 10000; i++) {
        char *const copy = malloc(len); /* without a NUL behind it */
        assert_non_null(copy);
        memcpy(copy, json, len);
        copy[(size_t)rand() % len] = (char)rand();
        if (manifest_parse(&out, copy, len, NULL) == 0) {
            assert_true(out.m >= 1 && out.m <= 65536 && out.d >= 1 && out.d <= 65536);
            assert_non_null(memchr(out.previous, '\0', sizeof out.previous));
        }
        free(copy);
    }
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_an_object),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
