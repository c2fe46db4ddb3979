/* Item text and session windows, on the vocabulary of tests/golden/tiny. */
#include "core/text.h"
#include "tests/lib/scratch.h"

#include <string.h>

static struct model_config config;
static struct tokenizer *tokenizer;
static struct text_scratch scratch;

static size_t tokens(int32_t *ids, const char *title, const char *abstract, const char *category)
{
    struct text_item item = {0};
    struct err err = ERR_INIT;
    size_t count = 0;
    item.column[TEXT_TITLE].bytes = title;
    item.column[TEXT_TITLE].len = strlen(title);
    item.column[TEXT_ABSTRACT].bytes = abstract;
    item.column[TEXT_ABSTRACT].len = strlen(abstract);
    item.column[TEXT_CATEGORY].bytes = category;
    item.column[TEXT_CATEGORY].len = strlen(category);
    item.column[TEXT_SUBCATEGORY].bytes = "";
    if (text_item_tokens(&config, tokenizer, &item, ids, &count, &scratch, &err) < 0)
        fail_msg("%s", err.message);
    return count;
}

static void test_item(void **state)
{
    (void)state;
    int32_t ids[256], field[256];
    size_t found;
    assert_true(text_item_max(&config) <= 256);
    /* An item without a text is SOS and </s>; a field that is empty is left out with its prefix. */
    assert_int_equal(tokens(ids, "", "", ""), 2);
    assert_int_equal(ids[0], config.sos_id);
    assert_int_equal(ids[1], config.eos_id);
    const size_t count = tokens(ids, "a", "", "b");
    assert_int_equal(
        tokenizer_encode(tokenizer, "News Title: a;", strlen("News Title: a;"), field, 256, &found, NULL), 0);
    assert_memory_equal(ids + 1, field, found * sizeof *ids);
    size_t more;
    assert_int_equal(
        tokenizer_encode(tokenizer, "News Category: b", strlen("News Category: b"), field, 8, &more, NULL),
        0);
    if (more > 8)
        more = 8;
    assert_memory_equal(ids + 1 + found, field, more * sizeof *ids);
    assert_int_equal(count, 2 + found + more);
    /* Every field is cut to its own limit. */
    char text[5001];
    memset(text, 'x', 5000);
    text[5000] = '\0';
    assert_int_equal(tokens(ids, text, text, text), text_item_max(&config));
    assert_int_equal(ids[text_item_max(&config) - 1], config.eos_id);
}

static void test_window(void **state)
{
    (void)state;
    static const struct {
        size_t session, max, items, start;
    } cases[] = {{4, 60, 0, 0}, {4, 60, 1, 0}, {4, 60, 59, 0}, {4, 60, 60, 0}, {4, 60, 61, 4}, {4, 60, 63, 4},
        {4, 60, 64, 4}, {4, 60, 65, 8}, {4, 60, 200, 140}, {1, 60, 61, 1}, {3, 10, 11, 3}, {3, 10, 13, 3},
        {3, 10, 14, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct model_config c = {.session_size = cases[i].session, .max_items = cases[i].max};
        assert_int_equal(text_window_start(&c, cases[i].items), cases[i].start);
    }
    /* One more click changes the last session alone, but where the window moves by one session. */
    const struct model_config c = {.session_size = 4, .max_items = 60};
    for (size_t items = 0; items < 300; items++) {
        const size_t start = text_window_start(&c, items), next = text_window_start(&c, items + 1);
        assert_true(start % 4 == 0 && items - start <= 60 && (start == 0 || items - start > 56));
        assert_true(next == start || next == start + 4);
    }
    const struct model_config alone = {.session_size = 4, .max_items = 60, .ablation = ABLATION_NO_GROUPING};
    assert_int_equal(text_window_start(&alone, 61), 1);
}

static int setup(void **state)
{
    (void)state;
    const char *text =
        "{\"d_model\":8,\"d_kv\":4,\"d_ff\":16,\"num_heads\":2,\"num_layers\":3,\"vocab_size\":100000,"
        "\"embsum\":{\"sos_token_id\":99999}}";
    if (model_config_parse(&config, text, strlen(text), NULL) < 0)
        return -1;
    return tokenizer_load(&tokenizer, "tests/golden/tiny/spiece.model", NULL);
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_free(tokenizer);
    text_scratch_done(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_item), cmocka_unit_test(test_window)};
    return cmocka_run_group_tests_name("text", tests, setup, teardown);
}
