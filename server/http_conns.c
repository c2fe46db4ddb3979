#include "server/http_conns.h"

#include "server/clock.h"
#include "server/http_message.h"

#include <errno.h>
#include <linux/tcp.h> /* glibc's lacks tcpi_bytes_received */
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { LOOK_MS = 200, LEFT_LOOKS = 3, PHASE_BITS = 3, TURN_BITS = 21, CUT = HTTP_PHASES };

struct http_conns {
    struct http_conns_options options;
    pthread_mutex_t lock; /* over the list and its count */
    struct http_conn *first;
    size_t count;
    atomic_uint_fast64_t cut[HTTP_PHASES];
    uint64_t id_state;
    pthread_t thread;
    pthread_cond_t stop;
    bool started, stopping; /* under the lock */
};

/* ---- phases ---- */

/* A state: 40 bits of milliseconds, the turns, the phase. One number, so that both threads change all of it or nothing. */
static uint64_t state_of(uint64_t since_ms, uint64_t turn, unsigned phase)
{
    return since_ms << (TURN_BITS + PHASE_BITS) | (turn & ((1u << TURN_BITS) - 1)) << PHASE_BITS | phase;
}

static unsigned phase_of(uint64_t state)
{
    return state & ((1u << PHASE_BITS) - 1);
}

static uint64_t since_of(uint64_t state)
{
    return state >> (TURN_BITS + PHASE_BITS);
}

static uint64_t turn_of(uint64_t state)
{
    return state >> PHASE_BITS & ((1u << TURN_BITS) - 1);
}

bool http_conn_enter(struct http_conn *conn, enum http_phase phase)
{
    uint64_t was = atomic_load_explicit(&conn->state, memory_order_relaxed);
    const uint64_t now = clock_ms();
    do {
        if (phase_of(was) == CUT)
            return false;
        if (phase == HTTP_PHASE_HEADER && phase_of(was) == HTTP_PHASE_HEADER)
            return true;
    } while (!atomic_compare_exchange_weak_explicit(&conn->state, &was,
        state_of(now, turn_of(was) + (phase == HTTP_PHASE_IDLE), phase), memory_order_acq_rel,
        memory_order_relaxed));
    return true;
}

/* ---- watching ---- */

/* False: at the last moment something has happened on it. */
static bool mark_cut(struct http_conn *conn, uint64_t state)
{
    return atomic_compare_exchange_strong(
        &conn->state, &state, state_of(since_of(state), turn_of(state), CUT));
}

/* Tell the client, if nothing else has been told it, and end the connection. */
static void cut(struct http_conns *conns, struct http_conn *conn, uint64_t state, unsigned phase)
{
    if (!mark_cut(conn, state))
        return;
    atomic_fetch_add_explicit(&conns->cut[phase], 1, memory_order_relaxed);
    if (phase != HTTP_PHASE_WRITE) {
        char id[HTTP_ID_MAX + 1], answer[1024];
        http_id_make(id, &conns->id_state);
        const size_t len =
            http_refusal(answer, sizeof answer, 408, "the request took too long to arrive", id);
        (void)!send(conn->fd, answer, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else { /* what waits for the reader goes with the connection */
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    shutdown(conn->fd, SHUT_RDWR);
}

/* What the library does not tell the kernel does. On an idle connection the first byte of a request begins its header,
 * which the library mentions when its first line is complete; and an answer that the library has handed to the kernel
 * may still wait there for its reader. */
static void look_at_idle(struct http_conns *conns, struct http_conn *conn, uint64_t state, uint64_t now)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return;
    const uint64_t write_ms = conns->options.ms[HTTP_PHASE_WRITE];
    if (turn_of(state) != conn->turn) { /* idle again since the last look */
        conn->turn = turn_of(state);
        conn->bytes = info.tcpi_bytes_received;
    } else if (info.tcpi_bytes_received > conn->bytes) {
        atomic_compare_exchange_strong(
            &conn->state, &state, state_of(now, turn_of(state), HTTP_PHASE_HEADER));
    } else if (info.tcpi_notsent_bytes && write_ms && since_of(state) + write_ms < now) {
        cut(conns, conn, state, HTTP_PHASE_WRITE);
    }
}

/* The client has closed, or will send no more, and nothing is being done for it. Several looks in a row, because the
 * library may be about to do something with what came before the end. */
static bool has_left(struct http_conn *conn, uint64_t state)
{
    char byte;
    const bool ended = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    conn->left_looks = !ended ? 0 : state == conn->left_state ? conn->left_looks + 1 : 1;
    conn->left_state = state;
    return conn->left_looks >= LEFT_LOOKS;
}

static void look(struct http_conns *conns)
{
    const uint64_t now = clock_ms();
    for (struct http_conn *conn = conns->first; conn; conn = conn->next) {
        const uint64_t state = atomic_load_explicit(&conn->state, memory_order_acquire);
        const unsigned phase = phase_of(state);
        if (phase < HTTP_PHASE_WORK && has_left(conn, state)) {
            if (mark_cut(conn, state))
                shutdown(conn->fd, SHUT_RDWR);
        } else if (phase == HTTP_PHASE_IDLE)
            look_at_idle(conns, conn, state, now);
        else if (phase != CUT && conns->options.ms[phase] && since_of(state) + conns->options.ms[phase] < now)
            cut(conns, conn, state, phase);
    }
}

static void *watch(void *ctx)
{
    struct http_conns *conns = ctx;
    pthread_setname_np(pthread_self(), "connections");
    pthread_mutex_lock(&conns->lock);
    while (!conns->stopping) {
        const struct timespec until = clock_timespec(clock_ns() + LOOK_MS * 1000000);
        if (pthread_cond_timedwait(&conns->stop, &conns->lock, &until) == ETIMEDOUT)
            look(conns);
    }
    pthread_mutex_unlock(&conns->lock);
    return NULL;
}

uint64_t http_conns_cut(const struct http_conns *conns, enum http_phase phase)
{
    return atomic_load_explicit(&conns->cut[phase], memory_order_relaxed);
}

/* ---- the list ---- */

struct http_conn *http_conns_add(struct http_conns *conns, int fd)
{
    struct http_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return NULL;
    conn->fd = fd;
    atomic_init(&conn->state, state_of(clock_ms(), 0, HTTP_PHASE_IDLE));
    pthread_mutex_lock(&conns->lock);
    conn->next = conns->first;
    if (conn->next)
        conn->next->previous = conn;
    conns->first = conn;
    conn->spare = conns->count++ >= conns->options.max;
    pthread_mutex_unlock(&conns->lock);
    return conn;
}

void http_conns_remove(struct http_conns *conns, struct http_conn *conn)
{
    if (!conn)
        return;
    pthread_mutex_lock(&conns->lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        conns->first = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    conns->count--;
    pthread_mutex_unlock(&conns->lock);
    free(conn);
}

int http_conns_new(struct http_conns **out, const struct http_conns_options *options, struct err *err)
{
    struct http_conns *conns = calloc(1, sizeof *conns);
    if (!conns)
        return err_set(err, ERR_NOMEM, "no memory for the connections");
    conns->options = *options;
    http_id_seed(&conns->id_state);
    pthread_mutex_init(&conns->lock, NULL);
    clock_cond_init(&conns->stop);
    errno = pthread_create(&conns->thread, NULL, watch, conns);
    if (errno) {
        const int code = err_errno(err, "start the thread that watches connections");
        http_conns_free(conns);
        return code;
    }
    conns->started = true;
    *out = conns;
    return 0;
}

void http_conns_free(struct http_conns *conns)
{
    if (!conns)
        return;
    if (conns->started) {
        pthread_mutex_lock(&conns->lock);
        conns->stopping = true;
        pthread_cond_signal(&conns->stop);
        pthread_mutex_unlock(&conns->lock);
        pthread_join(conns->thread, NULL);
    }
    pthread_cond_destroy(&conns->stop);
    pthread_mutex_destroy(&conns->lock);
    free(conns);
}
