#include "batch/commands.h"
#include "batch/stop.h"
#include "batch/store_args.h"
#include "batch/worker.h"

#include <stdio.h>

static int run(struct worker_done *done, const struct store_args *where, const struct worker_options *options,
    struct err *err)
{
    struct store *store = NULL;
    int result = store_args_open(&store, where, err);
    if (result == 0)
        result = worker_run(done, store, options, err);
    store_close(store);
    return result;
}

int command_worker(int argc, char **argv)
{
    struct worker_options worker = {0};
    struct worker_done done = {0};
    struct store_args where = {0};
    long max_idle = 0;
    const struct option options[] = {
        {"model", "DIR", "the model's folder: the same model as the refresh's", true, OPTION_TEXT,
            &worker.model, 0, 0},
        STORE_OPTIONS(where),
        {"threads", "N", "0, one a core, unless given", false, OPTION_NUMBER, &worker.threads, 0, 1024},
        {"max-idle", "SECONDS", "end after so long without work; 0, never, unless given", false,
            OPTION_NUMBER, &max_idle, 0, 1000000000},
        {"wait", NULL, "where the work is for another model, wait for work that fits", false, OPTION_FLAG,
            &worker.wait, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &worker.quiet, 0, 0},
    };
    const struct command command = {"worker --model DIR --store URL",
        "Encode for a refresh on another machine, `embsum refresh --workers`, through its Redis: any number "
        "of\n"
        "workers, before it begins or while it runs. Ends after SIGTERM, when the work in hand is done. One "
        "that\n"
        "is killed leaves its work to the others.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    worker.max_idle = (double)max_idle;
    stop_on_signals();
    const int result = run(&done, &where, &worker, &err);
    printf("{\"units\":%zu,\"contents\":%zu,\"users\":%zu,\"tokens\":%zu}\n", done.units, done.contents,
        done.users, done.tokens);
    return result < 0 ? command_failed("worker", &err) : EXIT_DONE;
}
