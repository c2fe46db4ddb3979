/* Bearer tokens (RFC 6750): who may ask a listener.
 *
 *     auth_open(&auth, "server.token_file", path, log, &err);
 *     if (!auth_allows(auth, request->authorization))
 *         ... 401
 *
 * The file holds one or two tokens, a line each, and is closed to everybody but its owner and group. It is read again
 * once a second, so that tokens change without a restart: add the new one, tell the clients, take the old one out. A
 * file that will not do is named in the log once, and the tokens before stay valid. */
#ifndef EMBSUM_SERVER_AUTH_H
#define EMBSUM_SERVER_AUTH_H

#include "core/err.h"
#include "server/log.h"

#include <stdbool.h>

enum { AUTH_TOKENS = 2, AUTH_TOKEN_MIN = 16, AUTH_TOKEN_MAX = 255 };

struct auth;

/* key names the file in messages. An empty path makes no auth (NULL): it allows everybody. log outlives it. */
int auth_open(struct auth **out, const char *key, const char *path, const struct log *log, struct err *err);
void auth_free(struct auth *auth); /* NULL is allowed */

/* authorization is the header's value, or NULL. Any thread may ask; how long it takes tells nothing of the tokens. */
bool auth_allows(struct auth *auth, const char *authorization);

#endif
