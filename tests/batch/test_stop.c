/* What asks a job to stop: each signal is heard, a second one kills, and none interrupts a thread that computes. */
#include "batch/stop.h"
#include "tests/lib/scratch.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
enum { SIGNALS = sizeof signals / sizeof *signals };

static bool all_blocked(void)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    for (size_t i = 0; i < SIGNALS; i++)
        if (sigismember(&set, signals[i]) != 1)
            return false;
    return true;
}

static void *look(void *blocked)
{
    *(bool *)blocked = all_blocked();
    return NULL;
}

/* Until it is asked to stop, at most ten seconds. */
static bool heard(void)
{
    for (int i = 0; i < 1000 && !stop_asked(); i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    return stop_asked();
}

/* 0: it does what it should; it ends by the second signal then. */
static int job(int number)
{
    pthread_t thread;
    bool blocked = false;
    stop_on_signals();
    if (stop_asked() || !all_blocked())
        return 1;
    if (pthread_create(&thread, NULL, look, &blocked) != 0 || pthread_join(thread, NULL) != 0 || !blocked)
        return 2;
    if (kill(getpid(), number) != 0 || !heard())
        return 3;
    kill(getpid(), number);
    nanosleep(&(struct timespec){10, 0}, NULL);
    return 4;
}

static void one_stops_and_two_kill(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIGNALS; i++) {
        int status;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(job(signals[i]));
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != signals[i])
            fail_msg("signal %d: status %#x", signals[i], (unsigned)status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_stops_and_two_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
