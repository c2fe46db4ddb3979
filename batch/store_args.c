#include "batch/store_args.h"

#include "config/config.h"

#include <string.h>
#include <unistd.h>

int store_args_apply(struct config *config, const struct store_args *args, struct err *err)
{
    int result = 0;
    if (args->url)
        result = config_set(config, "store.url", args->url, err);
    if (result == 0 && args->prefix)
        result = config_set(config, "store.prefix", args->prefix, err);
    if (result == 0 && args->password_file)
        result = config_set(config, "store.password_file", args->password_file, err);
    return result;
}

int store_args_open_configured(
    struct store **store, const struct config *config, bool read_only, struct err *err)
{
    char password[CONFIG_STRING_MAX];
    int result = config_password(config, password, err);
    if (result < 0)
        return result;
    const struct store_options options = {.prefix = config->store.prefix,
        .password = password[0] ? password : NULL,
        .connect_timeout_ms = (int)config->store.connect_timeout_ms,
        .command_timeout_ms = (int)config->store.command_timeout_ms,
        .retry_min_ms = (int)config->store.retry_min_ms,
        .retry_max_ms = (int)config->store.retry_max_ms,
        .read_only = read_only};
    result = store_open(store, config->store.url, &options, err);
    explicit_bzero(password, sizeof password);
    return result;
}

static int open_by_flags(struct store **store, const struct store_args *args, bool read_only, struct err *err)
{
    struct config config;
    config_init(&config);
    config.store.connect_timeout_ms = 2000;
    config.store.command_timeout_ms = 10000;
    int result = config_env(&config, environ, err);
    if (result == 0)
        result = store_args_apply(&config, args, err);
    return result < 0 ? result : store_args_open_configured(store, &config, read_only, err);
}

int store_args_open(struct store **store, const struct store_args *args, struct err *err)
{
    return open_by_flags(store, args, false, err);
}

int store_args_open_to_read(struct store **store, const struct store_args *args, struct err *err)
{
    return open_by_flags(store, args, true, err);
}
