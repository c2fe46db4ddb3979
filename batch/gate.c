#include "batch/gate.h"

#include "core/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { USERS = 32, CONTENTS = 128 };

/* ---- counts ---- */

int gate_shrink(
    const struct gate_limits *limits, const char *what, size_t before, size_t gone, struct err *err)
{
    if (gone <= GATE_FEW || (double)gone * 100 <= (double)limits->max_shrink * (double)before)
        return 0;
    return err_set(err, ERR_INVALID,
        "%zu of %zu %s are in no input any more, more than the %ld %% that may go in one run (--max-shrink)",
        gone, before, what, limits->max_shrink);
}

int gate_coverage(const struct gate_limits *limits, size_t asked, size_t dropped, struct err *err)
{
    if (asked <= GATE_FEW || (double)(asked - dropped) * 100 >= (double)limits->min_coverage * (double)asked)
        return 0;
    return err_set(err, ERR_INVALID,
        "%zu of the %zu ids in the histories have no text: less than %ld %% are known (--min-coverage)",
        dropped, asked, limits->min_coverage);
}

/* ---- a sample ---- */

/* The ids with the smallest hashes: the same ones in every generation that has them. */
struct sample {
    enum store_kind kind;
    size_t most, count;
    struct sampled {
        uint64_t hash;
        char *id;
        size_t len;
    } at[CONTENTS];
    struct err *err;
};

static int consider(void *ctx, const char *id, size_t len)
{
    struct sample *sample = ctx;
    const uint64_t hash = XXH3_64bits(id, len);
    size_t place = sample->count;
    while (place && sample->at[place - 1].hash > hash)
        place--;
    if (place == sample->most)
        return 0;
    char *copy = malloc(len + 1);
    if (!copy)
        return err_set(sample->err, ERR_NOMEM, "out of memory");
    memcpy(copy, id, len);
    copy[len] = '\0';
    if (sample->count == sample->most)
        free(sample->at[--sample->count].id);
    memmove(&sample->at[place + 1], &sample->at[place], (sample->count - place) * sizeof *sample->at);
    sample->at[place] = (struct sampled){hash, copy, len};
    sample->count++;
    return 0;
}

static void sample_done(struct sample *sample)
{
    for (size_t i = 0; i < sample->count; i++)
        free(sample->at[i].id);
}

/* ---- reading it ---- */

struct reading {
    struct blob_spec spec;
    const struct sampled *at;
    float *matrices;
    struct err *err;
};

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    struct reading *reading = ctx;
    struct blob_spec *spec = &reading->spec;
    spec->id = reading->at[index].id;
    spec->id_len = reading->at[index].len;
    const enum blob_reason reason =
        data ? blob_decode(reading->matrices + index * spec->rows * spec->cols, spec, data, len) : BLOB_OK;
    if (data && reason == BLOB_OK)
        return 0;
    return err_set(reading->err, ERR_CORRUPT, "generation %s: the matrix of \"%s\" is %s", spec->generation,
        spec->id, data ? blob_reason_name(reason) : "missing");
}

/* matrices: malloc'ed, for the caller to free also at a failure. */
static int read_sample(float **matrices, const struct sample *sample, struct store_link *link,
    const char *generation, size_t rows, size_t cols, struct err *err)
{
    struct store_id ids[CONTENTS];
    struct reading reading = {{(enum blob_kind)sample->kind, BLOB_F32, rows, cols, generation, "", 0},
        sample->at, malloc((sample->count + 1) * rows * cols * sizeof(float)), err};
    *matrices = reading.matrices;
    if (!reading.matrices)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < sample->count; i++)
        ids[i] = (struct store_id){sample->at[i].id, sample->at[i].len};
    return store_get(link, generation, sample->kind, ids, sample->count, take, &reading, err);
}

/* ---- what it looks like ---- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_norm(const float *matrices, size_t count, size_t size)
{
    double norms[CONTENTS];
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t k = 0; k < size; k++)
            sum += (double)matrices[i * size + k] * (double)matrices[i * size + k];
        norms[i] = sqrt(sum / (double)size);
    }
    qsort(norms, count, sizeof *norms, compare_doubles);
    return count ? norms[count / 2] : 0;
}

struct measured {
    const struct manifest *manifest;
    const float *users, *contents, *proj;
    size_t user_count, content_count;
};

static int score_pairs(struct gate_profile *profile, const struct measured *s, struct err *err)
{
    const size_t m = s->manifest->m, n = s->manifest->n, d = s->manifest->d, rows = s->content_count * n;
    float *gates = malloc((rows + 1) * d * sizeof *gates);
    double *scratch = malloc(score_gate_scratch(rows + 1, d) * sizeof *scratch);
    double all = 0, within = 0; /* sums of squares: of the scores, and about each user's mean */
    if (gates && scratch) {
        score_gate(gates, s->contents, s->proj, rows, d, scratch);
        for (size_t u = 0; u < s->user_count; u++) {
            double sum = 0, squares = 0;
            for (size_t c = 0; c < s->content_count; c++) {
                const double score = score_plain(
                    NULL, NULL, s->users + u * m * d, s->contents + c * n * d, gates + c * n * d, m, n, d);
                sum += score;
                squares += score * score;
            }
            all += squares;
            within += fmax(squares - sum * sum / fmax((double)s->content_count, 1), 0);
        }
    }
    const double pairs = fmax((double)(s->user_count * s->content_count), 1);
    const bool done = gates && scratch;
    free(gates);
    free(scratch);
    if (!done)
        return err_set(err, ERR_NOMEM, "out of memory");
    profile->size = sqrt(all / pairs);
    profile->spread = sqrt(within / pairs);
    return 0;
}

int gate_measure(
    struct gate_profile *profile, struct store_link *link, const char *generation, struct err *err)
{
    struct manifest manifest;
    struct sample users = {.kind = STORE_USER, .most = USERS, .err = err},
                  contents = {.kind = STORE_CONTENT, .most = CONTENTS, .err = err};
    const struct sample proj = {.kind = STORE_SCORE_PROJ, .count = 1, .at = {{0, (char[]){""}, 0}}};
    float *a = NULL, *b = NULL, *w = NULL;
    int rc = manifest_get(&manifest, link, generation, err);
    if (rc == 0)
        rc = store_scan(link, generation, STORE_USER, consider, &users, err);
    if (rc == 0)
        rc = store_scan(link, generation, STORE_CONTENT, consider, &contents, err);
    if (rc == 0)
        rc = read_sample(&a, &users, link, generation, manifest.m, manifest.d, err);
    if (rc == 0)
        rc = read_sample(&b, &contents, link, generation, manifest.n, manifest.d, err);
    if (rc == 0)
        rc = read_sample(&w, &proj, link, generation, manifest.d, manifest.d, err);
    if (rc == 0) {
        *profile = (struct gate_profile){
            .users = users.count,
            .contents = contents.count,
            .user_norm = median_norm(a, users.count, manifest.m * manifest.d),
            .content_norm = median_norm(b, contents.count, manifest.n * manifest.d),
        };
        rc = score_pairs(profile, &(struct measured){&manifest, a, b, w, users.count, contents.count}, err);
    }
    free(a);
    free(b);
    free(w);
    sample_done(&users);
    sample_done(&contents);
    return rc;
}

/* ---- the judgement ---- */

static int check_drift(
    const struct gate_limits *limits, const char *what, double before, double after, struct err *err)
{
    if (!(before > 0) ||
        (after <= before * (double)limits->max_drift && after >= before / (double)limits->max_drift))
        return 0;
    return err_set(err, ERR_INVALID,
        "%s is %.3g, and %.3g in what is live: more than %ld times another (--max-drift)", what, after,
        before, limits->max_drift);
}

int gate_compare(const struct gate_limits *limits, const struct gate_profile *before,
    const struct gate_profile *after, struct err *err)
{
    static const struct gate_profile nothing = {0};
    if (!before)
        before = &nothing;
    /* A user ranks contents by the differences of their scores; where there are none, nothing is ranked. */
    if (after->contents > 1 && after->users && !(after->spread > 1e-6 * after->size))
        return err_set(err, ERR_INVALID, "to each of %zu users all of %zu contents have the same score",
            after->users, after->contents);
    int rc = check_drift(limits, "the users' norm", before->user_norm, after->user_norm, err);
    if (rc == 0)
        rc = check_drift(limits, "the contents' norm", before->content_norm, after->content_norm, err);
    if (rc == 0)
        rc = check_drift(limits, "the scores' spread", before->spread, after->spread, err);
    return rc;
}
