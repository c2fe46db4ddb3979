#include "batch/commands.h"
#include "batch/store_args.h"
#include "core/json.h"
#include "store/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_row(const struct store_generation *row, const struct manifest *manifest)
{
    char created[32] = "-";
    struct tm when;
    if (manifest && gmtime_r(&manifest->created, &when))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &when);
    printf("%-27s %-9s %-21s", row->name, store_state_name(row->state), created);
    if (manifest)
        printf(" %9zu %9zu  %zux%zux%zu %s", manifest->users, manifest->contents, manifest->m, manifest->n,
            manifest->d, blob_dtype_name(manifest->dtype));
    putchar('\n');
}

/* NULL when memory is short. */
static json_t *json_row(const struct store_generation *row, const struct manifest *manifest)
{
    const size_t failures = json_failures();
    json_t *object = json_pack("{s:s, s:s}", "generation", row->name, "state", store_state_name(row->state));
    char *text = manifest ? manifest_dump(manifest) : NULL;
    json_t *more = text ? json_read(text, strlen(text), 0, NULL) : NULL;
    if (more)
        json_object_update(object, more);
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
        const int found = manifest_get(&manifest, link, rows[i].name, err); /* one still building has none */
        if (found < 0 && found != -ERR_NOT_FOUND) {
            result = found;
        } else if (as_json) {
            json_t *row = json_row(&rows[i], found == 0 ? &manifest : NULL);
            if (!row || json_dumpf(row, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0)
                result = err_set(err, ERR_NOMEM, "out of memory");
            putchar('\n');
            json_decref(row);
        } else {
            print_row(&rows[i], found == 0 ? &manifest : NULL);
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

static int run(
    const char *what, const char *name, bool as_json, const struct store_args *where, struct err *err)
{
    struct store *store = NULL;
    struct store_link *link = NULL;
    char now[STORE_GENERATION_MAX];
    int result = store_args_open(&store, where, err);
    if (result == 0)
        result = store_connect(&link, store, err);
    if (result < 0) {
        /* told by the caller */
    } else if (strcmp(what, "list") == 0) {
        result = list(link, as_json, err);
    } else if (strcmp(what, "verify") == 0) {
        result = verify(link, name, err);
    } else if (strcmp(what, "promote") == 0) {
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

int command_generations(int argc, char **argv)
{
    static const struct {
        const char *name;
        int names_min, names_max;
    } actions[] = {{"list", 0, 0}, {"promote", 1, 1}, {"rollback", 0, 0}, {"drop", 1, 1}, {"verify", 0, 1}};
    struct store_args where = {0};
    bool as_json = false;
    const char *words[2] = {NULL, NULL};
    const struct option options[] = {
        STORE_OPTIONS(where),
        {"json", NULL, "list: one JSON object a line", false, OPTION_FLAG, &as_json, 0, 0},
    };
    const struct command command = {
        "generations list|promote NAME|rollback|drop NAME|verify [NAME] --store URL",
        "Look at the generations of a store, switch between them, remove and check them.\n"
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
        return run(words[0], words[1], as_json, &where, &err) < 0 ? command_failed("generations", &err)
                                                                  : EXIT_DONE;
    }
    fprintf(stderr, "embsum: what shall be done with the generations?\nusage: embsum %s\n", command.usage);
    return EXIT_USAGE;
}
