/* Tells who waits for something that its time is over: one thread for all of them.
 *
 *     struct mine { struct deadline deadline; ... };
 *     mine->deadline.passed = mine_passed;
 *     deadline_set(deadlines, &mine->deadline, clock_ns() + 50000000);
 *     ...
 *     deadline_clear(deadlines, &mine->deadline);     from now on mine_passed neither is called nor runs
 *
 * A deadline lies inside whatever waits. */
#ifndef EMBSUM_SERVER_DEADLINES_H
#define EMBSUM_SERVER_DEADLINES_H

#include "core/err.h"

#include <stdbool.h>
#include <stdint.h>

struct deadlines;

struct deadline {
    struct deadline *next, *before; /* these are the thread's */
    bool set;
    uint64_t at_ns;
    /* Called once when the time has come, on the thread that serves all, so it is short; it may not set or clear a
     * deadline. The deadline is cleared then, and may be gone as soon as the call has let others know. */
    void (*passed)(struct deadline *deadline);
};

int deadlines_start(struct deadlines **out, struct err *err);
void deadlines_stop(struct deadlines *deadlines); /* none passes any more; NULL is allowed */
void deadlines_free(struct deadlines *deadlines); /* stopped, and nobody waits; NULL is allowed */

void deadline_set(struct deadlines *deadlines, struct deadline *deadline, uint64_t at_ns);
void deadline_clear(struct deadlines *deadlines, struct deadline *deadline); /* one that is not set, too */

#endif
