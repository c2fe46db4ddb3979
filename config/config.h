/* The daemon's configuration: one table of keys (config.c) that the loader, the environment, --set, the
 * shipped file and the reference (REFERENCE.md) all follow.
 *
 *     struct config config;
 *     config_init(&config);
 *     if (config_load(&config, path, &err) < 0 || config_env(&config, environ, &err) < 0 ||
 *         config_set(&config, "server.listen", flag, &err) < 0 || config_check(&config, &err) < 0)
 *         ... err.message names the source, the key, the value and what is allowed
 *
 * Later sources win: defaults, the file, the environment (server.listen is EMBSUM_SERVER_LISTEN), flags.
 * An unknown key, a wrong type or an impossible value is an error that names the key. A call that fails
 * leaves the configuration as it was. Nothing here is shared: a struct config is plain data.
 */
#ifndef EMBSUM_CONFIG_CONFIG_H
#define EMBSUM_CONFIG_CONFIG_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_STRING_MAX 1024 /* bytes of a text value, with the NUL */
#define CONFIG_ALLOWED_MAX 128
#define CONFIG_ENV_NAME_MAX 64

struct config {
    struct {
        char listen[CONFIG_STRING_MAX]; /* ADDR:PORT, [IPv6]:PORT; port 0 lets the system choose */
        long workers;                   /* that rank; 0: one a core */
        long io_threads;                /* that read requests and send answers; 0: one a core */
        long queue_max;                 /* requests that wait for a worker */
        long connections_max, body_max_bytes, header_max_bytes;
        long bodies_max_bytes; /* of all requests together */
        long idle_timeout_ms, header_timeout_ms, body_timeout_ms, write_timeout_ms, shutdown_timeout_ms;
        char token_file[CONFIG_STRING_MAX]; /* empty: everybody who can connect may ask */
        bool allow_anonymous;               /* that, where others than this machine can connect */
        bool sandbox;
    } server;
    struct {
        long candidates_max, users_max; /* per request */
        long deadline_ms;               /* for an answer */
        bool default_user;              /* rank unknown users with the generation's default user, else 404 */
    } rank;
    struct {
        char dtype[CONFIG_STRING_MAX];  /* one of scorer_dtype_name() */
        char kernel[CONFIG_STRING_MAX]; /* auto, or one of core/scorer.h's */
    } scoring;
    struct {
        char url[CONFIG_STRING_MAX], prefix[CONFIG_STRING_MAX], password_file[CONFIG_STRING_MAX];
        long connections; /* that bring what is not in memory */
        long connect_timeout_ms, command_timeout_ms, retry_min_ms, retry_max_ms;
        long poll_ms; /* how often the live pointer is read */
    } store;
    struct {
        long limit_bytes; /* of the hot memory: matrices kept ready for scoring */
        bool preload;     /* fill it before a generation is served */
        long warm_ms;     /* at most so long with what the generation before was asked for; 0: not at all */
    } memory;
    struct {
        double share;                       /* of the requests, 0 to 1 */
        char generation[CONFIG_STRING_MAX]; /* empty: the newest that is ready */
    } shadow;
    struct {
        char level[CONFIG_STRING_MAX];  /* debug, info, warn, error */
        char access[CONFIG_STRING_MAX]; /* where the access log goes; empty: nowhere */
        bool access_users;              /* with users' ids */
    } log;
    struct {
        char listen[CONFIG_STRING_MAX]; /* empty: nowhere */
        char token_file[CONFIG_STRING_MAX];
    } admin;
};

enum config_type { CONFIG_LONG, CONFIG_SHARE, CONFIG_BOOL, CONFIG_STRING }; /* a share: 0 to 1 */

/* One row of the table. */
struct config_key {
    const char *name; /* "server.listen": a section and a key, never more levels */
    enum config_type type;
    size_t offset;                   /* in struct config */
    long min, max;                   /* CONFIG_LONG: the value; CONFIG_STRING: its length in bytes */
    const char *choices;             /* CONFIG_STRING: "a|b|c", or NULL for any text */
    bool (*valid)(const char *text); /* CONFIG_STRING: a shape that the text must have, or NULL */
    const char *shape;               /* that shape in words */
    const char *fallback;            /* the default, as text */
    const char *help;                /* one sentence, as in REFERENCE.md */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

void config_init(struct config *config);                                                   /* the defaults */
int config_load(struct config *config, const char *path, struct err *err);                 /* a JSON file */
int config_env(struct config *config, char *const *environ, struct err *err);              /* EMBSUM_* */
int config_set(struct config *config, const char *key, const char *text, struct err *err); /* one value */
int config_check(const struct config *config, struct err *err); /* what no single key can tell */

/* What a key takes, in words ("a whole number from 0 to 256"), and its name in the environment. */
void config_allowed(char out[CONFIG_ALLOWED_MAX], const struct config_key *key);
void config_env_name(char out[CONFIG_ENV_NAME_MAX], const struct config_key *key);

/* The store's password: the file named by store.password_file, else EMBSUM_STORE_PASSWORD; "" if neither.
 * One trailing newline is cut. */
int config_password(const struct config *config, char out[CONFIG_STRING_MAX], struct err *err);

#endif
