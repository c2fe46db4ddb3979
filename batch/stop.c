#include "batch/stop.h"

#include <signal.h>

static volatile sig_atomic_t asked; /* a signal handler has nowhere else to write */

static void on_signal(int number)
{
    (void)number;
    asked = 1;
}

void stop_on_signals(void)
{
    struct sigaction action = {
        .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* a second one kills */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

bool stop_asked(void)
{
    return asked != 0;
}
