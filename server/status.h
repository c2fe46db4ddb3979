/* What the daemon says of itself, of a user and of a content. */
#ifndef EMBSUM_SERVER_STATUS_H
#define EMBSUM_SERVER_STATUS_H

#include "server/http_message.h"

struct worker;

/* The process turns. Never asks the store. */
void status_livez(struct worker *worker, const struct http_request *request, struct http_response *response);
/* A verified generation is in memory; 503 until then. Never asks the store. */
void status_readyz(struct worker *worker, const struct http_request *request, struct http_response *response);
void status_version(
    struct worker *worker, const struct http_request *request, struct http_response *response);

/* /users/{id}: is there a matrix, of which shape and age, and the summary of the interests in words. */
void status_user(struct worker *worker, const struct http_request *request, struct http_response *response);

/* /contents/{id}: its title, its categories, shape and age. 404 where the generation does not have it. */
void status_content(
    struct worker *worker, const struct http_request *request, struct http_response *response);

#endif
