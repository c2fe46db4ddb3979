#include "batch/commands.h"
#include "batch/follow.h"
#include "batch/progress.h"
#include "batch/publish.h"
#include "batch/refresh_report.h"
#include "batch/stop.h"
#include "batch/store_args.h"

#include <stdio.h>
#include <string.h>

struct arguments {
    struct workspace_options inputs;
    struct store_args where;
    struct publish_options how;
    struct refresh_options run;
    long max_seconds, cache_mb, silent;
    const char *metrics;
    const char *click, *item; /* a user and what was clicked */
    bool follow;
    size_t bad_rows;
};

static const char *why_stopped(const struct refresh_done *done, int result)
{
    if (result == 0)
        return done->complete ? "" : "time";
    return stop_asked() ? "signal" : "error";
}

/* Whoever watches hears of every run but of one that another kept out: that one's own report is still to come. */
static int report(const struct arguments *args, const struct refresh_done *done, int result, struct err *err)
{
    const struct refresh_report report = {done, args->bad_rows, why_stopped(done, result), result == 0};
    if (result == 0 || *done->generation)
        refresh_report_print(&report);
    if (!args->metrics || result == -ERR_BUSY)
        return result;
    const int written = refresh_report_metrics(&report, args->metrics, result < 0 ? NULL : err);
    return result < 0 ? result : written;
}

/* ---- what is asked for ---- */

static void report_one(void *ctx, const struct refresh_done *done, int result, const struct err *err)
{
    struct err why = *err;
    report(ctx, done, result, &why);
}

/* Inputs, a refresh, and where asked what comes after it. 1: the inputs are others now, and all begins anew. */
static int refresh_once(
    struct arguments *args, struct refresh_done *done, struct store *store, struct err *err)
{
    struct workspace workspace;
    struct tail tail = {0};
    args->bad_rows = 0;
    int result = args->follow ? tail_open(&tail, args->inputs.behaviors, err) : 0;
    if (result == 0)
        result = workspace_open(&workspace, &args->inputs, err);
    if (result < 0)
        return report(args, done, result, err);
    result = report(args, done, refresh_run(done, &workspace, store, &args->run, err), err);
    if (result == 0 && args->follow) {
        const struct follow more = {
            &workspace, store, &args->run, &args->inputs.rows, args->inputs.news, &tail, report_one, args};
        result = follow(&more, err);
    }
    workspace_close(&workspace);
    return result;
}

/* The click goes into the stream, as a feed backend's would. */
static int note_click(const struct arguments *args, struct store *store, struct err *err)
{
    const struct store_click click = {{args->click, strlen(args->click)}, {args->item, strlen(args->item)}};
    struct store_link *link;
    int result = store_connect(&link, store, err);
    if (result < 0)
        return result;
    result = store_clicks_append(link, &click, 1, err);
    store_disconnect(link);
    if (result == 0 && !args->inputs.model)
        puts("{\"clicks\":1}");
    return result;
}

static int run(struct arguments *args, struct err *err)
{
    struct store *store = NULL;
    struct refresh_done done;
    int result = store_args_open(&store, &args->where, err);
    if (result == 0 && args->click)
        result = note_click(args, store, err);
    if (result == 0 && args->inputs.model)
        do {
            done = (struct refresh_done){.state = ""};
            result = refresh_once(args, &done, store, err);
        } while (result > 0 && !stop_asked());
    store_close(store);
    return result > 0 ? 0 : result;
}

/* NULL if the options go together. */
static const char *contradiction(const struct arguments *args)
{
    if (args->click && !args->item)
        return "--click USER needs the ITEM behind it";
    if (!args->click && args->item)
        return "an ITEM goes with --click USER";
    if (!args->inputs.model != !args->inputs.news)
        return "--model and --news go together";
    if (!args->inputs.model && !args->click)
        return "missing: --model and --news";
    if (!args->inputs.model && (args->inputs.behaviors || args->follow || args->run.forget))
        return "missing: --model and --news";
    if (args->click && (args->inputs.behaviors || args->run.forget || args->follow || args->run.full))
        return "--click takes one user's click alone: not with --behaviors, --follow, --forget, --full";
    if (args->inputs.explain && args->run.workers)
        return "--explain goes without --workers, who send matrices alone";
    return NULL;
}

int command_refresh(int argc, char **argv)
{
    const double start = progress_now();
    struct arguments args = {
        .how = PUBLISH_OPTIONS_INIT, .run.limits = GATE_LIMITS_INIT, .cache_mb = 4096, .silent = 30};
    const char *dtype_name = NULL;
    struct gate_limits *limits = &args.run.limits;
    const struct option options[] = {
        {"model", "DIR", "the model's folder", false, OPTION_TEXT, &args.inputs.model, 0, 0},
        {"news", "FILE", "news.tsv", false, OPTION_TEXT, &args.inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv; without it histories are those that the store has", false,
            OPTION_TEXT, &args.inputs.behaviors, 0, 0},
        {"click", "USER ITEM",
            "put a click into the store; with --model and --news make that user fresh, too", false,
            OPTION_TEXT, &args.click, 0, 0},
        {"follow", NULL, "go on: rows appended to the behaviours, and clicks, make their users fresh at once",
            false, OPTION_FLAG, &args.follow, 0, 0},
        {"forget", "USER", "delete a user's history, clicks, matrix and summary", false, OPTION_TEXT,
            &args.run.forget, 0, 0},
        STORE_OPTIONS(args.where),
        WORKSPACE_DTYPE_OPTION(dtype_name),
        {"threads", "N", "0, one a core, unless given", false, OPTION_NUMBER, &args.run.threads, 0, 1024},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &args.inputs.rows.max_bad, 0, 0},
        {"quarantine", "FILE", "replaced by a file with the bad rows: file, line, reason, the row", false,
            OPTION_TEXT, &args.inputs.quarantine, 0, 0},
        {"max-seconds", "N",
            "begin nothing more after that time; the next run goes on; 0, no limit, unless given", false,
            OPTION_NUMBER, &args.max_seconds, 0, 1000000000},
        {"max-shrink", "PERCENT", "of the users, of the contents, that may go in one run; 20 unless given",
            false, OPTION_NUMBER, &limits->max_shrink, 0, 100},
        {"min-coverage", "PERCENT", "of the ids in histories that must have a text; 50 unless given", false,
            OPTION_NUMBER, &limits->min_coverage, 0, 100},
        {"max-drift", "N",
            "times that norms and scores' spread may change with a new generation; 10 unless given", false,
            OPTION_NUMBER, &limits->max_drift, 1, 1000000000},
        {"cache", "DIR", "keeps the states of sessions: one more click costs one session", false, OPTION_TEXT,
            &args.run.cache, 0, 0},
        {"cache-mb", "N", "the most that it takes; 4096 unless given", false, OPTION_NUMBER, &args.cache_mb,
            1, 1000000000},
        {"token-mb", "N", "memory for texts' tokens: 4 bytes each, for the longest text; 64 unless given",
            false, OPTION_NUMBER, &args.inputs.token_mb, 1, 1000000},
        {"workers", NULL, "encode in other processes, `embsum worker`, which this store's Redis leads to",
            false, OPTION_FLAG, &args.run.workers, 0, 0},
        {"silent", "SECONDS", "after which the work of a silent worker goes to another; 30 unless given",
            false, OPTION_NUMBER, &args.silent, 1, 86400},
        {"explain", NULL,
            "store what each code looks at, for /rank's explain; it fills a generation of its own", false,
            OPTION_FLAG, &args.inputs.explain, 0, 0},
        {"full", NULL, "encode everything into a new generation", false, OPTION_FLAG, &args.run.full, 0, 0},
        {"metrics", "FILE", "what the run did, for Prometheus' node exporter", false, OPTION_TEXT,
            &args.metrics, 0, 0},
        PUBLISH_OPTIONS(args.how),
    };
    const struct command command = {"refresh --model DIR --news FILE [--behaviors FILE] --store URL",
        "Bring the store to what the files say: encode what is new or has changed, delete what is gone. "
        "Inside the\n"
        "live generation where the same model made it, else into a new one, which becomes live when it is "
        "complete\n"
        "and looks right. A run that ends early, or is killed, is gone on with by the next.\n"
        "The second column of news.tsv becomes the categories that /rank may be asked for, the fourth the "
        "titles "
        "that it shows.",
        options, sizeof options / sizeof *options, &args.item, 1};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    const char *wrong = contradiction(&args);
    if (wrong) {
        fprintf(stderr, "embsum refresh: %s\n", wrong);
        return EXIT_USAGE;
    }
    if (workspace_dtype(&args.inputs, dtype_name) != EXIT_DONE)
        return EXIT_USAGE;
    struct err err = ERR_INIT;
    if (blob_dtype_parse(&args.run.dtype, args.how.dtype_name, &err) < 0) {
        fprintf(stderr, "embsum: --store-dtype: %s\n", err.message);
        return EXIT_USAGE;
    }
    args.inputs.rows.bad_rows = &args.bad_rows;
    args.inputs.rows.quiet = args.run.quiet = args.how.quiet;
    args.run.keep = args.how.keep;
    args.run.no_promote = args.how.no_promote;
    args.run.max_bad = args.inputs.rows.max_bad;
    args.run.silent_ms = (int)args.silent * 1000;
    args.run.cache_bytes = (size_t)args.cache_mb << 20;
    args.run.until = args.max_seconds ? start + (double)args.max_seconds : 0;
    args.run.source = args.click ? FOLD_CLICKS : args.inputs.behaviors ? FOLD_FILE : FOLD_STORE;
    stop_on_signals();
    return run(&args, &err) < 0 ? command_failed("refresh", &err) : EXIT_DONE;
}
