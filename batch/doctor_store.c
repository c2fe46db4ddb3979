/* The store: can it be reached, and will it keep what is put there? */
#include "batch/doctor.h"

#include "batch/store_args.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PINGS = 5, CONNECT_MS = 2000, COMMAND_MS = 2000, PATIENCE_MS = 250, CLOCK_MAX = 5 };

/* What to do when the store does not answer as it should; by the reason. */
static const char *advice(enum store_fault fault)
{
    switch (fault) {
    case STORE_CONNECT:
        return "Start the server, or correct the URL; from another machine look at bind and the firewall, "
               "too.";
    case STORE_NOAUTH:
        return "Put the password into --password-file or EMBSUM_STORE_PASSWORD, name the user in the URL "
               "(redis://user@host), "
               "and allow it the keys and commands it needs (ACL SETUSER).";
    case STORE_LOADING:
        return "Wait until Redis has read its files.";
    case STORE_READONLY:
        return "Point the URL at the master, or at its sentinels (redis+sentinel://): a replica takes no "
               "writes.";
    case STORE_OOM:
        return "Raise maxmemory, or drop generations that nobody needs (embsum generations drop).";
    case STORE_MISCONF:
        return "Make room where Redis saves, or give it the right to: it takes no writes until it can save.";
    case STORE_TIMEOUT:
    case STORE_IO:
        return "Look at the server's load and at the network; redis-cli --latency and SLOWLOG GET tell more.";
    default:
        return "Look at the server's log.";
    }
}

/* ---- reaching it ---- */

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool check_reachable(struct doctor *doctor, struct store_link *link)
{
    double ms[PINGS];
    struct err err = ERR_INIT;
    int rc = store_ping(link, &err); /* connects */
    for (size_t i = 0; rc == 0 && i < PINGS; i++) {
        const double before = now_ms();
        rc = store_ping(link, &err);
        ms[i] = now_ms() - before;
    }
    if (rc < 0) {
        doctor_tell_err(doctor, "store.reachable",
            rc == -ERR_NOT_FOUND     ? "Run embsum refresh, which makes the store, or correct the URL."
            : rc == -ERR_UNAVAILABLE ? advice(store_fault(link))
                                     : "Look at the folder's files, their owner and the file system.",
            &err);
        return false;
    }
    qsort(ms, PINGS, sizeof *ms, compare_doubles);
    const double median = ms[PINGS / 2];
    const long limit = doctor->config.store.command_timeout_ms;
    const bool slow = median * 4 > (double)limit;
    if (median > PATIENCE_MS) { /* some dozens of questions would take too long */
        doctor_tell(doctor, FINDING_ERROR, "store.reachable", advice(STORE_TIMEOUT),
            "%.*s: answers within %.0f ms: too slow to be looked at, and to be ranked from",
            (int)strcspn(doctor->config.store.url, ":"), doctor->config.store.url, median);
        return false;
    }
    doctor_tell(doctor, slow ? FINDING_WARNING : FINDING_OK, "store.reachable",
        slow ? "Move the daemon nearer to its store, or raise store.command_timeout_ms." : NULL,
        "%.*s: answers within %.2f ms; store.command_timeout_ms is %ld",
        (int)strcspn(doctor->config.store.url, ":"), doctor->config.store.url, median, limit);
    return true;
}

static void check_server(struct doctor *doctor, const struct store_inspection *it)
{
    int major = 0, minor = 0;
    const bool told = sscanf(it->server, "Redis %d.%d", &major, &minor) == 2;
    const bool old = told && major * 100 + minor < 602;
    doctor_tell(doctor, old ? FINDING_ERROR : FINDING_OK, "store.server",
        old ? "Install Redis 6.2 or later: clicks are trimmed by a command that earlier ones lack." : NULL,
        "%s%s%s, %" PRIu64 " keys", *it->server ? it->server : "a Redis", *it->role ? ", " : "", it->role,
        it->keys);
    if (*it->refused)
        doctor_tell(doctor, FINDING_WARNING, "store.rights",
            "Run this as a user who may give INFO and CONFIG GET, or let the server's operator look.",
            "the user may not ask for %s: what it would have told is not known", it->refused);
}

/* ---- will it keep what it is given? ---- */

static void check_eviction(struct doctor *doctor, const struct store_inspection *it)
{
    if (*it->policy && strcmp(it->policy, "noeviction") != 0)
        doctor_tell(doctor, FINDING_ERROR, "store.eviction",
            "CONFIG SET maxmemory-policy noeviction, and write it into redis.conf.",
            "maxmemory-policy is %s: when memory is short, matrices vanish", it->policy);
    else if (*it->policy)
        doctor_tell(doctor, FINDING_OK, "store.eviction", NULL, "maxmemory-policy is noeviction");
    if (it->evicted)
        doctor_tell(doctor, FINDING_ERROR, "store.evicted",
            "Set maxmemory-policy to noeviction, give it more memory, then embsum refresh --full.",
            "%" PRIu64 " keys have been evicted since the server was started", it->evicted);
}

static void check_memory(struct doctor *doctor, const struct store_inspection *it)
{
    char used[32], limit[32], need[32], machine[32], todo[200];
    const double bytes = *doctor->live ? doctor_generation_bytes(doctor, it->in_memory) : 0;
    doctor_bytes(used, (double)it->used);
    doctor_bytes(limit, (double)it->limit);
    doctor_bytes(need, bytes);
    doctor_bytes(machine, (double)it->machine);
    if (*it->refused && !it->used)
        return;
    if (it->limit && bytes > (double)it->room) {
        char wanted[32];
        doctor_bytes(wanted, ((double)it->used + bytes) * 1.1);
        snprintf(todo, sizeof todo,
            "Set maxmemory to %s or more, or drop retired generations (embsum generations drop).", wanted);
        doctor_tell(doctor, FINDING_ERROR, "store.memory", todo,
            "%s of maxmemory %s are used, and one more generation needs %s", used, limit, need);
    } else if (!it->limit && it->machine) {
        const bool tight = (double)it->used + bytes > 0.9 * (double)it->machine;
        snprintf(todo, sizeof todo, "Set maxmemory to at most nine tenths of the machine's memory%s.",
            tight ? ", and give it more memory" : "");
        doctor_tell(doctor, tight ? FINDING_ERROR : FINDING_WARNING, "store.memory", todo,
            "%s are used, one more generation needs %s, and maxmemory is not set: without it Redis takes all "
            "of the "
            "machine's %s until the kernel kills it",
            used, need, machine);
    } else {
        doctor_tell(doctor, FINDING_OK, "store.memory", NULL,
            "%s of maxmemory %s are used; one more generation needs %s", used, limit, need);
    }
}

static void check_saving(struct doctor *doctor, const struct store_inspection *it)
{
    if (it->save_failed)
        doctor_tell(doctor, FINDING_ERROR, "store.saving", advice(STORE_MISCONF),
            "Redis could not save the last time");
    if (strcmp(it->persistence, "none") == 0)
        doctor_tell(doctor, FINDING_WARNING, "store.persistence",
            "CONFIG SET appendonly yes, or save \"300 1\": histories and clicks exist nowhere else.",
            "nothing is written to disk: a restart of Redis begins empty");
    else if (*it->persistence)
        doctor_tell(doctor, FINDING_OK, "store.persistence", NULL, "%s", it->persistence);
}

static void check_servers(struct doctor *doctor, const struct store_inspection *it)
{
    if (strcmp(it->role, "slave") == 0)
        doctor_tell(doctor, FINDING_ERROR, "store.role", advice(STORE_READONLY), "it is a replica");
    else if (it->replicated && !it->replicas)
        doctor_tell(doctor, FINDING_WARNING, "store.replicas",
            "Give each master a replica: writes are done without one, and lost with their master.",
            "%s has no replica", it->masters > 1 ? "one of the masters" : "the master");
    else if (*it->role)
        doctor_tell(doctor, FINDING_OK, "store.replicas", NULL, "%zu %s, %zu replicas%s", it->masters,
            it->masters > 1 ? "masters" : "master", it->replicas, it->masters > 1 ? " each at least" : "");
    const int64_t off = it->clock ? it->clock - (int64_t)time(NULL) : 0;
    const bool wrong = off > CLOCK_MAX || off < -CLOCK_MAX;
    if (it->clock)
        doctor_tell(doctor, wrong ? FINDING_WARNING : FINDING_OK, "store.clock",
            wrong ? "Synchronise the clocks of both machines (chrony, systemd-timesyncd)." : NULL,
            "its clock is %" PRId64 " s from this machine's", off);
}

static void check_clients(struct doctor *doctor, const struct store_inspection *it)
{
    const bool many = it->clients_max && it->clients * 10 > it->clients_max * 9;
    if (!it->clients_max)
        return;
    doctor_tell(doctor, many ? FINDING_WARNING : FINDING_OK, "store.clients",
        many ? it->in_memory ? "Raise maxclients, or lower store.connections of the daemons."
                             : "End processes that read the store, or lower store.connections of the daemons."
             : NULL,
        "%" PRIu64 " of at most %" PRIu64 " %s", it->clients, it->clients_max,
        it->in_memory ? "connections" : "readers");
}

/* ---- an embedded store ---- */

static void check_disk(struct doctor *doctor, const struct store_inspection *it)
{
    char used[32], map[32], disk[32], need[32];
    const double bytes = *doctor->live ? doctor_generation_bytes(doctor, false) : 0;
    doctor_bytes(used, (double)it->used);
    doctor_bytes(map, (double)it->limit);
    doctor_bytes(disk, (double)it->machine);
    doctor_bytes(need, bytes);
    const bool full = !it->room || bytes > (double)it->room;
    doctor_tell(doctor, full ? FINDING_ERROR : FINDING_OK, "store.disk",
        full ? "Make room on the disk, or drop retired generations (embsum generations drop)." : NULL,
        "%s are used, one more generation needs %s; %s are free on the disk, and the map ends at %s", used,
        need, disk, map);
}

static void check_filesystem(struct doctor *doctor, const struct store_inspection *it)
{
    static const struct {
        const char *name;
        enum finding finding;
        const char *todo;
    } rows[] = {
        {"nfs", FINDING_ERROR, NULL},
        {"smb", FINDING_ERROR, NULL},
        {"smb2", FINDING_ERROR, NULL},
        {"cifs", FINDING_ERROR, NULL},
        {"ceph", FINDING_ERROR, NULL},
        {"lustre", FINDING_ERROR, NULL},
        {"9p", FINDING_WARNING, NULL},
        {"fuse", FINDING_WARNING, NULL},
        {"virtiofs", FINDING_WARNING, NULL},
        {"tmpfs", FINDING_WARNING, "Put the store on a disk, unless it may be gone after a restart."},
        {"overlay", FINDING_WARNING,
            "Put the store on a volume: what is in a container's layer goes with the container."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, it->filesystem) == 0) {
            doctor_tell(doctor, rows[i].finding, "store.filesystem",
                rows[i].todo ? rows[i].todo
                             : "Put the store on a local disk, or take Redis: LMDB's locks and its map do "
                               "not hold between "
                               "machines.",
                "the store lies on %s", it->filesystem);
            return;
        }
    doctor_tell(doctor, FINDING_OK, "store.filesystem", NULL, "the store lies on %s", it->filesystem);
}

/* ---- writers ---- */

static void check_lock(struct doctor *doctor, const struct store_inspection *it)
{
    if (!it->lock)
        doctor_tell(doctor, FINDING_OK, "store.lock", NULL, "no writer holds the lock");
    else if (it->lock_ms < 0)
        doctor_tell(doctor, FINDING_ERROR, "store.lock",
            "Delete the key {embsum}:lock when no refresh is running: it was not made by one.",
            "the lock is held without end (token %" PRIu64 "): nobody can write", it->lock);
    else
        doctor_tell(doctor, FINDING_OK, "store.lock", NULL,
            "a writer holds the lock (token %" PRIu64 ") for %" PRId64
            " s more: a refresh is running, or was killed just now",
            it->lock, (it->lock_ms + 999) / 1000);
}

/* Last, as a refusal ends the connection. */
static void check_writable(struct doctor *doctor, struct store_link *link)
{
    struct err err = ERR_INIT;
    const int rc = store_probe(link, &err);
    if (rc == 0)
        doctor_tell(doctor, FINDING_OK, "store.writable", NULL, "it can be written");
    else if (rc == -ERR_UNAVAILABLE && store_fault(link) == STORE_NOAUTH)
        doctor_tell(doctor, FINDING_WARNING, "store.writable",
            "Use another user for embsum refresh; embsumd needs no more than this.",
            "this user may read only: %s", err.message);
    else
        doctor_tell_err(doctor, "store.writable",
            rc == -ERR_UNAVAILABLE ? advice(store_fault(link))
                                   : "Give this user the right to write there, or run as the one who has it.",
            &err);
}

static void look_at(struct doctor *doctor, struct store_link *link)
{
    struct store_inspection it;
    struct err err = ERR_INIT;
    if (!check_reachable(doctor, link))
        return;
    const int rc = store_inspect(link, &it, &err);
    if (rc < 0) {
        doctor_tell_err(doctor, "store.server",
            rc == -ERR_UNAVAILABLE ? advice(store_fault(link)) : "Look at its log.", &err);
        return;
    }
    check_server(doctor, &it);
    doctor_generation(doctor, link, &it);
    if (it.in_memory) {
        check_eviction(doctor, &it);
        check_memory(doctor, &it);
        check_saving(doctor, &it);
        check_servers(doctor, &it);
    } else {
        check_disk(doctor, &it);
        check_filesystem(doctor, &it);
    }
    check_clients(doctor, &it);
    check_lock(doctor, &it);
    check_writable(doctor, link);
}

void doctor_store(struct doctor *doctor)
{
    struct store *store = NULL;
    struct store_link *link = NULL;
    struct err err = ERR_INIT;
    struct config config = doctor->config; /* with the time that a person has */
    config.store.connect_timeout_ms = CONNECT_MS;
    config.store.command_timeout_ms = COMMAND_MS;
    int rc = store_args_open_configured(&store, &config, true, &err);
    if (rc == 0)
        rc = store_connect(&link, store, &err);
    if (rc == -ERR_INVALID)
        doctor_tell_err(
            doctor, "store.url", "Correct the URL, the prefix or the file of the password.", &err);
    else if (rc < 0)
        doctor_tell_err(doctor, "store.reachable",
            "Give this user the right to what is named there, or run as its owner.", &err);
    else
        look_at(doctor, link);
    store_disconnect(link);
    store_close(store);
}
