#include "batch/commands.h"
#include "batch/store_args.h"
#include "core/json.h"
#include "store/generation.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- how a generation ranks beside the live one, see store_shadow_add() ---- */

/* NaN over nothing. */
static double mean(
    const struct store_shadow *shadow, enum store_shadow_sum sum, enum store_shadow_sum count, double unit)
{
    return shadow->sums[count] ? (double)shadow->sums[sum] / unit / (double)shadow->sums[count] : (double)NAN;
}

static double overlap_of(const struct store_shadow *shadow)
{
    return mean(shadow, STORE_SHADOW_SHARED, STORE_SHADOW_RANKINGS, 10);
}

static double tau_of(const struct store_shadow *shadow)
{
    return mean(shadow, STORE_SHADOW_TAU, STORE_SHADOW_TAUS, 1e6);
}

static double difference_of(const struct store_shadow *shadow)
{
    return mean(shadow, STORE_SHADOW_DIFFERENCE, STORE_SHADOW_DIFFERENCES, 1e6);
}

static json_t *number(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *json_shadow(const struct store_shadow *shadow)
{
    const int64_t *sums = shadow->sums;
    return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:I}", "live", shadow->live, "requests",
        (json_int_t)sums[STORE_SHADOW_REQUESTS], "rankings", (json_int_t)sums[STORE_SHADOW_RANKINGS],
        "overlap", number(overlap_of(shadow)), "tau", number(tau_of(shadow)), "difference",
        number(difference_of(shadow)), "candidates_both", (json_int_t)sums[STORE_SHADOW_BOTH],
        "candidates_live", (json_int_t)sums[STORE_SHADOW_LIVE_ALONE], "candidates_shadow",
        (json_int_t)sums[STORE_SHADOW_ALONE]);
}

struct overlap_limit {
    const char *text; /* NULL: none is asked for */
    double least;
    long requests;
};

/* Does the generation rank as much like the live one as is asked for, and is that known from enough requests? */
static int check_overlap(
    struct store_link *link, const char *name, const struct overlap_limit *limit, struct err *err)
{
    struct store_shadow shadow;
    char live[STORE_GENERATION_MAX];
    int result = store_live(link, live, err);
    if (result == 0)
        result = store_shadow_get(link, name, &shadow, err);
    if (result < 0 || strcmp(name, live) == 0) /* it is live already */
        return result;
    const double overlap = overlap_of(&shadow);
    if (strcmp(shadow.live, live) != 0)
        return err_set(err, ERR_INVALID,
            "%s is not made live: no request has been ranked on it beside %s, which is live (shadow.share of "
            "embsumd)",
            name, live);
    if (shadow.sums[STORE_SHADOW_REQUESTS] < limit->requests)
        return err_set(err, ERR_INVALID,
            "%s is not made live: its overlap with %s, %.4f (tau %.4f), rests on %" PRId64
            " requests, and %ld are asked for (--min-requests)",
            name, live, overlap, tau_of(&shadow), shadow.sums[STORE_SHADOW_REQUESTS], limit->requests);
    if (!(overlap >= limit->least))
        return err_set(err, ERR_INVALID,
            "%s is not made live: its overlap with %s is %.4f (tau %.4f, over %" PRId64
            " requests), and %s is asked for (--min-overlap)",
            name, live, overlap, tau_of(&shadow), shadow.sums[STORE_SHADOW_REQUESTS], limit->text);
    printf("overlap with %s: %.4f, tau %.4f, over %" PRId64 " requests\n", live, overlap, tau_of(&shadow),
        shadow.sums[STORE_SHADOW_REQUESTS]);
    return 0;
}

/* ---- list ---- */

static void print_row(
    const struct store_generation *row, const struct manifest *manifest, const struct store_shadow *shadow)
{
    char created[32] = "-";
    struct tm when;
    if (manifest && gmtime_r(&manifest->created, &when))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &when);
    printf("%-27s %-9s %-21s", row->name, store_state_name(row->state), created);
    if (manifest)
        printf(" %9zu %9zu  %zux%zux%zu %s", manifest->users, manifest->contents, manifest->m, manifest->n,
            manifest->d, blob_dtype_name(manifest->dtype));
    if (shadow->sums[STORE_SHADOW_RANKINGS])
        printf("  overlap %.4f, tau %.4f over %" PRId64 " requests beside %s", overlap_of(shadow),
            tau_of(shadow), shadow->sums[STORE_SHADOW_REQUESTS], shadow->live);
    putchar('\n');
}

/* NULL when memory is short. */
static json_t *json_row(
    const struct store_generation *row, const struct manifest *manifest, const struct store_shadow *shadow)
{
    const size_t failures = json_failures();
    json_t *object = json_pack("{s:s, s:s}", "generation", row->name, "state", store_state_name(row->state));
    char *text = manifest ? manifest_dump(manifest) : NULL;
    json_t *more = text ? json_read(text, strlen(text), 0, NULL) : NULL;
    if (more)
        json_object_update(object, more);
    if (shadow->sums[STORE_SHADOW_RANKINGS])
        json_object_set_new(object, "shadow", json_shadow(shadow));
    const bool whole = failures == json_failures() && !text == !manifest;
    json_decref(more);
    free(text);
    if (!whole)
        json_decref(object);
    return whole ? object : NULL;
}

static int list(struct store_link *link, bool as_json, struct err *err)
{
    struct store_generation *rows;
    size_t count;
    int result = store_generations(link, &rows, &count, err);
    if (result < 0)
        return result;
    if (!as_json)
        printf("%-27s %-9s %-21s %9s %9s  %s\n", "generation", "state", "created", "users", "contents",
            "m x n x d");
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct manifest manifest;
        struct store_shadow shadow;
        const int found = manifest_get(&manifest, link, rows[i].name, err); /* one still building has none */
        result =
            found < 0 && found != -ERR_NOT_FOUND ? found : store_shadow_get(link, rows[i].name, &shadow, err);
        if (result == 0 && as_json) {
            json_t *row = json_row(&rows[i], found == 0 ? &manifest : NULL, &shadow);
            if (!row || json_dumpf(row, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0)
                result = err_set(err, ERR_NOMEM, "out of memory");
            putchar('\n');
            json_decref(row);
        } else if (result == 0) {
            print_row(&rows[i], found == 0 ? &manifest : NULL, &shadow);
        }
    }
    free(rows);
    return result;
}

static void tell_bad(void *ctx, enum store_kind kind, const char *id, const char *reason)
{
    (void)ctx;
    printf("bad: %s %s: %s\n",
        kind == STORE_USER         ? "user"
        : kind == STORE_CONTENT    ? "content"
        : kind == STORE_CATEGORY   ? "category"
        : kind == STORE_TITLE      ? "title"
        : kind == STORE_WHY        ? "explanation"
        : kind == STORE_SCORE_PROJ ? "W_s"
                                   : "manifest",
        id, reason);
}

static int verify(struct store_link *link, const char *name, struct err *err)
{
    char live[STORE_GENERATION_MAX];
    struct generation_check check = {0};
    if (!name) {
        const int result = store_live(link, live, err);
        if (result < 0)
            return result;
        name = live;
    }
    const int result = generation_verify(&check, link, name, tell_bad, NULL, err);
    if (result == 0)
        printf("%s: %zu users, %zu contents, %zu categories, %zu titles, %zu explanations, %zu bytes: all "
               "good\n",
            name, check.users, check.contents, check.categories, check.titles, check.explanations,
            check.bytes);
    return result;
}

struct arguments {
    struct store_args where;
    bool as_json;
    struct overlap_limit limit;
};

static int run(const char *what, const char *name, const struct arguments *args, struct err *err)
{
    struct store *store = NULL;
    struct store_link *link = NULL;
    char now[STORE_GENERATION_MAX];
    int result = store_args_open(&store, &args->where, err);
    if (result == 0)
        result = store_connect(&link, store, err);
    if (result < 0) {
        /* told by the caller */
    } else if (strcmp(what, "list") == 0) {
        result = list(link, args->as_json, err);
    } else if (strcmp(what, "verify") == 0) {
        result = verify(link, name, err);
    } else if (strcmp(what, "promote") == 0) {
        result = args->limit.text ? check_overlap(link, name, &args->limit, err) : 0;
        if (result == 0)
            result = generation_promote(store, name, err);
        if (result == 0)
            printf("%s is live\n", name);
    } else if (strcmp(what, "rollback") == 0) {
        result = generation_rollback(store, now, err);
        if (result == 0)
            printf("%s is live\n", now);
    } else {
        result = generation_drop(store, name, err);
        if (result == 0)
            printf("%s is dropped\n", name);
    }
    store_disconnect(link);
    store_close(store);
    return result;
}

/* NULL if what was given makes sense with the action. */
static const char *contradiction(struct arguments *args, const char *action)
{
    struct overlap_limit *limit = &args->limit;
    if (strcmp(action, "promote") != 0 && (limit->text || limit->requests >= 0))
        return "--min-overlap and --min-requests go with promote";
    if (!limit->text)
        return limit->requests < 0 ? NULL : "--min-requests goes with --min-overlap";
    char *end;
    limit->least = strtod(limit->text, &end);
    if (!*limit->text || limit->text[strspn(limit->text, ".0123456789")] || *end || limit->least > 1)
        return "--min-overlap must be a number from 0 to 1";
    if (limit->requests < 0)
        limit->requests = 1000;
    return NULL;
}

int command_generations(int argc, char **argv)
{
    static const struct {
        const char *name;
        int names_min, names_max;
    } actions[] = {{"list", 0, 0}, {"promote", 1, 1}, {"rollback", 0, 0}, {"drop", 1, 1}, {"verify", 0, 1}};
    struct arguments args = {.limit.requests = -1};
    const char *words[2] = {NULL, NULL};
    const struct option options[] = {
        STORE_OPTIONS(args.where),
        {"json", NULL, "list: one JSON object a line", false, OPTION_FLAG, &args.as_json, 0, 0},
        {"min-overlap", "SHARE",
            "promote: of the ten best, as the daemons have compared them with the live generation's", false,
            OPTION_TEXT, &args.limit.text, 0, 0},
        {"min-requests", "N", "promote: that this is to rest on; 1000 unless given", false, OPTION_NUMBER,
            &args.limit.requests, 0, LONG_MAX},
    };
    const struct command command = {
        "generations list|promote NAME|rollback|drop NAME|verify [NAME] --store URL [--min-overlap SHARE]",
        "Look at the generations of a store, switch between them, remove and check them.\n"
        "promote --min-overlap 0.7 goes by how the generation ranked beside the live one (embsumd's\n"
        "shadow.share). "
        "rollback makes the generation live that was live before; verify reads every blob of one (the live "
        "one).",
        options, sizeof options / sizeof *options, words, 2};
    const int given = options_parse(&command, argc, argv);
    if (given < 0)
        return -1 - given;
    for (size_t i = 0; given && i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(actions[i].name, words[0]) != 0 || given - 1 < actions[i].names_min ||
            given - 1 > actions[i].names_max)
            continue;
        struct err err = ERR_INIT;
        const char *const wrong = contradiction(&args, words[0]);
        if (wrong) {
            fprintf(stderr, "embsum: %s\nusage: embsum %s\n", wrong, command.usage);
            return EXIT_USAGE;
        }
        return run(words[0], words[1], &args, &err) < 0 ? command_failed("generations", &err) : EXIT_DONE;
    }
    fprintf(stderr, "embsum: what shall be done with the generations?\nusage: embsum %s\n", command.usage);
    return EXIT_USAGE;
}
