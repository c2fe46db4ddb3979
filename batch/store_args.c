#include "batch/store_args.h"

#include "config/config.h"

#include <string.h>
#include <unistd.h>

static int configure(struct config *config, const struct store_args *args, struct err *err)
{
    config_init(config);
    config->store.connect_timeout_ms = 2000;
    config->store.command_timeout_ms = 10000;
    int result = config_env(config, environ, err);
    if (result == 0 && args->url)
        result = config_set(config, "store.url", args->url, err);
    if (result == 0 && args->prefix)
        result = config_set(config, "store.prefix", args->prefix, err);
    if (result == 0 && args->password_file)
        result = config_set(config, "store.password_file", args->password_file, err);
    return result;
}

int store_args_open(struct store **store, const struct store_args *args, struct err *err)
{
    struct config config;
    char password[CONFIG_STRING_MAX];
    int result = configure(&config, args, err);
    if (result == 0)
        result = config_password(&config, password, err);
    if (result < 0)
        return result;
    const struct store_options options = {.prefix = config.store.prefix,
        .password = password[0] ? password : NULL,
        .connect_timeout_ms = (int)config.store.connect_timeout_ms,
        .command_timeout_ms = (int)config.store.command_timeout_ms,
        .retry_min_ms = (int)config.store.retry_min_ms,
        .retry_max_ms = (int)config.store.retry_max_ms};
    result = store_open(store, config.store.url, &options, err);
    explicit_bzero(password, sizeof password);
    return result;
}
