/* What the sources of a configuration share (config_*.c alone). */
#ifndef EMBSUM_CONFIG_CONFIG_INT_H
#define EMBSUM_CONFIG_CONFIG_INT_H

#include "config/config.h"

#define CONFIG_SHOWN_MAX 96 /* bytes of a value inside a message */

const struct config_key *config_find(const char *name); /* the row, or NULL */

/* Write a value and return true, or return false where the key does not take it. */
bool config_put_long(struct config *config, const struct config_key *key, long long value);
bool config_put_share(struct config *config, const struct config_key *key, double value);
bool config_put_bool(struct config *config, const struct config_key *key, bool value);
bool config_put_string(struct config *config, const struct config_key *key, const char *text);

/* A text as messages show it: quoted, on one line, printable, cut when long. */
void config_show(char out[CONFIG_SHOWN_MAX], const char *text);

/* ERR_INVALID: "server.workers is 999; allowed: ..." */
int config_refuse(const struct config_key *key, const char *shown, struct err *err);

#endif
