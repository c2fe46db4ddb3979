/* SIGINT, SIGTERM and SIGUSR1 ask a job to stop: it finishes the batch in hand, cleans up and ends. SIGUSR1 is what mpirun
 * hands on and waits for; at SIGTERM it kills its processes within two seconds. */
#ifndef EMBSUM_BATCH_STOP_H
#define EMBSUM_BATCH_STOP_H

#include <stdbool.h>

void stop_on_signals(void);
bool stop_asked(void);

#endif
