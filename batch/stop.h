/* SIGINT and SIGTERM ask a job to stop: it finishes the batch in hand, cleans up and ends. */
#ifndef EMBSUM_BATCH_STOP_H
#define EMBSUM_BATCH_STOP_H

#include <stdbool.h>

void stop_on_signals(void);
bool stop_asked(void);

#endif
