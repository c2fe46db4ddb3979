/* The access log: a line of JSON for each request, on stderr, a descriptor or a file (log.access).
 *
 * Whoever answers a request leaves what is to be said in a ring of its own thread, and goes on; another thread makes lines
 * of it and writes them, at most PIPE_BUF bytes at a time, so that no line is torn where several write to one pipe. Where
 * that thread is too slow, or who reads from it, records are left out and counted; nobody waits. A file may be renamed at
 * any time: a second later its name stands for a new one. */
#ifndef EMBSUM_SERVER_ACCESS_H
#define EMBSUM_SERVER_ACCESS_H

#include "config/config.h"
#include "server/log.h"

struct access;
struct http_call;
struct worker;

/* NULL and 0 where log.access is empty. threads: how many there are that answer, each with a number below this. What goes
 * wrong later is said in log. Starts the thread. */
int access_open(
    struct access **out, const struct config *config, const struct log *log, size_t threads, struct err *err);
/* Writes what is left, for a second at most; nobody may put any more. NULL is allowed. */
void access_close(struct access *access);

uint64_t access_lines(const struct access *access); /* written so far; NULL: 0 */

/* ---- what a line says ---- */

enum access_text {
    ACCESS_ID,
    ACCESS_METHOD,
    ACCESS_PATH,
    ACCESS_CLIENT,
    ACCESS_GENERATION,
    ACCESS_USER,
    ACCESS_TRACE_ID,
    ACCESS_PARENT_ID,
    ACCESS_SPAN_ID,
    ACCESS_TEXTS
};

struct access_numbers {
    int64_t seconds, nanoseconds; /* when, UTC */
    uint64_t us, bytes, left_out;
    uint64_t stage_us[4];
    uint32_t users, present, candidates, missing;
    uint16_t status;
    uint8_t route; /* enum metrics_route */
    bool ranked;   /* generation, users, candidates and stages have something to say */
    bool degraded;
};

struct access_entry {
    struct access_numbers numbers;
    struct {
        const char *at; /* NULL: none; cut where it is too long */
        size_t len;
    } texts[ACCESS_TEXTS];
};

/* False: there was no room. thread is the caller's number. */
bool access_put(struct access *access, size_t thread, const struct access_entry *entry);

/* access_line.c: the line of an entry, with its end. */
struct writer;
void access_line(struct writer *w, const struct access_entry *entry);

/* ---- what is noted of a call ---- */

/* What a ranking was about, for whoever notes the call. */
struct access_facts {
    char generation[64];
    char user[513]; /* empty where log.access_users does not ask for it */
    uint32_t users, present, candidates, missing;
    uint64_t stage_us[4];
    bool degraded;
};

/* access_note.c: the call has its response, which took ns. */
void access_note(struct worker *worker, const struct http_call *call, unsigned route, uint64_t ns);

#endif
