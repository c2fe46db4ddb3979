/* Addresses of a Redis: [user@]host[:port][/db], the host of IPv6 in brackets; PATH[?db=N&user=NAME]; of sentinels:
 * [user@]host[:port],host[:port]/name[?db=N&user=NAME]; of a cluster: [user@]host[:port],host[:port]. */
#include "store/store_redis_int.h"

#include <stdlib.h>
#include <string.h>

#define DATABASE_MAX 1000000 /* Redis itself refuses what its configuration does not have */

static int parse_number(int *out, const char *text, size_t len, int max, const char *what, struct err *err)
{
    uint64_t number;
    if (!store_number_parse(&number, text, len) || number > (uint64_t)max)
        return err_set(err, ERR_INVALID, "store URL: the %s is not a number between 0 and %d", what, max);
    *out = (int)number;
    return 0;
}

static int copy(char *out, size_t size, const char *text, size_t len, const char *what, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "store URL: the %s is missing", what);
    if (len >= size)
        return err_set(err, ERR_INVALID, "store URL: the %s is longer than %zu bytes", what, size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
    return 0;
}

static int parse_user(struct redis_address *out, const char *text, size_t len, struct err *err)
{
    if (memchr(text, ':', len))
        return err_set(err, ERR_INVALID,
            "store URL: a password has no place in it, where others can read it; give it in a file or in the "
            "environment");
    return copy(out->user, sizeof out->user, text, len, "user", err);
}

static int parse_port(struct redis_address *out, const char *text, size_t len, struct err *err)
{
    int port = 0;
    const int rc = parse_number(&port, text, len, 65535, "port", err);
    if (rc == 0 && port == 0)
        return err_set(err, ERR_INVALID, "store URL: the port must not be 0");
    return rc < 0 ? rc : copy(out->port, sizeof out->port, text, len, "port", err);
}

/* host[:port] or [IPv6][:port]. */
static int parse_host(
    struct redis_address *out, const char *text, size_t len, const char *default_port, struct err *err)
{
    const char *const end = text + len;
    const bool bracketed = len && *text == '[';
    const char *const host = text + bracketed;
    const char *stop = memchr(text, bracketed ? ']' : ':', len);
    if (bracketed && !stop)
        return err_set(err, ERR_INVALID, "store URL: the host begins with [ but has no ]");
    if (!stop)
        stop = end;
    const int rc = copy(out->host, sizeof out->host, host, (size_t)(stop - host), "host", err);
    if (rc < 0)
        return rc;
    const char *const rest = stop + bracketed;
    if (rest == end)
        return copy(out->port, sizeof out->port, default_port, strlen(default_port), "port", err);
    if (*rest != ':')
        return err_set(err, ERR_INVALID, "store URL: after [host] comes :port or the end");
    return parse_port(out, rest + 1, (size_t)(end - rest - 1), err);
}

int redis_parse_tcp(struct redis_address *out, const char *text, struct err *err)
{
    struct redis_address address = {0};
    const char *const at = strrchr(text, '@');
    const char *const host = at ? at + 1 : text;
    const size_t host_len = strcspn(host, "/");
    int rc = at ? parse_user(&address, text, (size_t)(at - text), err) : 0;
    if (rc == 0)
        rc = parse_host(&address, host, host_len, "6379", err);
    if (rc == 0 && host[host_len] == '/' && host[host_len + 1])
        rc = parse_number(&address.database, host + host_len + 1, strlen(host + host_len + 1), DATABASE_MAX,
            "database (/db)", err);
    if (rc == 0)
        *out = address;
    return rc;
}

static int parse_option(struct redis_address *out, const char *text, size_t len, struct err *err)
{
    if (len >= 3 && memcmp(text, "db=", 3) == 0)
        return parse_number(&out->database, text + 3, len - 3, DATABASE_MAX, "database (db=)", err);
    if (len >= 5 && memcmp(text, "user=", 5) == 0)
        return parse_user(out, text + 5, len - 5, err);
    return err_set(err, ERR_INVALID, "store URL: after ? come db=N and user=NAME, nothing else");
}

/* What follows the first ?, if there is one: N options with & between them. */
static int parse_options(struct redis_address *out, const char *text, struct err *err)
{
    int rc = 0;
    while (rc == 0 && *text) {
        text++; /* ? or & */
        const size_t len = strcspn(text, "&");
        rc = parse_option(out, text, len, err);
        text += len;
    }
    return rc;
}

int redis_parse_unix(struct redis_address *out, const char *text, struct err *err)
{
    struct redis_address address = {.local = true};
    const size_t path_len = strcspn(text, "?");
    int rc = copy(address.path, sizeof address.path, text, path_len, "path of the socket", err);
    if (rc == 0)
        rc = parse_options(&address, text + path_len, err);
    if (rc == 0)
        *out = address;
    return rc;
}

/* ---- several of them ---- */

/* [user@]host[:port],host[:port] in text[0..len). */
static int parse_hosts(struct redis_addresses *out, struct redis_address *common, const char *text,
    size_t len, const char *default_port, struct err *err)
{
    const char *const end = text + len, *const user_end = memrchr(text, '@', len);
    size_t count = 1;
    int rc = user_end ? parse_user(common, text, (size_t)(user_end - text), err) : 0;
    if (rc < 0)
        return rc;
    if (user_end)
        text = user_end + 1;
    for (const char *at = text; (at = memchr(at, ',', (size_t)(end - at))); at++)
        count++;
    struct redis_address *const hosts = calloc(count, sizeof *hosts);
    if (!hosts)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *const comma = memchr(text, ',', (size_t)(end - text)), *const stop = comma ? comma : end;
        rc = parse_host(&hosts[i], text, (size_t)(stop - text), default_port, err);
        text = stop + 1;
    }
    if (rc < 0) {
        free(hosts);
        return rc;
    }
    *out = (struct redis_addresses){hosts, count};
    return 0;
}

int redis_parse_sentinel(struct redis_address *out, struct redis_addresses *sentinels, char master[64],
    const char *text, struct err *err)
{
    struct redis_address address = {0};
    struct redis_addresses list = {0};
    const size_t hosts_len = strcspn(text, "/?");
    const char *const name = text + hosts_len + (text[hosts_len] == '/');
    const size_t name_len = strcspn(name, "?");
    int rc = parse_hosts(&list, &address, text, hosts_len, "26379", err);
    if (rc == 0 && !store_name_valid(name, name_len))
        rc = err_set(err, ERR_INVALID,
            "store URL: behind the sentinels comes /name, what they call the master: 1 to 63 letters, "
            "digits, dots, "
            "dashes or underscores");
    if (rc == 0)
        rc = parse_options(&address, name + name_len, err);
    if (rc < 0) {
        free(list.at);
        return rc;
    }
    memcpy(master, name, name_len);
    master[name_len] = '\0';
    *out = address;
    *sentinels = list;
    return 0;
}

int redis_parse_cluster(
    struct redis_address *out, struct redis_addresses *seeds, const char *text, struct err *err)
{
    struct redis_address address = {0};
    struct redis_addresses list = {0};
    const size_t hosts_len = strcspn(text, "/?");
    if (text[hosts_len] && strcmp(text + hosts_len, "/") != 0 && strcmp(text + hosts_len, "/0") != 0)
        return err_set(
            err, ERR_INVALID, "store URL: a cluster has the database 0 alone; nothing follows its hosts");
    const int rc = parse_hosts(&list, &address, text, hosts_len, "6379", err);
    if (rc < 0)
        return rc;
    *out = address;
    *seeds = list;
    return 0;
}
