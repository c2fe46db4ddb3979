/* The daemon's configuration: one table of keys (config.c) that the loader, the environment, --set, the
 * shipped file and the reference (REFERENCE.md) all follow.
 *
 * Later sources win: defaults, the file, the environment (server.listen is EMBSUM_SERVER_LISTEN), flags.
 * An unknown key, a wrong type or an impossible value is an error that names the key.
 */
#ifndef EMBSUM_CONFIG_CONFIG_H
#define EMBSUM_CONFIG_CONFIG_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_STRING_MAX 1024

struct config {
    struct {
        char listen[CONFIG_STRING_MAX]; /* ADDR:PORT, [IPv6]:PORT; port 0 lets the system choose */
        long workers;                   /* 0: one a core */
        long connections_max, body_max_bytes, header_max_bytes;
        long idle_timeout_ms, shutdown_timeout_ms;
    } server;
    struct {
        long candidates_max, users_max; /* per request */
        bool default_user;              /* rank unknown users with the generation's default user, else 404 */
    } rank;
    struct {
        char url[CONFIG_STRING_MAX], prefix[CONFIG_STRING_MAX], password_file[CONFIG_STRING_MAX];
        long connect_timeout_ms, command_timeout_ms, retry_min_ms, retry_max_ms;
        long poll_ms; /* how often the live pointer is read */
    } store;
    struct {
        long limit_bytes; /* of the hot memory: matrices kept ready for scoring */
    } memory;
    struct {
        char level[CONFIG_STRING_MAX]; /* debug, info, warn, error */
    } log;
};

enum config_type { CONFIG_LONG, CONFIG_BOOL, CONFIG_STRING };

/* One row of the table. */
struct config_key {
    const char *name; /* "server.listen" */
    enum config_type type;
    size_t offset;        /* in struct config */
    long min, max;        /* CONFIG_LONG */
    const char *choices;  /* CONFIG_STRING: "a|b|c", or NULL for any text */
    const char *fallback; /* the default, as text */
    const char *help;     /* one sentence, as in REFERENCE.md */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

void config_init(struct config *config);                                                   /* the defaults */
int config_load(struct config *config, const char *path, struct err *err);                 /* a JSON file */
int config_env(struct config *config, char *const *environ, struct err *err);              /* EMBSUM_* */
int config_set(struct config *config, const char *key, const char *text, struct err *err); /* one value */
int config_check(const struct config *config, struct err *err); /* what no single key can tell */

/* The store's password: the file named by store.password_file, else EMBSUM_STORE_PASSWORD; "" if neither.
 * One trailing newline is cut. */
int config_password(const struct config *config, char out[CONFIG_STRING_MAX], struct err *err);

#endif
