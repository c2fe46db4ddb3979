/* A store on a Redis whose faults are tested: short deadlines, users whose values are their ids. */
#ifndef EMBSUM_TESTS_LIB_REDIS_CLIENT_H
#define EMBSUM_TESTS_LIB_REDIS_CLIENT_H

#include "tests/lib/redis.h"
#include "tests/lib/stores.h"

#define TIMEOUT_MS 150
#define SLACK_MS 400 /* what a machine under load may add */
#define RETRY_MS 20  /* the first pause; the longest is five times as long */

struct client {
    struct store *store;
    struct store_link *link;
};

struct client client_open(const char *url, const char *password, int retry_ms);
struct client client_open_port(int port, int retry_ms);
void client_close(struct client *client);

/* What store_get and store_put return; text is the value, "(nothing)", or "" if the call failed. */
int client_get(struct client *client, const char *id, char text[64], struct err *err);
int client_put(struct client *client, const char *id, struct err *err);

/* Put users U0, U1, ... */
void client_fill(struct client *client, int users);

/* Get until it succeeds, at most for limit_ms; what comes then is the id's own value. */
void client_recover(struct client *client, const char *id, long limit_ms);

#endif
