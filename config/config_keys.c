/* The table of keys, and what follows from a row of it alone. */
#include "config/config.h"

#include "config/address.h"
#include "config/config_int.h"

#include <stdio.h>
#include <string.h>

static bool is_listen(const char *text);
static bool is_listen_or_none(const char *text);
static bool is_output(const char *text);
static bool is_prefix(const char *text);

#define KEY(section, key) #section "." #key
#define AT(section, key) offsetof(struct config, section.key)
#define LONG(section, key, low, high, standard, meaning)                                                     \
    {                                                                                                        \
        .name = KEY(section, key), .type = CONFIG_LONG, .offset = AT(section, key), .min = (low),            \
        .max = (high), .fallback = (standard), .help = (meaning)                                             \
    }
#define SHARE(section, key, standard, meaning)                                                               \
    {                                                                                                        \
        .name = KEY(section, key), .type = CONFIG_SHARE, .offset = AT(section, key), .fallback = (standard), \
        .help = (meaning)                                                                                    \
    }
#define BOOL(section, key, standard, meaning)                                                                \
    {                                                                                                        \
        .name = KEY(section, key), .type = CONFIG_BOOL, .offset = AT(section, key), .fallback = (standard),  \
        .help = (meaning)                                                                                    \
    }
#define STRING(section, key, low, high, standard, meaning, ...)                                              \
    {                                                                                                        \
        .name = KEY(section, key), .type = CONFIG_STRING, .offset = AT(section, key), .min = (low),          \
        .max = (high), .fallback = (standard), .help = (meaning), __VA_ARGS__                                \
    }
#define TEXT_MAX (CONFIG_STRING_MAX - 1)

/* clang-format off */
const struct config_key config_keys[] = {
    STRING(server, listen, 1, TEXT_MAX, "127.0.0.1:8080",
        "Where the daemon listens. Port 0 lets the system choose one, which the log names.",
        .valid = is_listen, .shape = "IPv4:port, [IPv6]:port or name:port"),
    LONG(server, workers, 0, 256, "0",
        "Threads that rank; 0 takes one a core."),
    LONG(server, io_threads, 0, 64, "0",
        "Threads that read requests and send answers, and rank what takes no longer than a change of threads is worth; 0 takes one a core."),
    LONG(server, queue_max, 1, 1000000, "1024",
        "Requests that wait for a worker; one more is answered 503 at once."),
    LONG(server, connections_max, 1, 1000000, "1024",
        "Connections open at once. Some more are accepted, but answer nothing but /livez, /readyz, /metrics, /version and the console's page. Lowered, with a line in the log, where the system allows too few descriptors (ulimit -n)."),
    LONG(server, body_max_bytes, 1024, 67108864, "262144",
        "Longest request body; a longer one is answered 413."),
    LONG(server, bodies_max_bytes, 1024, 1099511627776, "67108864",
        "Bodies of all requests under way together; what would be more is answered 503."),
    LONG(server, header_max_bytes, 1024, 1048576, "16384",
        "Longest request line and headers together; a longer one is answered 431, a target of more than half of it 414."),
    LONG(server, idle_timeout_ms, 1000, 3600000, "30000",
        "A connection that sends nothing for so long is closed."),
    LONG(server, header_timeout_ms, 100, 3600000, "5000",
        "The header of a request must be there so long after its first byte; the connection is closed otherwise."),
    LONG(server, body_timeout_ms, 100, 3600000, "10000",
        "The body must be there so long after the header; the connection is closed otherwise."),
    LONG(server, write_timeout_ms, 100, 3600000, "10000",
        "An answer must be taken within so long; the connection is closed otherwise."),
    LONG(server, shutdown_timeout_ms, 0, 600000, "5000",
        "After SIGTERM, requests in flight have so long to finish."),
    STRING(server, token_file, 0, TEXT_MAX, "",
        "A file of one or two bearer tokens, a line each: /rank, /users/, /contents/ and /hot want one of them. Empty asks nobody for one, which only a loopback address may."),
    BOOL(server, allow_anonymous, "false",
        "Listen beyond the loopback address without tokens: whoever can connect may rank, and read users' summaries."),
    BOOL(server, sandbox, "true",
        "Give up, for good, what a daemon that has started needs no more: most system calls (seccomp), and all files but the store's and the tokens' (Landlock). What the kernel lacks is left out, and the log says so."),
    LONG(rank, candidates_max, 1, 1000000, "10000",
        "Most candidates in one request."),
    LONG(rank, users_max, 1, 10000, "64",
        "Most users in one request."),
    LONG(rank, deadline_ms, 1, 3600000, "1000",
        "A request that cannot be answered within so long is answered 503, as soon as that is known; one that still waits for the store is ranked with what is in memory. A request may ask for less with X-Timeout-Ms."),
    BOOL(rank, default_user, "true",
        "An unknown user is ranked as the generation's default user (the empty history); false answers 404."),
    STRING(scoring, dtype, 1, TEXT_MAX, "float32",
        "In which numbers matrices are kept and multiplied. bfloat16 is twice as fast as float32 in half the memory, int8 twice as fast again in a quarter; both round scores. float32+int8 answers exactly as float32 in more memory, and faster where top_k is given: int8 rules out those that cannot be among the best.",
        .choices = "float32|float32+int8|bfloat16|int8"),
    STRING(scoring, kernel, 1, TEXT_MAX, "auto",
        "Which of the scoring kernels is used; `auto` takes the fastest that the processor has.",
        .choices = "auto|plain|portable|avx2|avx512|avx512-bf16|avx512-vnni"),
    STRING(store, url, 1, TEXT_MAX, "lmdb:/var/lib/embsum/store",
        "The store: `lmdb:PATH`, `redis://[user@]host:port/db`, `redis+unix:PATH`, "
        "`redis+sentinel://host:port,host:port/name` or `redis+cluster://host:port,host:port`. A password does not belong here."),
    STRING(store, prefix, 1, 63, "embsum",
        "Put before every key, so that several services can share one store.",
        .valid = is_prefix, .shape = "1 to 63 letters, digits or any of . _ -"),
    STRING(store, password_file, 0, TEXT_MAX, "",
        "A file that holds the store's password. Empty takes EMBSUM_STORE_PASSWORD, and no password where that is not set."),
    LONG(store, connections, 1, 64, "2",
        "Connections, each with a thread, that bring what is not in memory."),
    LONG(store, connect_timeout_ms, 1, 60000, "200",
        "A connection that takes longer to be made has failed."),
    LONG(store, command_timeout_ms, 1, 60000, "200",
        "A command that is not answered for so long has failed, and its connection is given up."),
    LONG(store, retry_min_ms, 1, 60000, "50",
        "Pause before the first new attempt to connect; it doubles with each failure."),
    LONG(store, retry_max_ms, 1, 600000, "1000",
        "Longest pause between two attempts to connect; at least store.retry_min_ms."),
    LONG(store, poll_ms, 10, 60000, "250",
        "How often the daemon looks for a new live generation and for changes in it."),
    LONG(memory, limit_bytes, 1048576, 17592186044416, "1073741824",
        "Memory for the matrices that are kept ready for scoring, of each generation: while one takes the place of another there are two."),
    BOOL(memory, preload, "true",
        "Fill the memory before a generation is served; false reserves it, and fills it with what is asked for."),
    LONG(memory, warm_ms, 0, 600000, "5000",
        "Where the memory is not filled with all there is: how long, at most, a new generation is filled with what the one before has in memory, before it is served. 0 is not at all."),
    SHARE(shadow, share, "0",
        "Of so many users, 0.01 say, the requests are ranked on a second generation as well, after they have been answered from the live one; how far the two rankings agree is in /metrics and in the store. 0 is off. The second generation is kept in memory.limit_bytes of its own."),
    STRING(shadow, generation, 0, 63, "",
        "The generation that is not live but ranked on. Empty is the newest that is ready (`embsum refresh --no-promote`) and was not made before the live one.",
        .valid = is_prefix, .shape = "nothing, or 1 to 63 letters, digits or any of . _ -"),
    STRING(log, level, 1, TEXT_MAX, "info",
        "The least important messages that are logged.",
        .choices = "debug|info|warn|error"),
    STRING(log, access, 0, TEXT_MAX, "",
        "Where a line of JSON for each request goes. Empty is nowhere.",
        .valid = is_output, .shape = "nothing, stderr, fd:N or the path of a file, with a / in it"),
    BOOL(log, access_users, "false",
        "Let the access log name users."),
    STRING(admin, listen, 0, TEXT_MAX, "",
        "Where the daemon answers its operators: GET /generations, POST /generations/reload. Empty is nowhere.",
        .valid = is_listen_or_none, .shape = "nothing, or an address as in server.listen"),
    STRING(admin, token_file, 0, TEXT_MAX, "",
        "The operators' tokens, as in server.token_file; beyond the loopback address there is no way without them."),
};
/* clang-format on */
const size_t config_key_count = sizeof config_keys / sizeof *config_keys;

_Static_assert(sizeof(long) == 8, "sizes of memory are kept in a long");

static bool is_listen(const char *text)
{
    return address_parse(NULL, text);
}

static bool is_listen_or_none(const char *text)
{
    return !text[0] || is_listen(text);
}

/* A word that is none of these would be a file's name to nobody but us. */
static bool is_output(const char *text)
{
    const bool descriptor = strncmp(text, "fd:", 3) == 0;
    if (!text[0] || strcmp(text, "stderr") == 0)
        return true;
    if (descriptor && !strchr(text, '/'))
        return text[3] && strlen(text + 3) <= 4 && text[3 + strspn(text + 3, "0123456789")] == '\0';
    return strchr(text, '/') && text[strlen(text) - 1] != '/';
}

/* No braces: Redis takes what stands between them as the hash slot's name. No colon: the keys of one prefix must not
 * lie below those of another. */
static bool is_prefix(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

const struct config_key *config_find(const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

void config_allowed(char out[CONFIG_ALLOWED_MAX], const struct config_key *key)
{
    if (key->shape) {
        snprintf(out, CONFIG_ALLOWED_MAX, "%s", key->shape);
    } else if (key->choices) {
        size_t used = 0;
        for (const char *c = key->choices; *c && used < CONFIG_ALLOWED_MAX - 3; c++) {
            out[used++] = *c == '|' ? ',' : *c;
            if (*c == '|')
                out[used++] = ' ';
        }
        out[used] = '\0';
    } else if (key->type == CONFIG_BOOL) {
        snprintf(out, CONFIG_ALLOWED_MAX, "true, false");
    } else if (key->type == CONFIG_SHARE) {
        snprintf(out, CONFIG_ALLOWED_MAX, "a number from 0 to 1");
    } else if (key->type == CONFIG_LONG) {
        snprintf(out, CONFIG_ALLOWED_MAX, "a whole number from %ld to %ld", key->min, key->max);
    } else {
        snprintf(out, CONFIG_ALLOWED_MAX, "a text of %ld to %ld bytes", key->min, key->max);
    }
}

void config_env_name(char out[CONFIG_ENV_NAME_MAX], const struct config_key *key)
{
    snprintf(out, CONFIG_ENV_NAME_MAX, "EMBSUM_%s", key->name);
    for (char *c = out; *c; c++)
        *c = *c == '.' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
}
