/* embsum: the offline jobs. */
#include "batch/commands.h"

#include "core/gemm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"init", "make a model with random weights, or from a T5 checkpoint", command_init},
    {"train", "train a model on labelled impressions", command_train},
    {"study", "train and evaluate a grid: ablations and sizes", command_study},
    {"eval", "rank impressions and print MIND's metrics", command_eval},
    {"summarize", "ask an LLM for users' interest summaries", command_summarize},
    {"calibrate", "prepare a model for int8 on given texts", command_calibrate},
    {"encode", "texts to .npy matrices", command_encode},
    {"refresh", "texts to the store, and live: the cron job", command_refresh},
    {"worker", "encode for a refresh on another machine", command_worker},
    {"import", ".npy matrices to the store, and live", command_import},
    {"generations", "list, promote, rollback, drop, verify", command_generations},
    {"rank", "rank from a store, without a daemon", command_rank},
    {"doctor", "check this machine, a store, a model: what to do", command_doctor},
    {"tokenize", "lines on stdin to token ids", command_tokenize},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fprintf(out, "usage: embsum COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].about);
    fprintf(out,
        "\nembsum COMMAND --help lists a command's options. Results go to stdout, progress to stderr.\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 another writer holds the lock.\n");
}

/* The encoder's products are most of the work; EMBSUM_ONEDNN=0 leaves them to OpenBLAS. A ranking has none, and the doctor
 * looks into them itself. */
static int prepare_products(int (*run)(int argc, char **argv), struct err *err)
{
    if (run == command_rank || run == command_doctor)
        return 0;
    const char *wish = getenv("EMBSUM_ONEDNN");
    const int result = gemm_init(err);
    if (result == 0 && !(wish && strcmp(wish, "0") == 0) && gemm_use_onednn(err) == -ERR_CORRUPT)
        fprintf(stderr, "embsum: %s; going on with %s\n", err->message, gemm_kernel());
    return result;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    signal(SIGPIPE, SIG_IGN); /* a store that hangs up is an error to report, not a death */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that outgrows its limit */
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("embsum %s\n", EMBSUM_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (prepare_products(commands[i].run, &err) < 0)
            return command_failed(commands[i].name, &err);
        return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "embsum: unknown command %s\n", argv[1]);
    print_help(stderr);
    return EXIT_USAGE;
}
