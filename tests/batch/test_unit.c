/* Units of work and their results: what is written is read, and what is damaged is not. */
#include "batch/unit.h"
#include "tests/lib/scratch.h"

#include <stdlib.h>
#include <string.h>

static const int32_t tokens[] = {32100, 5, 65535, 1, 32100, 7, 1};
static const struct encode_item items[] = {{tokens, 4}, {tokens + 4, 3}, {tokens, 0}};

static struct unit_head head_of(enum blob_kind kind)
{
    struct unit_head head = {.kind = kind,
        .dtype = BLOB_F16,
        .told = true,
        .job = 0xfedcba9876543210u,
        .settings = 77,
        .number = 12,
        .rows = 32,
        .cols = 512};
    strcpy(head.generation, "20261124T030000Z-9f3c2a1b");
    return head;
}

static void write_users(struct unit_bytes *bytes, bool wide)
{
    struct unit_head head = head_of(BLOB_USER);
    const struct unit_entity users[] = {
        {{"U1", 2}, 1111, items, 2}, {{"", 0}, UINT64_MAX, NULL, 0}, {{"\xC3\xA9", 2}, 0, items + 1, 2}};
    struct err err = ERR_INIT;
    head.wide = wide;
    assert_int_equal(unit_begin(bytes, &head, &err), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(unit_put(bytes, &users[i], &err), 0);
    unit_seal(bytes);
}

static void assert_item(const struct encode_item *item, const struct encode_item *expected)
{
    assert_int_equal(item->count, expected->count);
    assert_memory_equal(item->ids, expected->ids, expected->count * sizeof *expected->ids);
}

static void test_users(void **state)
{
    struct unit_bytes bytes = {.used = 0};
    size_t narrow = 0;
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        struct unit unit;
        struct err err = ERR_INIT;
        write_users(&bytes, wide);
        assert_int_equal(unit_read(&unit, bytes.at, bytes.used, &err), 0);
        assert_int_equal(unit.head.kind, BLOB_USER);
        assert_int_equal(unit.head.dtype, BLOB_F16);
        assert_true(unit.head.told && unit.head.wide == wide && unit.head.job == 0xfedcba9876543210u);
        assert_int_equal(unit.head.settings, 77);
        assert_int_equal(unit.head.number, 12);
        assert_true(unit.head.rows == 32 && unit.head.cols == 512);
        assert_string_equal(unit.head.generation, "20261124T030000Z-9f3c2a1b");
        assert_int_equal(unit.count, 3);
        assert_int_equal(unit.token_count, 10);
        assert_memory_equal(unit.entities[0].id.id, "U1", 2);
        assert_int_equal(unit.entities[0].inputs, 1111);
        assert_int_equal(unit.entities[0].item_count, 2);
        assert_item(&unit.entities[0].items[0], &items[0]);
        assert_item(&unit.entities[0].items[1], &items[1]);
        assert_true(unit.entities[1].id.len == 0 && unit.entities[1].item_count == 0);
        assert_true(unit.entities[1].inputs == UINT64_MAX);
        assert_item(&unit.entities[2].items[0], &items[1]);
        assert_item(&unit.entities[2].items[1], &items[2]);
        if (wide)
            assert_int_equal(bytes.used, narrow + 2 * 10);
        narrow = bytes.used;
        unit_done(&unit);
    }
    free(bytes.at);
}

/* Any bit that flips, any byte that is missing or too many. */
static void test_damage(void **state)
{
    struct unit_bytes bytes = {.used = 0};
    struct unit unit;
    struct err err = ERR_INIT;
    (void)state;
    write_users(&bytes, false);
    for (size_t bit = 0; bit < 8 * bytes.used; bit++) {
        bytes.at[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(unit_read(&unit, bytes.at, bytes.used, &err), -ERR_CORRUPT);
        bytes.at[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    for (size_t len = 0; len < bytes.used; len++) {
        unsigned char *exact = malloc(len + 1);
        memcpy(exact, bytes.at, len);
        assert_int_equal(unit_read(&unit, exact, len, &err), -ERR_CORRUPT);
        struct unit_bytes sealed = {exact, len, len};
        if (len > 48) {
            unit_seal(&sealed);
            assert_int_equal(unit_read(&unit, exact, len, &err), -ERR_CORRUPT);
        }
        free(exact);
    }
    struct unit_bytes longer = {calloc(bytes.used + 1, 1), bytes.used + 1, bytes.used + 1};
    memcpy(longer.at, bytes.at, bytes.used);
    unit_seal(&longer);
    assert_int_equal(unit_read(&unit, longer.at, longer.used, &err), -ERR_CORRUPT);
    free(longer.at);
    free(bytes.at);
}

static void test_contents(void **state)
{
    const struct unit_entity good = {{"N1", 2}, 5, items, 1}, two = {{"N1", 2}, 5, items, 2},
                             nobody = {{"", 0}, 5, items, 1}, blank = {{"N 1", 3}, 5, items, 1};
    const struct unit_entity *entities[] = {&good, &two, &nobody, &blank};
    struct unit_bytes bytes = {.used = 0};
    struct unit_head head = head_of(BLOB_CONTENT);
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct unit unit;
        struct err err = ERR_INIT;
        assert_int_equal(unit_begin(&bytes, &head, &err), 0);
        assert_int_equal(unit_put(&bytes, entities[i], &err), 0);
        unit_seal(&bytes);
        assert_int_equal(unit_read(&unit, bytes.at, bytes.used, &err), i ? -ERR_CORRUPT : 0);
        if (!i)
            unit_done(&unit);
    }
    free(bytes.at);
}

/* What a model would read outside of its tables, or compute in another shape. */
static void test_fits(void **state)
{
    struct model_config config = {
        .d_model = 512, .vocab_size = 65536, .user_codes = 32, .content_codes = 4, .max_items = 2};
    const struct unit_entity user = {{"U1", 2}, 1, items, 2};
    struct unit_head head = head_of(BLOB_USER);
    struct unit_bytes bytes = {.used = 0};
    struct unit unit;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(unit_begin(&bytes, &head, &err), 0);
    assert_int_equal(unit_put(&bytes, &user, &err), 0);
    unit_seal(&bytes);
    assert_int_equal(unit_read(&unit, bytes.at, bytes.used, &err), 0);
    assert_int_equal(unit_fits(&unit, &config, 4, &err), 0);
    config.vocab_size = 65535;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    config.vocab_size = 65536;
    unit.tokens[1] = -1;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    unit.tokens[1] = 0;
    assert_int_equal(unit_fits(&unit, &config, 3, &err), -ERR_INVALID);
    config.max_items = 1;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    config.max_items = 2;
    unit.items[1].count = 0;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    unit.items[1].count = 1;
    config.user_codes = 31;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    config.user_codes = 32;
    config.d_model = 511;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), -ERR_INVALID);
    config.d_model = 512;
    assert_int_equal(unit_fits(&unit, &config, 4, &err), 0);
    unit_done(&unit);
    free(bytes.at);
}

/* ---- results ---- */

static void test_result(void **state)
{
    struct unit_refusal refused[] = {{{"U1", 2}, "a \"NaN\""}, {{"", 0}, "why"}};
    const struct unit_result result = {0x00000000000000ffu, UINT32_MAX, 8192, 1.25, refused, 2};
    struct unit_result read;
    struct err err = ERR_INIT;
    char *text = unit_result_write(&result);
    (void)state;
    assert_string_equal(text,
        "{\"job\":\"00000000000000ff\",\"unit\":4294967295,\"tokens\":8192,\"seconds\":1.25,"
        "\"refused\":[{\"id\":\"U1\",\"why\":\"a \\\"NaN\\\"\"},{\"id\":\"\",\"why\":\"why\"}]}");
    assert_int_equal(unit_result_read(&read, text, strlen(text), &err), 0);
    assert_true(read.job == 255 && read.number == UINT32_MAX && read.tokens == 8192 && read.seconds == 1.25);
    assert_int_equal(read.refused_count, 2);
    assert_string_equal(read.refused[0].id.id, "U1");
    assert_string_equal(read.refused[0].why, "a \"NaN\"");
    assert_true(read.refused[1].id.len == 0);
    unit_result_done(&read);
    for (size_t len = 0; len < strlen(text); len++)
        assert_int_equal(unit_result_read(&read, text, len, &err), -ERR_CORRUPT);
    free(text);
    static const char *const bad[] = {"[]", "{}",
        "{\"job\":\"00000000000000fg\",\"unit\":1,\"tokens\":1,\"seconds\":1,\"refused\":[]}",
        "{\"job\":\"ff\",\"unit\":1,\"tokens\":1,\"seconds\":1,\"refused\":[]}",
        "{\"job\":\"00000000000000ff\",\"unit\":-1,\"tokens\":1,\"seconds\":1,\"refused\":[]}",
        "{\"job\":\"00000000000000ff\",\"unit\":4294967296,\"tokens\":1,\"seconds\":1,\"refused\":[]}",
        "{\"job\":\"00000000000000ff\",\"unit\":1,\"tokens\":-1,\"seconds\":1,\"refused\":[]}",
        "{\"job\":\"00000000000000ff\",\"unit\":1,\"tokens\":1,\"seconds\":1,\"refused\":[{\"id\":1}]}",
        "{\"job\":\"00000000000000ff\",\"unit\":1,\"tokens\":1,\"seconds\":\"1\",\"refused\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(unit_result_read(&read, bad[i], strlen(bad[i]), &err), -ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
