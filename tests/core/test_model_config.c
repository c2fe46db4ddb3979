#include "core/model_config.h"
#include "tests/lib/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T5 "\"d_model\":8,\"d_kv\":4,\"d_ff\":16,\"num_heads\":2,\"num_layers\":3,\"vocab_size\":100"
#define SOS "\"embsum\":{\"sos_token_id\":99}"

static int parse(struct model_config *config, const char *text, struct err *err)
{
    return model_config_parse(config, text, strlen(text), err);
}

static void test_defaults(void **state)
{
    (void)state;
    struct model_config c;
    struct err err = ERR_INIT;
    assert_int_equal(parse(&c, "{" T5 "," SOS "}", &err), 0);
    assert_int_equal(c.decoder_layers, 3);
    assert_int_equal(c.relative_buckets, 32);
    assert_int_equal(c.relative_max_distance, 128);
    assert_true(c.layer_norm_epsilon == 1e-6 && c.tied && !c.gated);
    assert_int_equal(c.user_codes, 32);
    assert_int_equal(c.content_codes, 4);
    assert_int_equal(c.code_dim, 256);
    assert_int_equal(c.session_size, 4);
    assert_int_equal(c.max_items, 60);
    assert_int_equal(c.max_summary_tokens, 96);
    assert_int_equal(c.field_count, 3);
    assert_string_equal(c.fields[0].prefix, "News Title: ");
    assert_int_equal(c.fields[1].max_tokens, 72);
    assert_string_equal(c.fields[2].suffix, "");
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line"},
        {"[]", "must hold a JSON object"},
        {"{" T5 "," SOS ",\"d_kv\":4}", "duplicate"},
        {"{\"d_model\":8}", "key d_kv is missing"},
        {"{" T5 "}", "embsum.sos_token_id is 32100, but vocab_size is 100"},
        {"{" T5 "," SOS ",\"eos_token_id\":100}", "eos_token_id is 100"},
        {"{" T5 "," SOS ",\"layer_norm_epsilon\":\"x\"}", "layer_norm_epsilon must be a number"},
        {"{" T5 "," SOS ",\"num_decoder_layers\":1.5}", "num_decoder_layers must be an integer"},
        {"{" T5 "," SOS ",\"num_decoder_layers\":1000}", "num_decoder_layers is 1000"},
        {"{" T5 "," SOS ",\"tie_word_embeddings\":1}", "tie_word_embeddings must be true or false"},
        {"{" T5 "," SOS ",\"feed_forward_proj\":\"gated-silu\"}", "feed_forward_proj must be"},
        {"{" T5 "," SOS ",\"feed_forward_proj\":1}", "feed_forward_proj must be"},
        {"{" T5 "," SOS ",\"model_type\":\"bart\"}", "model_type must be t5"},
        {"{" T5 "," SOS ",\"relative_attention_max_distance\":16}", "must exceed half"},
        {"{" T5 ",\"embsum\":[]}", "embsum must be an object"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"codes\":3}}", "unknown key embsum.codes"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"m\":0}}", "embsum: key m is 0"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"m\":true}}", "embsum: key m must be an integer"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"ablation\":\"no\"}}", "'no' is no ablation"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"ablation\":1}}", "embsum.ablation must be a string"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"session_size\":61}}",
            "max_items is 60, less than one session of 61"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"fields\":[]}}", "embsum.fields must be a list of 1 to"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"fields\":[1]}}", "embsum.fields[0]: must be an object"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"fields\":[{\"column\":\"url\",\"max_tokens\":3}]}}",
            "column must be"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"fields\":[{\"column\":\"title\"}]}}",
            "max_tokens must be"},
        {"{" T5
         ",\"embsum\":{\"sos_token_id\":99,\"fields\":[{\"column\":\"title\",\"max_tokens\":3,\"size\":1}]}}",
            "unknown key size"},
        {"{" T5 ",\"embsum\":{\"sos_token_id\":99,\"fields\":[{\"column\":\"title\",\"max_tokens\":3,"
         "\"prefix\":1}]}}",
            "prefix must be a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config c = {.d_model = 77};
        struct err err = ERR_INIT;
        if (parse(&c, cases[i].text, &err) != -ERR_INVALID || !strstr(err.message, cases[i].message))
            fail_msg("case %zu: '%s' instead of '%s'", i, err.message, cases[i].message);
        assert_int_equal(c.d_model, 77);
    }
}

static void test_dump(void **state)
{
    (void)state;
    struct model_config c, again;
    struct err err = ERR_INIT;
    const char *text =
        "{" T5
        ",\"n_positions\":512,\"embsum\":{\"sos_token_id\":99,\"m\":5,\"ablation\":\"no_upe\",\"fields\":"
        "[{\"column\":\"subcategory\",\"max_tokens\":3,\"prefix\":\"a \\\"b\\\" \"}]}}";
    assert_int_equal(parse(&c, text, &err), 0);
    assert_int_equal(model_m(&c), 1);
    assert_int_equal(model_n(&c), 4);
    char *dumped = model_config_dump(&c, text, strlen(text));
    assert_non_null(strstr(dumped, "n_positions")); /* what is not ours stays */
    assert_int_equal(parse(&again, dumped, &err), 0);
    assert_memory_equal(&c, &again, sizeof c);
    free(dumped);
    dumped = model_config_dump(&c, NULL, 0);
    assert_int_equal(parse(&again, dumped, &err), 0);
    assert_memory_equal(&c, &again, sizeof c);
    free(dumped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_refused), cmocka_unit_test(test_dump)};
    return cmocka_run_group_tests_name("model_config", tests, NULL, NULL);
}
