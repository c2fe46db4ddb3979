/* What the command line of openloop says. */
#ifndef EMBSUM_TESTS_LOAD_OPTIONS_H
#define EMBSUM_TESTS_LOAD_OPTIONS_H

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    const char *address, *path, *bodies, *token_file, *answers;
    double rate, seconds, warmup, connections, requests, timeout_ms, seed;
    int poisson, allow_remote;
};

static const char options_usage[] =
    "usage: openloop --address HOST:PORT [OPTION]...\n\n"
    "Ask a service at a fixed rate and print, as one JSON object, how long the answers took from the time at "
    "which\n"
    "each request was due (from_due_us) and from the time at which it left (from_send_us).\n\n"
    "  --address HOST:PORT  numeric; this machine's loopback only, unless --allow-remote\n"
    "  --path PATH          /rank unless given\n"
    "  --bodies FILE        POST the lines of FILE in turn; without it GET\n"
    "  --token-file FILE    send Authorization: Bearer with the first line of FILE\n"
    "  --answers FILE       write each different answer to a request once, as {request (its line, from 0), "
    "status, count,\n"
    "                       first_ns, last_ns, body}\n"
    "  --rate N             requests a second; 0 (unless given) asks again as soon as an answer is there\n"
    "  --poisson            independent arrivals instead of equal gaps\n"
    "  --connections N      kept alive; 64 unless given\n"
    "  --seconds N          to measure; 10 unless given, at most 3600\n"
    "  --warmup N           seconds before that, not measured; 1 unless given\n"
    "  --requests N         stop after so many, warm-up included\n"
    "  --timeout-ms N       wait so long for the last answers; 5000 unless given\n"
    "  --seed N             of the arrivals\n"
    "  --allow-remote       the address may be another machine's\n\n"
    "Exit: 0 every request was answered 200, 1 failed or some were not, 2 usage.\n";

/* -1: go on; otherwise the exit code. */
static inline int options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.path = "/rank",
        .seconds = 10,
        .warmup = 1,
        .connections = 64,
        .requests = 1e15,
        .timeout_ms = 5000,
        .seed = 1};
    int help = 0;
    const struct {
        const char *name;
        const char **text;
        double *number;
        int *flag;
        double min, max;
    } table[] = {
        {"address", &o->address, NULL, NULL, 0, 0},
        {"path", &o->path, NULL, NULL, 0, 0},
        {"bodies", &o->bodies, NULL, NULL, 0, 0},
        {"token-file", &o->token_file, NULL, NULL, 0, 0},
        {"answers", &o->answers, NULL, NULL, 0, 0},
        {"rate", NULL, &o->rate, NULL, 0, 1e6},
        {"connections", NULL, &o->connections, NULL, 1, 10000},
        {"seconds", NULL, &o->seconds, NULL, 0, 3600},
        {"warmup", NULL, &o->warmup, NULL, 0, 3600},
        {"requests", NULL, &o->requests, NULL, 1, 1e15},
        {"timeout-ms", NULL, &o->timeout_ms, NULL, 0, 600000},
        {"seed", NULL, &o->seed, NULL, 0, 1e15},
        {"poisson", NULL, NULL, &o->poisson, 0, 0},
        {"allow-remote", NULL, NULL, &o->allow_remote, 0, 0},
        {"help", NULL, NULL, &help, 0, 0},
    };
    enum { COUNT = sizeof table / sizeof *table };
    struct option long_options[COUNT + 1] = {0};
    for (size_t i = 0; i < COUNT; i++)
        long_options[i] = (struct option){table[i].name, !table[i].flag, table[i].flag, 1};
    bool good = true;
    int which = 0;
    for (int got; good && (got = getopt_long(argc, argv, "", long_options, &which)) != -1;) {
        if (got == '?')
            good = false;
        else if (table[which].text)
            *table[which].text = optarg;
        else if (table[which].number) {
            char *end;
            const double value = strtod(optarg, &end);
            good = end != optarg && !*end && value >= table[which].min && value <= table[which].max;
            if (good)
                *table[which].number = value;
            else
                fprintf(stderr, "openloop: --%s %s is not a number from %g to %g\n", table[which].name,
                    optarg, table[which].min, table[which].max);
        }
    }
    if (help && good) {
        fputs(options_usage, stdout);
        return 0;
    }
    if (good && optind == argc && o->address)
        return -1;
    fputs(options_usage, stderr);
    return 2;
}

#endif
