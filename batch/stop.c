/* Signals are taken by a thread that does nothing else. oneDNN's kernels (2.6) use the stack pointer as one more register:
 * a handler that interrupts them on their own thread writes its frame into the heap. */
#include "batch/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool asked; /* a signal handler has nowhere else to write */

static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
enum { SIGNALS = sizeof signals / sizeof *signals };

static sigset_t all_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SIGNALS; i++)
        sigaddset(&set, signals[i]);
    return set;
}

static void on_signal(int number)
{
    (void)number;
    asked = true;
}

static void *take_signals(void *unused)
{
    const sigset_t set = all_signals();
    (void)unused;
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;)
        pause();
    return NULL;
}

void stop_on_signals(void)
{
    const sigset_t set = all_signals();
    const struct sigaction action = {
        .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* a second one kills */
    pthread_t thread;
    for (size_t i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* here, and in every thread that is made from now on */
    if (pthread_create(&thread, NULL, take_signals, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool stop_asked(void)
{
    return asked;
}
