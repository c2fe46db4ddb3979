/* What a user costs on one core: the encoder over the history's sessions, and the decoder's summary, by how many users are
 * decoded together, who share the reading of its weights.
 *
 *     build/tests/bench/decoder [--rounds N] [--items N] [--tokens N] [--most N] [--dtype NAME]
 *
 * T5-small's size (tests/bench/encoder.json), random weights, whose summaries seldom end before max_summary_tokens (96);
 * --items (60) of --tokens (124) each, in sessions of 4; 1, 2, 4 ... --most (32) users. Every user's states lie in memory
 * of their own. Rounds interleave everything; a figure is the median's, in processor time. A JSON line each:
 *
 *     {"dtype": "float32", "tokens": 7440, "users": 8, "encoder_s": 2.9, "decoder_s": 0.5, "steps": 97}
 *
 * seconds and steps are a user's. */
#include "core/engine.h"
#include "core/gemm.h"
#include "core/rng.h"
#include "tests/bench/timing.h"

#include <string.h>

enum { ROUNDS_MAX = 100, USERS_MAX = 64, COUNTS = 7, SESSION = 4 };

struct bench {
    struct model *model;
    struct engine *engine;
    struct engine_scratch *scratch;
    size_t items, item_tokens, most, tokens, numbers; /* of a user's states */
    int rounds;
    int32_t *ids;
    struct engine_sequence *sessions;
    size_t session_count;
    char *states; /* of all users */
    struct engine_summary users[USERS_MAX];
    double encoder[ROUNDS_MAX], decoder[COUNTS][ROUNDS_MAX], steps[COUNTS];
};

static void die(const char *what)
{
    fprintf(stderr, "decoder: %s\n", what);
    exit(1);
}

/* ---- what is measured ---- */

static void make(struct bench *b)
{
    const struct model_config *c = &b->model->config;
    struct rng rng = rng_seed(2, 0);
    b->tokens = b->items * b->item_tokens;
    b->numbers = b->tokens * c->d_model;
    b->ids = calloc(b->tokens, sizeof *b->ids);
    b->sessions = calloc(b->items, sizeof *b->sessions);
    b->states = pages(b->most * b->numbers * sizeof(float));
    if (!b->ids || !b->sessions)
        die("out of memory");
    for (size_t i = 0; i < b->tokens; i++)
        b->ids[i] = (int32_t)(rng_next(&rng) % c->vocab_size);
    for (size_t u = 0; u < b->most; u++) {
        b->users[u].tokens = calloc(c->max_summary_tokens, sizeof(int32_t));
        b->users[u].z = calloc(c->d_model, sizeof(float));
    }
}

/* Where user u's states lie. The sessions are the same for all; a decoder does not know. */
static void place(struct bench *b, size_t u)
{
    const size_t number = engine_state_bytes(b->engine), size = b->numbers * number, one = size / b->tokens;
    char *states = b->states + u * size;
    b->users[u].states = states;
    b->users[u].state_count = b->tokens;
    b->session_count = 0;
    for (size_t at = 0; at < b->tokens; at += b->sessions[b->session_count++].count) {
        const size_t left = b->tokens - at, most = SESSION * b->item_tokens;
        struct engine_sequence *session = &b->sessions[b->session_count];
        *session = (struct engine_sequence){.ids = b->ids + at, .count = left < most ? left : most};
        if (number == sizeof(float))
            session->states = (float *)(void *)(states + at * one);
        else
            session->halves = (uint16_t *)(void *)(states + at * one);
    }
}

static void measure(struct bench *b, int round)
{
    struct err err = ERR_INIT;
    place(b, 0);
    const double start = now_us();
    if (engine_encode(b->engine, b->sessions, b->session_count, b->scratch, &err) < 0)
        die(err.message);
    b->encoder[round] = now_us() - start;
    for (size_t u = 1; u < b->most; u++) {
        place(b, u);
        memcpy(b->states + u * b->numbers * engine_state_bytes(b->engine), b->states,
            b->numbers * engine_state_bytes(b->engine));
    }
    for (size_t i = 0, users = 1; users <= b->most && i < COUNTS; i++, users *= 2) {
        const double before = now_us();
        if (engine_generate(b->engine, b->users, users, b->scratch, &err) < 0)
            die(err.message);
        b->decoder[i][round] = (now_us() - before) / (double)users;
        b->steps[i] = (double)b->users[0].token_count + 1;
    }
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static void report(struct bench *b)
{
    const double encoder = median(b->encoder, b->rounds) * 1e-6;
    for (size_t i = 0, users = 1; users <= b->most && i < COUNTS; i++, users *= 2)
        printf(
            "{\"dtype\": \"%s\", \"tokens\": %zu, \"users\": %zu, \"encoder_s\": %.3f, \"decoder_s\": %.3f, "
            "\"steps\": %.0f}\n",
            linear_dtype_name(engine_dtype(b->engine)), b->tokens, users, encoder,
            median(b->decoder[i], b->rounds) * 1e-6, b->steps[i]);
}

int main(int argc, char **argv)
{
    static struct bench benches[LINEAR_DTYPES];
    const char *rounds = "3", *items = "60", *tokens = "124", *most = "32", *only = NULL;
    const struct {
        const char *name, **value;
    } options[] = {{"--rounds", &rounds}, {"--items", &items}, {"--tokens", &tokens}, {"--most", &most},
        {"--dtype", &only}};
    enum { OPTIONS = sizeof options / sizeof *options };
    struct model *model;
    struct err err = ERR_INIT;
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < OPTIONS && strcmp(argv[i], options[k].name) != 0)
            k++;
        if (k == OPTIONS || i + 1 == argc)
            die("usage: [--rounds N] [--items N] [--tokens N] [--most N] [--dtype NAME]");
        *options[k].value = argv[i + 1];
    }
    if (gemm_init(&err) < 0 || model_init(&model, "tests/bench/encoder.json", 1, &err) < 0)
        die(err.message);
    for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++) {
        struct bench *b = &benches[i];
        if (only && strcmp(only, linear_dtype_name(i)) != 0)
            continue;
        *b = (struct bench){.model = model,
            .items = strtoul(items, NULL, 10),
            .item_tokens = strtoul(tokens, NULL, 10),
            .most = strtoul(most, NULL, 10),
            .rounds = atoi(rounds)};
        if (!b->items || !b->item_tokens || !b->most || b->most > USERS_MAX || b->rounds < 1 ||
            b->rounds > ROUNDS_MAX)
            die("--rounds is 1 to 100, --most 1 to 64, --items and --tokens at least 1");
        if (engine_new(&b->engine, model, i, NULL, &err) < 0 || engine_scratch_new(&b->scratch, &err) < 0)
            die(err.message);
        make(b);
    }
    for (int round = 0; round < atoi(rounds); round++)
        for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++)
            if (benches[i].engine)
                measure(&benches[i], round);
    for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++)
        if (benches[i].engine)
            report(&benches[i]);
    return 0;
}
