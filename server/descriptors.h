/* How many files and sockets the process may have open, and what they are for. */
#ifndef EMBSUM_SERVER_DESCRIPTORS_H
#define EMBSUM_SERVER_DESCRIPTORS_H

#include "config/config.h"
#include "server/log.h"

/* Raise the limit as far as the configuration needs it and the system allows. Where that is not enough,
 * server.connections_max is lowered, with a line in the log: a client that is one too many is told so, and the store keeps
 * its share. Before anything is opened. */
void descriptors_reserve(struct config *config, const struct log *log);

#endif
