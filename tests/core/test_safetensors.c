/* What a safetensors file can be wrong in, each with the words that name the place. */
#include "core/half.h"
#include "core/safetensors.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256];

/* A file of this header, header length (0: the true one) and `data` bytes of zeros. */
static const char *write_file(const char *header, uint64_t length, size_t data)
{
    const size_t header_len = strlen(header), size = 8 + header_len + data;
    char *bytes = calloc(1, size + 1);
    if (!length)
        length = header_len;
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(length >> 8 * i);
    memcpy(bytes + 8, header, header_len);
    const char *path = scratch_write(dir, "t.safetensors", bytes, size);
    free(bytes);
    return path;
}

#define T(name, dtype, shape, begin, end)                                                                    \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t length;
        size_t data;
        const char *message;
    } cases[] = {
        {"{}", 1000, 0, "the header claims 1000 bytes, but only 2 follow"},
        {"{}", UINT64_MAX, 0, "the header claims"},
        {"{", 0, 0, "not a JSON object"},
        {"[]", 0, 0, "not a JSON object: another type"},
        {"{\"a\":1,\"a\":2}", 0, 0, "duplicate"},
        {"{\"a\":1}", 0, 0, "tensor a: dtype, shape or data_offsets is missing"},
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 4, 12) "}", 0, 12,
            "tensor b overlaps tensor a"},
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 12, 20) "}", 0, 20,
            "a hole of 4 bytes before tensor b"},
        {"{" T("a", "F32", "[2]", 4, 12) "}", 0, 12, "a hole of 4 bytes before tensor a"},
        {"{" T("a", "F32", "[2]", 0, 8) "}", 0, 12, "4 bytes behind the last tensor"},
        {"{" T("a", "F32", "[3]", 0, 8) "}", 0, 8, "shape and dtype need 12 bytes, data_offsets give 8"},
        {"{" T("a", "F32", "[2]", 0, 8) "}", 0, 4, "its data ends at byte 8, but the file has only 4"},
        {"{" T("a", "F33", "[2]", 0, 8) "}", 0, 8, "unknown dtype F33"},
        {"{" T("a", "F32", "[-2]", 0, 8) "}", 0, 8, "impossible shape"},
        {"{" T("a", "F32", "[4294967296,4294967296,4294967296]", 0, 8) "}", 0, 8, "impossible shape"},
        {"{" T("a", "F32", "[1.5]", 0, 8) "}", 0, 8, "impossible shape"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) "}", 0, 8, "9 dimensions"},
        {"{" T("a", "F32", "[2]", 8, 0) "}", 0, 8, "impossible data_offsets"},
        {"{" T("a", "F32", "[2]", -8, 0) "}", 0, 8, "impossible data_offsets"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors file = {.fd = -5};
        struct err err = ERR_INIT;
        const char *path = write_file(cases[i].header, cases[i].length, cases[i].data);
        if (safetensors_open(&file, path, &err) != -ERR_CORRUPT || !strstr(err.message, cases[i].message) ||
            !strstr(err.message, "t.safetensors: "))
            fail_msg("case %zu: '%s' instead of '%s'", i, err.message, cases[i].message);
        assert_int_equal(file.fd, -5); /* outputs are untouched on failure */
    }
    struct safetensors file;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_open(&file, scratch_write(dir, "t", "abc", 3), &err), -ERR_CORRUPT);
    assert_int_equal(safetensors_open(&file, "/nonexistent/t", &err), -ERR_NOT_FOUND);
}

static void test_dtypes(void **state)
{
    (void)state;
    static const float want[3] = {1.5f, -2.25f, 0.0078125f};
    unsigned char bytes[8 + 512] = {0};
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"}," T("f", "F32", "[3]", 0, 12) "," T(
        "h", "F16", "[1,3]", 12, 18) "," T("b", "BF16", "[3,1]", 18, 24) "," T("i", "I64", "[1]", 24,
        32) "," T("e", "F32", "[0]", 32, 32) "}";
    const size_t len = strlen(header);
    bytes[0] = (unsigned char)len;
    bytes[1] = (unsigned char)(len >> 8);
    memcpy(bytes + 8, header, len);
    memcpy(bytes + 8 + len, want, 12);
    for (size_t i = 0; i < 3; i++) {
        const uint16_t h = f32_to_f16(want[i]), b = f32_to_bf16(want[i]);
        memcpy(bytes + 8 + len + 12 + 2 * i, &h, 2);
        memcpy(bytes + 8 + len + 18 + 2 * i, &b, 2);
    }
    struct safetensors file;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_open(&file, scratch_write(dir, "d", bytes, 8 + len + 32), &err), 0);
    assert_null(safetensors_find(&file, "nothing"));
    for (const char *name = "fhb"; *name; name++) {
        const char one[2] = {*name, 0};
        float got[3];
        assert_int_equal(safetensors_read(&file, safetensors_find(&file, one), got, &err), 0);
        for (size_t i = 0; i < 3; i++)
            assert_true(got[i] == want[i]);
    }
    float nothing;
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "e"), &nothing, &err), 0);
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "i"), &nothing, &err), -ERR_INVALID);
    safetensors_close(&file);
}

static void test_not_finite(void **state)
{
    (void)state;
    float data[20000] = {0};
    char path[300];
    snprintf(path, sizeof path, "%s/n.safetensors", dir);
    const struct safetensors_tensor tensor = {"x", 2, {100, 200}, data};
    struct safetensors file;
    struct err err = ERR_INIT;
    for (int i = 0; i < 2; i++) {
        data[19999] = i ? NAN : INFINITY;
        assert_int_equal(safetensors_write(path, &tensor, 1, NULL, &err), 0);
        assert_int_equal(safetensors_open(&file, path, &err), 0);
        assert_int_equal(safetensors_read(&file, file.entries, data, &err), -ERR_CORRUPT);
        assert_non_null(strstr(err.message, "tensor x: element 19999"));
        safetensors_close(&file);
    }
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_dtypes), cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests_name("safetensors", tests, setup, teardown);
}
