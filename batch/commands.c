#include "batch/commands.h"

#include <stdio.h>

int command_failed(const char *command, const struct err *err)
{
    fprintf(stderr, "embsum %s: %s\n", command, err->message);
    return err->code == -ERR_BUSY ? EXIT_LOCKED : EXIT_FAILED;
}
