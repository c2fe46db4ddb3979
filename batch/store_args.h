/* The options by which a command reaches a store, and what is common to the commands that write one. */
#ifndef EMBSUM_BATCH_STORE_ARGS_H
#define EMBSUM_BATCH_STORE_ARGS_H

#include "batch/options.h"
#include "store/store.h"

struct store_args {
    const char *url, *prefix, *password_file;
};

/* Rows for a command's table of options. */
#define STORE_OPTIONS(args)                                                                                  \
    {"store", "URL",                                                                                         \
        "lmdb:PATH, redis://[user@]host:port/db, redis+unix:PATH, redis+sentinel://host,host/name, "         \
        "redis+cluster://host,host; EMBSUM_STORE_URL unless given",                                          \
        false, OPTION_TEXT, &(args).url, 0, 0},                                                              \
        {"prefix", "WORD", "of the store's keys; embsum unless given", false, OPTION_TEXT, &(args).prefix,   \
            0, 0},                                                                                           \
    {                                                                                                        \
        "password-file", "FILE", "holds the store's password; else EMBSUM_STORE_PASSWORD", false,            \
            OPTION_TEXT, &(args).password_file, 0, 0                                                         \
    }

/* Flags win over EMBSUM_STORE_*, which win over the daemon's defaults; deadlines are longer than a daemon's. */
int store_args_open(struct store **store, const struct store_args *args, struct err *err);
/* The same for who writes nothing: a store that is not there is not made. */
int store_args_open_to_read(struct store **store, const struct store_args *args, struct err *err);

struct config;
/* Put the flags, as far as they are given, over what is configured. */
int store_args_apply(struct config *config, const struct store_args *args, struct err *err);
/* Open what is configured. */
int store_args_open_configured(
    struct store **store, const struct config *config, bool read_only, struct err *err);

#endif
