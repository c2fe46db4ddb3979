/* Memory that runs out: the test program's malloc (calloc, realloc, ...: nomem.c replaces them for the program and every
 * library in it) fails where it is told to, and counts what is in use.
 *
 * A scenario is run once to count its allocations, N; then, for every n of 1..N, with the n-th failing, and with all from
 * the n-th on failing. Whatever fails, run() returns an error with a message, or does its work without; nothing that was
 * there before is lost (verify() looks), nothing leaks, nothing hangs; and the same again, with memory, succeeds. Where N is
 * large the first ALL_UP_TO are taken, and a sample of the others drawn from EMBSUM_SEED (printed); EMBSUM_LONG=1 takes
 * more. EMBSUM_NOMEM="scenario n" runs that one alone, and shows where memory ran out. */
#ifndef EMBSUM_TESTS_FAULTS_NOMEM_H
#define EMBSUM_TESTS_FAULTS_NOMEM_H

#include "core/err.h"
#include "tests/lib/scratch.h"

#include <stdbool.h>
#include <stdio.h>

struct nomem_scenario {
    const char *name;
    /* Made ready before and taken down after each n; may be NULL. */
    void (*before)(void), (*after)(void);
    /* What is done while memory runs out. 0, or a negative code with a message. It asserts nothing. */
    int (*run)(struct err *err);
    /* Afterwards, with memory: is what was there before still there, and is what run() made right, if it returned 0? Gives
     * back what run() made. May be NULL. */
    void (*verify)(int code);
    size_t cost; /* one run in this many of the usual number is made; 0 is 1 */
};

/* False, with a line that says why: the program ends with 77. */
bool nomem_possible(void);

/* A cmocka test's body. */
void nomem_test(const struct nomem_scenario *scenario);

/* A new folder, in memory where there is /dev/shm: thousands of commits wait for no disk. scratch_remove() removes it. */
void nomem_folder(char path[256]);

/* Fail the test unless code is 0. */
void nomem_require(int code, const struct err *err);

#endif
