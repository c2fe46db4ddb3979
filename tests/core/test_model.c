/* Models drawn from seeds, written, read, and refused. */
#include "core/model.h"
#include "core/safetensors.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256], config_path[300], file_path_[300];

static const char config[] =
    "{\"d_model\":8,\"d_kv\":4,\"d_ff\":16,\"num_heads\":3,\"num_layers\":2,\"vocab_size\":50,"
    "\"embsum\":{\"sos_token_id\":49,\"m\":3,\"n\":2,\"code_dim\":5}}";
static const char other[] =
    "{\"d_model\":8,\"d_kv\":4,\"d_ff\":16,\"num_heads\":3,\"num_layers\":2,\"vocab_size\":50,"
    "\"feed_forward_proj\":\"gated-gelu\",\"tie_word_embeddings\":false,"
    "\"embsum\":{\"sos_token_id\":49,\"m\":3,\"n\":2,\"code_dim\":5}}";

static struct model *init(const char *text, unsigned long seed)
{
    struct model *model = NULL;
    struct err err = ERR_INIT;
    scratch_write(dir, "config.json", text, strlen(text));
    if (model_init(&model, config_path, seed, &err) < 0)
        fail_msg("%s", err.message);
    return model;
}

static void test_draw(void **state)
{
    (void)state;
    struct model *a = init(config, 1), *b = init(config, 1), *c = init(config, 2);
    assert_memory_equal(a->params, b->params, a->param_count * sizeof *a->params);
    assert_memory_not_equal(a->params, c->params, a->param_count * sizeof *a->params);
    for (size_t i = 0; i < a->tensor_count; i++) {
        const struct model_tensor *t = &a->tensors[i];
        double sum = 0;
        for (size_t k = 0; k < t->rows * t->cols; k++)
            sum += pow((double)a->params[t->offset + k], 2);
        const double deviation = sqrt(sum / (double)(t->rows * t->cols)),
                     want = t->deviation > 0 ? t->deviation : 1;
        assert_true(fabs(deviation - want) < 0.45 * want);
    }
    assert_ptr_equal(a->lm_head, a->shared);
    assert_ptr_equal(a->encoder[0].self.k, a->encoder[0].self.q + 12 * 8);
    assert_ptr_equal(a->decoder[1].cross.v, a->decoder[1].cross.k + 12 * 8);
    model_free(a);
    model_free(b);
    model_free(c);
}

static void test_save_load(void **state)
{
    (void)state;
    const char *const texts[] = {config, other};
    for (size_t i = 0; i < 2; i++) {
        struct model *a = init(texts[i], 3), *b = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(model_save(a, dir, &err), 0);
        assert_int_equal(model_load(&b, dir, NULL, &err), 0);
        assert_memory_equal(a->params, b->params, a->param_count * sizeof *a->params);
        model_free(a);
        model_free(b);
    }
}

/* Write the tensors of a model with one of them changed. */
static void write_changed(const struct model *model, void (*change)(struct safetensors_tensor *, size_t *))
{
    struct safetensors_tensor tensors[256] = {0};
    size_t count = model->tensor_count;
    for (size_t i = 0; i < count; i++) {
        const struct model_tensor *t = &model->tensors[i];
        tensors[i] = (struct safetensors_tensor){
            t->name, t->dims, {t->dims == 1 ? t->cols : t->rows, t->cols}, model->params + t->offset};
    }
    change(tensors, &count);
    assert_int_equal(safetensors_write(file_path_, tensors, count, NULL, NULL), 0);
}

static const float zeros[50 * 8] = {0};
static void drop_last(struct safetensors_tensor *t, size_t *count)
{
    (void)t;
    --*count;
}
static void drop_heads(struct safetensors_tensor *t, size_t *count)
{
    (void)t;
    *count -= 5;
}
static void add_unknown(struct safetensors_tensor *t, size_t *count)
{
    t[(*count)++] = (struct safetensors_tensor){"encoder.what", 1, {3}, zeros};
}
static void add_copies(struct safetensors_tensor *t, size_t *count)
{
    t[(*count)++] = (struct safetensors_tensor){"encoder.embed_tokens.weight", 2, {50, 8}, zeros};
    t[(*count)++] = (struct safetensors_tensor){"lm_head.weight", 2, {50, 8}, zeros};
}
static void turn(struct safetensors_tensor *t, size_t *count)
{
    (void)count;
    t[0].shape[0] = 8;
    t[0].shape[1] = 50;
}
static void flatten(struct safetensors_tensor *t, size_t *count)
{
    (void)count;
    t[0].dims = 1;
    t[0].shape[0] = 400;
}
static float with_nan[50 * 8];
static void spoil(struct safetensors_tensor *t, size_t *count)
{
    (void)count;
    with_nan[7] = NAN;
    t[0].data = with_nan;
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        void (*change)(struct safetensors_tensor *, size_t *);
        int result;
        const char *message;
    } cases[] = {
        {drop_last, -ERR_INVALID, "tensor embsum.score.proj is missing"},
        {drop_heads, -ERR_INVALID, "tensor embsum.user.codes is missing"},
        {add_unknown, -ERR_INVALID, "unknown tensor encoder.what"},
        {turn, -ERR_INVALID, "tensor shared.weight has shape [8, 50], but the config asks for [50, 8]"},
        {flatten, -ERR_INVALID, "tensor shared.weight has shape [400], but the config asks for [50, 8]"},
        {spoil, -ERR_CORRUPT, "tensor shared.weight: element 7 is not a finite number"},
        {add_copies, 0, ""},
    };
    struct model *model = init(config, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *loaded = NULL;
        struct err err = ERR_INIT;
        write_changed(model, cases[i].change);
        const int result = model_load(&loaded, dir, NULL, &err);
        if (result != cases[i].result || !strstr(err.message, cases[i].message))
            fail_msg("case %zu: '%s' instead of '%s'", i, err.message, cases[i].message);
        assert_true((loaded != NULL) == (result == 0));
        model_free(loaded);
    }
    model_free(model);
}

static void test_plain_t5(void **state)
{
    (void)state;
    const struct model_load_options options = {.plain_t5 = true, .seed = 9};
    struct model *model = init(config, 9), *loaded = NULL;
    struct err err = ERR_INIT;
    write_changed(model, drop_heads);
    assert_int_equal(model_load(&loaded, dir, &options, &err), 0);
    assert_memory_equal(model->params, loaded->params, model->param_count * sizeof *model->params);
    model_free(loaded);
    write_changed(model, drop_last); /* some heads but not all: not a plain checkpoint, a damaged model */
    assert_int_equal(model_load(&loaded, dir, &options, &err), -ERR_INVALID);
    model_free(model);
}

static void test_ablation_needs_less(void **state)
{
    (void)state;
    struct model *model = init(config, 1), *loaded = NULL;
    struct err err = ERR_INIT;
    char text[512];
    write_changed(model, drop_heads);
    snprintf(text, sizeof text, "%.*s,\"ablation\":\"no_upe\"}}", (int)strlen(config) - 2, config);
    scratch_write(dir, "config.json", text, strlen(text));
    assert_int_equal(model_load(&loaded, dir, NULL, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "embsum.content.codes")); /* the user's are not needed */
    model_free(model);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    snprintf(config_path, sizeof config_path, "%s/config.json", dir);
    snprintf(file_path_, sizeof file_path_, "%s/model.safetensors", dir);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draw), cmocka_unit_test(test_save_load),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_plain_t5),
        cmocka_unit_test(test_ablation_needs_less)};
    return cmocka_run_group_tests_name("model", tests, setup, teardown);
}
