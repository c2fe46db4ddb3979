#include "tests/lib/redis_client.h"

#include <stdio.h>

struct client client_open(const char *url, const char *password, int retry_ms)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct client client = {NULL, NULL};
    struct err err = ERR_INIT;
    options.prefix = "fault";
    options.password = password;
    options.connect_timeout_ms = options.command_timeout_ms = TIMEOUT_MS;
    options.retry_min_ms = retry_ms;
    options.retry_max_ms = 5 * retry_ms;
    if (store_open(&client.store, url, &options, &err) < 0)
        fail_msg("%s: %s", url, err.message);
    assert_int_equal(store_connect(&client.link, client.store, NULL), 0);
    return client;
}

struct client client_open_port(int port, int retry_ms)
{
    char url[64];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/0", port);
    return client_open(url, NULL, retry_ms);
}

void client_close(struct client *client)
{
    store_disconnect(client->link);
    store_close(client->store);
}

/* ---- users whose value is their id ---- */

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    char *const text = ctx;
    (void)index;
    if (!data)
        snprintf(text, 64, "(nothing)");
    else
        snprintf(text, 64, "%.*s", (int)len, (const char *)data);
    return 0;
}

int client_get(struct client *client, const char *id, char text[64], struct err *err)
{
    const struct store_id one = {id, strlen(id)};
    *text = '\0';
    return store_get(client->link, "g", STORE_USER, &one, 1, take, text, err);
}

int client_put(struct client *client, const char *id, struct err *err)
{
    const struct store_entry entry = {{id, strlen(id)}, id, strlen(id)};
    return store_put(client->link, "g", STORE_USER, &entry, 1, err);
}

/* Again until it succeeds, at most for limit_ms; what comes then is the id's own value. */
void client_recover(struct client *client, const char *id, long limit_ms)
{
    const long long start = test_now_ms();
    char text[64];
    struct err err = ERR_INIT;
    int rc;
    while ((rc = client_get(client, id, text, &err)) < 0 && test_now_ms() - start < limit_ms) {
        assert_int_equal(rc, -ERR_UNAVAILABLE);
        test_sleep_ms(5);
    }
    if (rc < 0)
        fail_msg("no recovery within %ld ms: %s", limit_ms, err.message);
    assert_string_equal(text, id);
}

void client_fill(struct client *client, int users)
{
    char id[16];
    struct err err = ERR_INIT;
    for (int i = 0; i < users; i++) {
        snprintf(id, sizeof id, "U%d", i);
        if (client_put(client, id, &err) < 0)
            fail_msg("%s", err.message);
    }
}
