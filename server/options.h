/* embsumd's command line. One table (options.c) says what there is; parsing and --help both walk it. */
#ifndef EMBSUM_SERVER_OPTIONS_H
#define EMBSUM_SERVER_OPTIONS_H

#include "config/config.h"

#include <stdio.h>

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_PRINT_CONFIG };

/* Put the configuration together: defaults, then the file that --config names, then the environment, then the
 * other flags in their order. ERR_INVALID with *usage true is the caller's mistake on the command line (exit
 * 2); with *usage false it stands in the file or the environment (exit 1). */
int options_parse(struct config *config, enum options_action *action, int argc, char *const *argv,
    char *const *environment, bool *usage, struct err *err);

void options_help(FILE *out);
void options_print_config(FILE *out, const struct config *config); /* as a configuration file */

#endif
