/* SIGINT, SIGTERM and SIGUSR1 ask a job to stop: it finishes the batch in hand, cleans up and ends. SIGUSR1 is what mpirun
 * hands on and then waits; told to end itself by SIGTERM, it kills its processes a second after they have had theirs. */
#ifndef EMBSUM_BATCH_STOP_H
#define EMBSUM_BATCH_STOP_H

#include <stdbool.h>

/* Call once, before the program makes threads that compute: they must not take signals (stop.c says why). */
void stop_on_signals(void);
bool stop_asked(void);

#endif
