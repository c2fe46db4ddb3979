#include "server/options.h"

#include "server/writer.h"

#include <stdlib.h>
#include <string.h>

enum kind { OPTION_CONFIG, OPTION_KEY, OPTION_SET, OPTION_ACTION };

static const struct option {
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *help;
    enum kind kind;
    const char *key;            /* OPTION_KEY: the key of the configuration that it sets */
    enum options_action action; /* OPTION_ACTION */
} options[] = {
    {"--config", "FILE", "read the configuration from FILE (JSON)", OPTION_CONFIG, NULL, 0},
    {"--store", "URL",
        "the store: lmdb:PATH, redis://[user@]host:port/db, redis+unix:PATH, "
        "redis+sentinel://host,host/name, redis+cluster://host,host",
        OPTION_KEY, "store.url", 0},
    {"--listen", "ADDR:PORT", "where to listen; port 0 lets the system choose", OPTION_KEY, "server.listen",
        0},
    {"--set", "KEY=VALUE", "set any key of the configuration, as --set rank.users_max=8", OPTION_SET, NULL,
        0},
    {"--print-config", NULL, "print the configuration that results, then exit", OPTION_ACTION, NULL,
        OPTIONS_PRINT_CONFIG},
    {"--help", NULL, "print this, then exit", OPTION_ACTION, NULL, OPTIONS_HELP},
    {"--version", NULL, "print the version, then exit", OPTION_ACTION, NULL, OPTIONS_VERSION},
};
enum { OPTIONS = sizeof options / sizeof *options };

void options_help(FILE *out)
{
    fprintf(out, "usage: embsumd [OPTION]...\n\n"
                 "Rank contents for users over HTTP from the matrices that embsum has put into a store.\n\n");
    for (size_t i = 0; i < OPTIONS; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s%s%s", options[i].name, options[i].argument ? " " : "",
            options[i].argument ? options[i].argument : "");
        fprintf(out, "  %-22s  %s\n", left, options[i].help);
    }
    fprintf(out, "\nLater sources win: defaults, the file, the environment (server.listen is\n"
                 "EMBSUM_SERVER_LISTEN), flags. config/REFERENCE.md explains every key.\n"
                 "Exit: 0 stopped by a signal, 1 failed, 2 usage.\n");
}

static const struct option *find(const char *word, size_t len)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, word, len) == 0)
            return &options[i];
    return NULL;
}

/* The option at argv[*at] and its argument, in this word (--listen=X) or the next; *at moves behind both. */
static int next(
    const struct option **out, const char **argument, int *at, int argc, char *const *argv, struct err *err)
{
    const char *word = argv[(*at)++];
    const size_t len = strcspn(word, "=");
    const struct option *option = find(word, len);
    if (!option)
        return err_set(err, ERR_INVALID, "unknown option \"%s\"", word);
    *argument = word[len] ? word + len + 1 : NULL;
    if (!option->argument && *argument)
        return err_set(err, ERR_INVALID, "%s takes no argument", option->name);
    if (option->argument && !*argument) {
        if (*at >= argc)
            return err_set(err, ERR_INVALID, "%s needs %s", option->name, option->argument);
        *argument = argv[(*at)++];
    }
    *out = option;
    return 0;
}

static int set(struct config *config, const char *assignment, struct err *err)
{
    const char *equals = strchr(assignment, '=');
    char key[128];
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key)
        return err_set(err, ERR_INVALID, "--set \"%s\": KEY=VALUE is expected", assignment);
    memcpy(key, assignment, (size_t)(equals - assignment));
    key[equals - assignment] = '\0';
    return config_set(config, key, equals + 1, err);
}

/* First look at all words: what is asked for, and the file, which is read before the other flags count. */
static int survey(
    const char **file, enum options_action *action, int argc, char *const *argv, struct err *err)
{
    for (int at = 1; at < argc;) {
        const struct option *option = NULL;
        const char *argument;
        const int code = next(&option, &argument, &at, argc, argv, err);
        if (code < 0)
            return code;
        if (option->kind == OPTION_CONFIG && *file)
            return err_set(err, ERR_INVALID, "--config is given twice");
        if (option->kind == OPTION_CONFIG)
            *file = argument;
        if (option->kind == OPTION_ACTION && *action == OPTIONS_RUN)
            *action = option->action;
    }
    return 0;
}

static int apply_flags(struct config *config, int argc, char *const *argv, struct err *err)
{
    int code = 0;
    for (int at = 1; code == 0 && at < argc;) {
        const struct option *option = NULL;
        const char *argument;
        code = next(&option, &argument, &at, argc, argv, err);
        if (code == 0 && option->kind == OPTION_KEY)
            code = config_set(config, option->key, argument, err);
        else if (code == 0 && option->kind == OPTION_SET)
            code = set(config, argument, err);
    }
    return code;
}

int options_parse(struct config *config, enum options_action *action, int argc, char *const *argv,
    char *const *environment, bool *usage, struct err *err)
{
    const char *file = NULL;
    enum options_action wanted = OPTIONS_RUN;
    *usage = true;
    int code = survey(&file, &wanted, argc, argv, err);
    if (code < 0)
        return code;
    *action = wanted;
    if (wanted == OPTIONS_HELP || wanted == OPTIONS_VERSION)
        return 0;
    *usage = false;
    config_init(config);
    if (file)
        code = config_load(config, file, err);
    if (code == 0)
        code = config_env(config, environment, err);
    if (code < 0)
        return code;
    *usage = true;
    code = apply_flags(config, argc, argv, err);
    if (code < 0)
        return code;
    *usage = false;
    return config_check(config, err);
}

static void print_value(struct writer *w, const struct config *config, const struct config_key *key)
{
    const char *at = (const char *)config + key->offset;
    long number;
    double share;
    bool truth;
    switch (key->type) {
    case CONFIG_LONG:
        memcpy(&number, at, sizeof number);
        writer_int(w, number);
        break;
    case CONFIG_SHARE:
        memcpy(&share, at, sizeof share);
        writer_float(w, (float)share);
        break;
    case CONFIG_BOOL:
        memcpy(&truth, at, sizeof truth);
        writer_bool(w, truth);
        break;
    case CONFIG_STRING:
        writer_text(w, at);
        break;
    }
}

void options_print_config(FILE *out, const struct config *config)
{
    struct writer w = {0};
    size_t section_len = 0;
    const char *section = NULL;
    writer_open(&w, '{');
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        const size_t len = strcspn(key->name, ".");
        if (!section || len != section_len || memcmp(section, key->name, len) != 0) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)len, key->name);
            if (section)
                writer_close(&w, '}');
            writer_key(&w, name);
            writer_open(&w, '{');
            section = key->name;
            section_len = len;
        }
        writer_key(&w, key->name + len + 1);
        print_value(&w, config, key);
    }
    writer_close(&w, '}');
    writer_close(&w, '}');
    if (!w.failed)
        fprintf(out, "%.*s\n", (int)w.used, w.data);
    writer_done(&w);
}
