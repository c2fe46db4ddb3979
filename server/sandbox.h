/* What a daemon that has started needs no more it gives up, for good: whoever takes it over through a request can start no
 * program, load no code, listen nowhere, and reach neither other files nor, on an embedded store, the network.
 *
 *     sandbox_files(config, &err);              before there are threads: each thread has limits of its own, which
 *                                               those that it starts inherit (Landlock)
 *     ...                                       store, threads, listeners
 *     sandbox_calls(store_url, noticed, &err);  when all threads are there; holds for all of them (seccomp)
 *
 * Both return 1 if the limits hold, 0 if this kernel or this build has no such thing, or a negative enum err_code. */
#ifndef EMBSUM_SERVER_SANDBOX_H
#define EMBSUM_SERVER_SANDBOX_H

#include "config/config.h"

#include <stdint.h>

/* Files: the store's folder (or the nearest above it, as long as it is not made) for reading and writing; the access log's
 * folder for writing; to read, the folders of the token files, the store's password, and, where a name has to be looked
 * up, what that takes. */
int sandbox_files(const struct config *config, struct err *err);

/* System calls: those of a table (sandbox_calls.c). Another one fails with EPERM, and noticed is called, inside a signal
 * handler of the thread that made it. No thread can be started afterwards. */
int sandbox_calls(const char *store_url, void (*noticed)(void), struct err *err);

/* How many calls were refused so far; *last receives the number of the last one. */
uint64_t sandbox_refused(int *last);

/* gcc's sanitizers read maps, start threads and trace the others (the leak check waits for ever where it may not): a build
 * with them has no sandbox. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#else
#define SANDBOX_SANITIZED 0
#endif

#endif
