#include "batch/commands.h"
#include "batch/lines.h"
#include "batch/ranking.h"
#include "batch/screen.h"
#include "batch/store_args.h"

#include <stdio.h>
#include <string.h>

#define TOP_MAX 1000000

static int add_candidate(struct id_map *candidates, const char *id, size_t len, struct err *err)
{
    const int rc = id_check(id, len, err);
    if (rc < 0)
        return rc;
    return id_map_add(candidates, id, len, NULL) < 0 ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

static int split_candidates(struct id_map *candidates, const char *list, struct err *err)
{
    int rc = 0;
    for (const char *at = list; rc == 0; at += strcspn(at, ",") + 1) {
        rc = add_candidate(candidates, at, strcspn(at, ","), err);
        if (!at[strcspn(at, ",")])
            break;
    }
    return rc;
}

static int take_line(void *ctx, const char *line, size_t len, struct err *err)
{
    len = lines_trim(line, len);
    return len ? add_candidate(ctx, line, len, err) : 0;
}

static int show(const struct ranking *ranking, bool explain, bool as_json, struct err *err)
{
    struct screen screen;
    screen_init(&screen, stdout);
    if (as_json)
        ranking_write_json(stdout, ranking, explain, screen.terminal);
    else
        ranking_write_table(&screen, ranking, explain);
    screen_done(&screen);
    return fflush(stdout) != 0 || ferror(stdout) ? err_errno(err, "write to stdout") : 0;
}

static int run(
    const struct store_args *where, const struct ranking_request *request, bool as_json, struct err *err)
{
    struct store *store = NULL;
    struct store_link *link = NULL;
    struct ranking ranking;
    int rc = store_args_open_to_read(&store, where, err);
    if (rc == 0)
        rc = store_connect(&link, store, err);
    if (rc == 0)
        rc = ranking_make(&ranking, link, request, err);
    if (rc == 0) {
        rc = show(&ranking, request->explain, as_json, err);
        ranking_done(&ranking);
    }
    store_disconnect(link);
    store_close(store);
    return rc;
}

static int usage(const char *message)
{
    fprintf(stderr, "embsum rank: %s\n", message);
    return EXIT_USAGE;
}

int command_rank(int argc, char **argv)
{
    struct store_args where = {0};
    struct ranking_request request = {0};
    const char *list = NULL, *file = NULL;
    long top_k = 10;
    bool as_json = false;
    const struct option options[] = {
        STORE_OPTIONS(where),
        {"user", "ID", "who is ranked for", true, OPTION_TEXT, &request.user, 0, 0},
        {"candidates", "ID,ID", "what is ranked; the whole catalogue unless given", false, OPTION_TEXT, &list,
            0, 0},
        {"candidates-file", "FILE", "the same, an id a line; - is stdin", false, OPTION_TEXT, &file, 0, 0},
        {"top-k", "N", "how many of the best; 10 unless given", false, OPTION_NUMBER, &top_k, 1, TOP_MAX},
        {"generation", "NAME", "the live one unless given", false, OPTION_TEXT, &request.generation, 0, 0},
        {"explain", NULL, "with each item the pairs of codes that weigh most", false, OPTION_FLAG,
            &request.explain, 0, 0},
        {"json", NULL, "as /rank answers", false, OPTION_FLAG, &as_json, 0, 0},
    };
    const struct command command = {"rank --store URL --user ID",
        "Rank contents for a user from a store, without a daemon: its scores in float32, bit for bit.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    struct id_map candidates = {0};
    if (list && file)
        return usage("give --candidates or --candidates-file, not both");
    int rc = id_check(request.user, strlen(request.user), &err);
    if (rc < 0)
        err_place(&err, "--user: ");
    if (rc == 0 && list && (rc = split_candidates(&candidates, list, &err)) < 0)
        err_place(&err, "--candidates: ");
    if (rc < 0) {
        id_map_done(&candidates);
        return rc == -ERR_INVALID ? usage(err.message) : command_failed("rank", &err);
    }
    if (file)
        rc = lines_read(strcmp(file, "-") == 0 ? "/dev/stdin" : file, SIZE_MAX, take_line, &candidates, &err);
    request.top_k = (size_t)top_k;
    request.candidates = list || file ? &candidates : NULL;
    if (rc == 0)
        rc = run(&where, &request, as_json, &err);
    id_map_done(&candidates);
    return rc < 0 ? command_failed("rank", &err) : EXIT_DONE;
}
