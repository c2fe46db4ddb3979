/* The sub-commands of embsum: each parses its own line and returns the program's exit code. */
#ifndef EMBSUM_BATCH_COMMANDS_H
#define EMBSUM_BATCH_COMMANDS_H

#include "batch/options.h"
#include "core/err.h"

int command_init(int argc, char **argv);
int command_train(int argc, char **argv);
int command_study(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_summarize(int argc, char **argv);
int command_calibrate(int argc, char **argv);
int command_encode(int argc, char **argv);
int command_refresh(int argc, char **argv);
int command_worker(int argc, char **argv);
int command_import(int argc, char **argv);
int command_generations(int argc, char **argv);
int command_rank(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* Print the failure and choose the exit code. */
int command_failed(const char *command, const struct err *err);

#endif
