/* Puts mutants (tests/lib/mutants.h) in the place of blobs of a world (tests/server/world.h), and says what is owed to each.
 *
 *     mutate URL GENERATION WORLD_SEED SEED u|c FIRST COUNT sealed|broken PARTNER...
 *
 * U<FIRST>, ... or N<FIRST>, ... are replaced. For each a line: id, what was done, the reason for which it must be refused
 * or "ok", and then for each partner (whole contents for a user, whole users for a content) the score by the definition, how
 * far float32 may be from it, and what no score is beyond in magnitude. Fields are separated by tabs. */
#include "core/gemm.h"
#include "tests/lib/blob_judge.h"
#include "tests/lib/mutants.h"
#include "tests/server/world.h"

#include <math.h>

enum {
    ROWS_MOST = 4,
    D = 16,
    BATCH = 500,
    VALUES = ROWS_MOST * D,
    BYTES = BLOB_HEADER + 4 * VALUES + MUTANT_TAIL
};

static const struct world shape = {.m = 4, .n = 2, .d = D};

struct run {
    struct world world;
    const char *generation;
    enum blob_kind kind;
    bool sealed;
    struct rng rng;
    float score_proj[D * D];
    char *const *partners;
    int partner_count;
    struct store_entry entries[BATCH];
    char ids[BATCH][32];
    uint8_t bytes[BATCH][BYTES];
};

/* ---- what is owed ---- */

static double norm(const float *x, size_t count)
{
    double sum = 0;
    for (size_t k = 0; k < count; k++)
        sum += (double)x[k] * (double)x[k];
    return sqrt(sum);
}

static double longest(const float *rows, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, norm(rows + i * D, D));
    return most;
}

/* Rounding, by the usual bound for sums of D products: of a similarity, and of a logit, whose gate is a rounded product
 * itself. A logit that is off by e shifts the softmax's weights by a factor of at most e^2e. */
static void print_score(const struct run *run, const float *a, const float *b)
{
    enum { M = 4, N = 2 };
    const double unit = (D + 4) * 0x1p-24;
    float gate[N * D];
    double scratch[D * D + 2 * N * D], similarities[M * N];
    score_gate(gate, b, run->score_proj, N, D, scratch);
    const double score = score_plain(NULL, similarities, a, b, gate, M, N, D);
    double low = similarities[0], high = similarities[0];
    for (size_t i = 1; i < (size_t)M * N; i++) {
        low = fmin(low, similarities[i]);
        high = fmax(high, similarities[i]);
    }
    const double user = longest(a, M), content = longest(b, N), most = user * content;
    const double gate_error = unit * (content * norm(run->score_proj, D * D) + longest(gate, N));
    const double logit_error = user * (gate_error + unit * longest(gate, N));
    const double shift = fmin(1, expm1(2 * fmin(logit_error, 1)) + M * N * 0x1p-21);
    const double rounding = (unit + M * N * 0x1p-22) * most + 8 * D * 0x1p-149; /* float32's smallest step */
    printf("\t%.9g\t%.3g\t%.9g", score, rounding + shift * (high - low), most);
}

static void print_mutant(const struct run *run, const struct blob_spec *spec, const struct mutant *mutant)
{
    const enum blob_reason reason = blob_judge(spec, mutant->bytes, mutant->len);
    float mine[VALUES], theirs[VALUES];
    printf("%s\t%s\t%s", spec->id, mutant->done, blob_reason_name(reason));
    for (size_t i = 0; reason == BLOB_OK && i < spec->rows * D; i++)
        mine[i] = blob_judge_value(mutant->bytes, i);
    for (int i = 0; reason == BLOB_OK && i < run->partner_count; i++) {
        const bool user = spec->kind == BLOB_USER;
        world_matrix(
            theirs, &run->world, user ? 'c' : 'u', run->partners[i], user ? run->world.n : run->world.m, D);
        print_score(run, user ? mine : theirs, user ? theirs : mine);
    }
    putchar('\n');
}

/* ---- mutating ---- */

static void make(struct run *run, size_t number, size_t place)
{
    const bool user = run->kind == BLOB_USER;
    char *const id = run->ids[place];
    const int len = snprintf(id, sizeof run->ids[place], "%c%zu", user ? 'U' : 'N', number);
    const struct blob_spec spec = {
        run->kind, BLOB_F32, user ? run->world.m : run->world.n, D, run->generation, id, (size_t)len};
    struct mutant mutant = {.bytes = run->bytes[place]};
    float matrix[VALUES];
    world_matrix(matrix, &run->world, (char)run->kind, id, spec.rows, D);
    mutant_make(&mutant, &run->rng, &spec, matrix, run->sealed);
    print_mutant(run, &spec, &mutant);
    run->entries[place] = (struct store_entry){{id, (size_t)len}, mutant.bytes, mutant.len};
}

static int replace(struct run *run, struct store_link *link, size_t first, size_t count, struct err *err)
{
    int code = 0;
    for (size_t done = 0; code == 0 && done < count; done += BATCH) {
        const size_t here = count - done < BATCH ? count - done : BATCH;
        for (size_t i = 0; i < here; i++)
            make(run, first + done + i, i);
        code = store_put(link, run->generation, (enum store_kind)run->kind, run->entries, here, err);
    }
    return code;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct err err = ERR_INIT;
    struct store *store = NULL;
    struct store_link *link = NULL;
    if (argc < 9) {
        fprintf(stderr, "see the head of tests/trust/mutate.c\n");
        return 2;
    }
    run.world = shape;
    run.world.seed = strtoull(argv[3], NULL, 10);
    run.generation = argv[2];
    run.rng = rng_seed(strtoull(argv[4], NULL, 10), 0);
    run.kind = argv[5][0] == 'u' ? BLOB_USER : BLOB_CONTENT;
    run.sealed = strcmp(argv[8], "sealed") == 0;
    run.partners = argv + 9;
    run.partner_count = argc - 9;
    world_matrix(run.score_proj, &run.world, 'w', "", D, D);
    int code = gemm_init(&err);
    if (code == 0)
        code = store_open(&store, argv[1], NULL, &err);
    if (code == 0)
        code = store_connect(&link, store, &err);
    if (code == 0)
        code = replace(&run, link, strtoull(argv[6], NULL, 10), strtoull(argv[7], NULL, 10), &err);
    store_disconnect(link);
    store_close(store);
    if (code < 0)
        fprintf(stderr, "%s\n", err.message);
    return code < 0;
}
