/* T5's sublayers, stacks and cross-entropy against central differences, every input and every parameter of each
 * (tests/lib/differences.h says why the bound holds): relu and gated-gelu, tied and untied, with dropout and without, and
 * with more rows than a sublayer works on at a time. */
#include "core/gemm.h"
#include "core/t5_int.h"
#include "tests/lib/differences.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CONFIG                                                                                               \
    "{\"model_type\": \"t5\", \"d_model\": 19, \"d_kv\": 5, \"d_ff\": 21, \"num_heads\": 2, "                \
    "\"num_layers\": 2, \"num_decoder_layers\": 2, \"vocab_size\": 29, "                                     \
    "\"relative_attention_num_buckets\": 8, \"relative_attention_max_distance\": 12, "                       \
    "\"layer_norm_epsilon\": 0.01, \"feed_forward_proj\": \"%s\", \"tie_word_embeddings\": %s, "             \
    "\"embsum\": {\"m\": 2, \"n\": 2, \"code_dim\": 3, \"sos_token_id\": 28}}"

enum { D = 19, VOCAB = 29, ROWS = 270, TENSORS = 64 };

/* A kernel with all that any of them needs. x is the input that is no parameter: hidden, or the source. */
struct t5_case {
    struct model *model;
    float *grads; /* laid out like the parameters */
    struct t5_scratch *scratch;
    struct t5_tape *tape;
    float x[ROWS * D], dx[ROWS * D], y[ROWS * D], dy[ROWS * D];
    int32_t ids[ROWS];
    size_t rows; /* of y */
    const size_t *offsets, *source_offsets;
    size_t count; /* of sequences */
    struct t5_dropout dropout;
    bool causal;
};
static struct t5_case the_case;

/* Sequences of 1, 4 and 67 tokens, more than attention's block of queries; and short ones, for relu: few values near its
 * bend. Sources of other lengths. */
static const size_t long_offsets[] = {0, 1, 5, 72}, short_offsets[] = {0, 1, 3, 6},
                    source_offsets[] = {0, 6, 7, 16};

/* Inputs of each activation are of order 1; queries and keys are short, so that attention is no step function. */
static double deviation(const struct model_tensor *tensor)
{
    if (tensor->dims == 1)
        return 0.3;
    if (strstr(tensor->name, "shared") || strstr(tensor->name, "bias"))
        return 1;
    const bool short_ones = strstr(tensor->name, "Attention.q.") || strstr(tensor->name, "Attention.k.");
    return (short_ones ? 0.5 : 1) / sqrt((double)tensor->cols);
}

/* A model with all tensors drawn, norms around 1. */
static struct t5_case *begin(const char *feed_forward, const char *tied, const size_t *offsets, float dropout)
{
    struct t5_case *c = &the_case;
    char dir[256], text[1024];
    struct err err = ERR_INIT;
    const int length = snprintf(text, sizeof text, CONFIG, feed_forward, tied);
    *c = (struct t5_case){.offsets = offsets,
        .source_offsets = source_offsets,
        .count = 3,
        .rows = offsets[3],
        .dropout = {dropout, 5}};
    scratch_make(dir);
    if (model_init(&c->model, scratch_write(dir, "config.json", text, (size_t)length), 1, &err) < 0)
        fail_msg("%s", err.message);
    scratch_remove(dir);
    assert_int_equal(c->model->config.d_model, D);
    for (size_t t = 0; t < c->model->tensor_count; t++) {
        const struct model_tensor *tensor = &c->model->tensors[t];
        struct rng rng = rng_seed(4, t);
        float *data = c->model->params + tensor->offset;
        differences_draw(data, tensor->rows * tensor->cols, deviation(tensor), &rng);
        for (size_t i = 0; tensor->dims == 1 && i < tensor->cols; i++)
            data[i] += 1;
    }
    c->grads = calloc(c->model->param_count, sizeof *c->grads);
    assert_non_null(c->grads);
    assert_int_equal(t5_scratch_new(&c->scratch, NULL), 0);
    assert_int_equal(t5_tape_new(&c->tape, NULL), 0);
    struct rng rng = rng_seed(6, 0);
    differences_draw(c->x, ROWS * D, 1, &rng);
    for (size_t i = 0; i < ROWS; i++)
        c->ids[i] = (int32_t)(rng_next(&rng) % (VOCAB - 2)); /* most of them more than once, some never */
    return c;
}

static void end(struct t5_case *c)
{
    model_free(c->model);
    free(c->grads);
    t5_scratch_free(c->scratch);
    t5_tape_free(c->tape);
}

/* Check a kernel on all parameters whose names begin with one of the prefixes (NULL ends the list), and on x's first rows. */
static void check(struct t5_case *c, struct differences kernel, size_t x_rows, const char *const *prefixes)
{
    struct differences_tensor tensors[TENSORS];
    size_t count = 0;
    for (size_t t = 0; t < c->model->tensor_count; t++) {
        const struct model_tensor *tensor = &c->model->tensors[t];
        bool wanted = false;
        for (const char *const *prefix = prefixes; *prefix; prefix++)
            wanted |= strncmp(tensor->name, *prefix, strlen(*prefix)) == 0;
        if (wanted)
            tensors[count++] = (struct differences_tensor){tensor->name, c->model->params + tensor->offset,
                c->grads + tensor->offset, tensor->rows * tensor->cols};
        assert_true(count + 1 < TENSORS);
    }
    assert_true(count > 0);
    if (x_rows)
        tensors[count++] = (struct differences_tensor){"x", c->x, c->dx, x_rows * D};
    kernel.ctx = c;
    kernel.outputs = kernel.outputs ? kernel.outputs : c->rows * D;
    kernel.tensors = tensors;
    kernel.tensor_count = count;
    differences_check(&kernel);
}

static void give(const struct t5_case *c, double *y)
{
    for (size_t i = 0; i < c->rows * D; i++)
        y[i] = (double)c->y[i];
}

static void take(struct t5_case *c, const double *dy)
{
    for (size_t i = 0; i < c->rows * D; i++)
        c->dy[i] = (float)dy[i];
}

/* ---- sublayers: y = x + f(norm(x)); their tapes are those of the first layer ---- */

static struct t5_layer_tape *begin_layer(struct t5_case *c)
{
    assert_int_equal(
        t5_tape_begin(c->tape, &c->model->config, 1, c->ids, c->offsets, c->count, 0, c->dropout, NULL), 0);
    memcpy(c->y, c->x, c->rows * D * sizeof *c->y);
    return &c->tape->layers[0];
}

static const struct model_attention *attention_of(const struct t5_case *c)
{
    return c->causal ? &c->model->decoder[0].self : &c->model->encoder[0].self;
}

static const float *bias_of(const struct t5_case *c)
{
    return c->causal ? c->model->decoder_bias : c->model->encoder_bias;
}

static struct t5_bias make_bias(const struct t5_case *c, struct buffer *buffer)
{
    struct t5_bias bias;
    assert_int_equal(t5_bias_make(&bias, buffer, bias_of(c), &c->model->config, !c->causal,
                         t5_sequences(c->offsets, c->count).longest, NULL),
        0);
    return bias;
}

static void self_forward(void *ctx, double *y)
{
    struct t5_case *c = ctx;
    struct t5_layer_tape *layer = begin_layer(c);
    const struct t5_bias bias = make_bias(c, &c->scratch->bias);
    assert_int_equal(t5_self_forward(c->y, c->model, attention_of(c), &c->tape->sequences, &bias, c->causal,
                         &layer->self, c->scratch, NULL),
        0);
    give(c, y);
}

static void self_backward(void *ctx, const double *dy)
{
    struct t5_case *c = ctx;
    const struct t5_bias bias = make_bias(c, &c->scratch->bias);
    struct t5_bias dbias = make_bias(c, &c->scratch->d_bias);
    memset(dbias.table, 0, c->model->config.heads * dbias.span * sizeof *dbias.table);
    take(c, dy);
    assert_int_equal(t5_self_backward(c->dy, c->grads, &dbias, c->model, attention_of(c), &c->tape->sequences,
                         &bias, c->causal, &c->tape->layers[0].self, c->scratch, NULL),
        0);
    t5_bias_backward(t5_grad(c->grads, c->model, bias_of(c)), &dbias, &c->model->config);
    vec_add(c->dx, c->dy, c->rows * D);
}

static void test_self(void **state)
{
    (void)state;
    static const char *const encoder[] = {"encoder.block.0.layer.0.", NULL}, *const decoder[] = {
                                                                                 "decoder.block.0.layer.0.",
                                                                                 NULL};
    struct differences kernel = {.forward = self_forward, .backward = self_backward};
    for (int causal = 0; causal < 2; causal++) {
        for (int dropped = 0; dropped < 2; dropped++) {
            struct t5_case *c = begin("relu", "true", long_offsets, dropped ? 0.2f : 0);
            c->causal = causal;
            kernel.name = causal    ? (dropped ? "causal self, dropout" : "causal self")
                          : dropped ? "self, dropout"
                                    : "self";
            check(c, kernel, c->rows, causal ? decoder : encoder);
            end(c);
        }
    }
}

static void ffn_forward(void *ctx, double *y)
{
    struct t5_case *c = ctx;
    struct t5_layer_tape *layer = begin_layer(c);
    assert_int_equal(
        t5_ffn_forward(c->y, c->model, &c->model->encoder[0].ffn, c->rows, &layer->ffn, c->scratch, NULL), 0);
    give(c, y);
}

static void ffn_backward(void *ctx, const double *dy)
{
    struct t5_case *c = ctx;
    take(c, dy);
    assert_int_equal(t5_ffn_backward(c->dy, c->grads, c->model, &c->model->encoder[0].ffn, c->rows,
                         &c->tape->layers[0].ffn, c->scratch, NULL),
        0);
    vec_add(c->dx, c->dy, c->rows * D);
}

/* On which side of relu each value lies. */
static uint64_t relu_pieces(void *ctx)
{
    const struct t5_case *c = ctx;
    return differences_zeros(c->tape->layers[0].ffn.wide, c->rows * c->model->config.d_ff);
}

/* With 270 rows some value is always near the bend: let all terms of one have the same sign, and none is. */
static void keep_off_the_bend(struct t5_case *c)
{
    const size_t d_ff = c->model->config.d_ff;
    float *wi = c->model->params + (c->model->encoder[0].ffn.wi - c->model->params);
    float *norm = c->model->params + (c->model->encoder[0].ffn.norm - c->model->params);
    for (size_t i = 0; i < ROWS * D; i++)
        c->x[i] = fabsf(c->x[i]);
    for (size_t i = 0; i < D; i++)
        norm[i] = fabsf(norm[i]);
    for (size_t i = 0; i < d_ff * D; i++)
        wi[i] = i / D % 2 ? fabsf(wi[i]) : -fabsf(wi[i]);
}

static void test_ffn(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"encoder.block.0.layer.1.", NULL};
    static const size_t many[] = {0, 100, 200, ROWS};
    struct differences kernel = {.forward = ffn_forward, .backward = ffn_backward};
    for (int dropped = 0; dropped < 2; dropped++) {
        struct t5_case *c = begin("gated-gelu", "true", many, dropped ? 0.2f : 0);
        kernel.name = dropped ? "gated ffn, dropout" : "gated ffn";
        kernel.pieces = NULL;
        check(c, kernel, c->rows, prefixes);
        end(c);
        kernel.pieces = relu_pieces;
        c = begin("relu", "true", short_offsets, dropped ? 0.2f : 0);
        kernel.name = dropped ? "relu ffn, dropout" : "relu ffn";
        check(c, kernel, c->rows, prefixes);
        end(c);
        c = begin("relu", "true", many, dropped ? 0.2f : 0);
        keep_off_the_bend(c);
        kernel.name = dropped ? "relu ffn, 270 rows, dropout" : "relu ffn, 270 rows";
        check(c, kernel, c->rows, prefixes);
        end(c);
    }
}

/* ---- embedding lookups ---- */

static void embed_forward(void *ctx, double *y)
{
    struct t5_case *c = ctx;
    t5_embed(c->y, c->model, c->ids, c->rows);
    give(c, y);
}

static void embed_backward(void *ctx, const double *dy)
{
    struct t5_case *c = ctx;
    take(c, dy);
    t5_embed_backward(t5_grad(c->grads, c->model, c->model->shared), c->dy, c->model, c->ids, c->rows);
}

static void test_embed(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"shared.", NULL};
    struct t5_case *c = begin("relu", "true", long_offsets, 0);
    check(c, (struct differences){.name = "embed", .forward = embed_forward, .backward = embed_backward}, 0,
        prefixes);
    end(c);
}

/* ---- whole stacks: from ids to the states after the final layer norm. They do not know the feed-forward's activation:
 * gated-gelu, which has no bends ---- */

static void encode_forward(void *ctx, double *y)
{
    struct t5_case *c = ctx;
    assert_int_equal(t5_encode_forward(
                         c->y, c->tape, c->model, c->ids, c->offsets, c->count, c->dropout, c->scratch, NULL),
        0);
    give(c, y);
}

static void encode_backward(void *ctx, const double *dy)
{
    struct t5_case *c = ctx;
    take(c, dy);
    assert_int_equal(t5_encode_backward(c->grads, c->dy, c->tape, c->model, c->scratch, NULL), 0);
}

static struct t5_teacher teacher_of(const struct t5_case *c)
{
    return (struct t5_teacher){c->ids, c->offsets, c->x, c->source_offsets, c->count};
}

static void decode_forward(void *ctx, double *y)
{
    struct t5_case *c = ctx;
    const struct t5_teacher teacher = teacher_of(c);
    assert_int_equal(t5_decode_forward(c->y, c->tape, c->model, &teacher, c->dropout, c->scratch, NULL), 0);
    give(c, y);
}

static void decode_backward(void *ctx, const double *dy)
{
    struct t5_case *c = ctx;
    const struct t5_teacher teacher = teacher_of(c);
    take(c, dy);
    assert_int_equal(
        t5_decode_backward(c->grads, c->dx, c->dy, c->tape, c->model, &teacher, c->scratch, NULL), 0);
}

static void test_encoder(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"encoder.", "shared.", NULL};
    struct differences kernel = {.forward = encode_forward, .backward = encode_backward};
    for (int dropped = 0; dropped < 2; dropped++) {
        struct t5_case *c = begin("gated-gelu", "true", long_offsets, dropped ? 0.2f : 0);
        kernel.name = dropped ? "encoder, dropout" : "encoder";
        check(c, kernel, 0, prefixes);
        end(c);
    }
}

static void test_decoder(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"decoder.", "shared.", NULL};
    struct differences kernel = {.forward = decode_forward, .backward = decode_backward};
    for (int dropped = 0; dropped < 2; dropped++) {
        struct t5_case *c = begin("gated-gelu", dropped ? "true" : "false", long_offsets, dropped ? 0.2f : 0);
        kernel.name = dropped ? "decoder, dropout" : "decoder";
        check(c, kernel, source_offsets[3], prefixes);
        end(c);
    }
}

/* Cross-attention alone: the other sublayers add nothing to hidden when their last products are zero. */
static void test_cross(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"decoder.block.0.layer.1.", "decoder.block.1.layer.1.", NULL};
    struct differences kernel = {.forward = decode_forward, .backward = decode_backward};
    for (int dropped = 0; dropped < 2; dropped++) {
        struct t5_case *c = begin("relu", "true", long_offsets, dropped ? 0.2f : 0);
        for (size_t t = 0; t < c->model->tensor_count; t++) {
            const struct model_tensor *tensor = &c->model->tensors[t];
            if (strstr(tensor->name, "SelfAttention.o") || strstr(tensor->name, "DenseReluDense.wo"))
                memset(c->model->params + tensor->offset, 0, tensor->rows * tensor->cols * sizeof(float));
        }
        kernel.name = dropped ? "cross, dropout" : "cross";
        check(c, kernel, source_offsets[3], prefixes);
        end(c);
    }
}

/* ---- cross-entropy: 150 rows are three blocks of logits; one output, the loss ---- */

static void entropy(struct t5_case *c, double *loss, double scale)
{
    float ignored[ROWS * D] = {0}, *grads = loss ? calloc(c->model->param_count, sizeof *grads) : c->grads;
    double unused = 0;
    assert_non_null(grads);
    assert_int_equal(t5_cross_entropy(loss ? loss : &unused, grads, loss ? ignored : c->dx, c->x, c->ids,
                         c->rows, scale, c->model, c->scratch, NULL),
        0);
    if (loss)
        free(grads);
}

static const double entropy_scale = 0.25;

static void entropy_forward(void *ctx, double *y)
{
    *y = 0;
    entropy(ctx, y, entropy_scale);
}

static void entropy_backward(void *ctx, const double *dy)
{
    entropy(ctx, NULL, entropy_scale * *dy);
}

static void test_cross_entropy(void **state)
{
    (void)state;
    static const char *const tied[] = {"shared.", NULL}, *const untied[] = {"lm_head.", NULL};
    static const size_t rows[] = {0, 50, 100, 150};
    struct differences kernel = {.outputs = 1, .forward = entropy_forward, .backward = entropy_backward};
    struct t5_case *c = begin("relu", "true", rows, 0);
    c->ids[70] = -1; /* a row without a target */
    kernel.name = "cross-entropy, tied";
    check(c, kernel, c->rows, tied);
    end(c);
    c = begin("relu", "false", rows, 0);
    kernel.name = "cross-entropy";
    check(c, kernel, c->rows, untied);
    end(c);
}

static int setup(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

/* The same products from the other library, which the programs take where it is installed. */
static int setup_onednn(void **state)
{
    (void)state;
    return gemm_use_onednn(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_self), cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_embed), cmocka_unit_test(test_encoder), cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_cross), cmocka_unit_test(test_cross_entropy)};
    int failed = cmocka_run_group_tests_name("gradients of T5, OpenBLAS", tests, setup, NULL);
    const char *const wish = getenv("EMBSUM_ONEDNN");
    if (wish && strcmp(wish, "0") == 0)
        puts("skipped: oneDNN, for EMBSUM_ONEDNN=0");
    else if (gemm_use_onednn(NULL) != -ERR_NOT_FOUND)
        failed += cmocka_run_group_tests_name("gradients of T5, oneDNN", tests, setup_onednn, NULL);
    return failed;
}
