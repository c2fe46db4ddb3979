#include "server/sandbox.h"

#include "config/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Rights by the version of Landlock that brought them; Debian 12's header ends with the second. */
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)
#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_STORE                                                                                         \
    (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | ACCESS_TRUNCATE)
#define ACCESS_LOG (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG)
#define ACCESS_OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE)

static uint64_t handled_by(long version)
{
    const uint64_t first = (UINT64_C(1) << 13) - 1; /* execute, write, read, make and remove */
    return first | (version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) | (version >= 3 ? ACCESS_TRUNCATE : 0);
}

struct rules {
    int fd;
    uint64_t handled;
};

/* What is not there needs no rule. */
static int allow(const struct rules *rules, const char *path, uint64_t access, struct err *err)
{
    struct stat about;
    const int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : err_errno(err, "open %s", path);
    if (fstat(fd, &about) == 0 && !S_ISDIR(about.st_mode))
        access &= ACCESS_OF_A_FILE;
    const struct landlock_path_beneath_attr beneath = {
        .allowed_access = access & rules->handled, .parent_fd = fd};
    const long failed = syscall(SYS_landlock_add_rule, rules->fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    const int code = failed ? err_errno(err, "allow %s", path) : 0;
    close(fd);
    return code;
}

/* A folder that somebody is going to make is reached through the nearest that is there. */
static int allow_store(const struct rules *rules, const char *path, struct err *err)
{
    char at[CONFIG_STRING_MAX];
    memcpy(at, path, strlen(path) + 1);
    while (access(at, F_OK) < 0 && strcmp(at, "/") != 0 && strcmp(at, ".") != 0) {
        const char *above = dirname(at);
        memmove(at, above, strlen(above) + 1);
    }
    return allow(rules, at, ACCESS_STORE, err);
}

/* The folder and not the file: tokens are changed by putting another file in its place, and a log is renamed. */
static int allow_beside(const struct rules *rules, const char *path, uint64_t access, struct err *err)
{
    char copy[CONFIG_STRING_MAX];
    if (!path[0])
        return 0;
    memcpy(copy, path, strlen(path) + 1);
    return allow(rules, dirname(copy), access, err);
}

static bool is_name(const char *listen)
{
    struct address address;
    unsigned char bytes[sizeof(struct in6_addr)];
    return address_parse(&address, listen) && inet_pton(AF_INET, address.host, bytes) != 1 &&
           inet_pton(AF_INET6, address.host, bytes) != 1;
}

/* The resolver's files may be replaced at any time, and it may load libraries. */
static int allow_names(const struct rules *rules, struct err *err)
{
    static const char *const paths[] = {"/etc", "/run/systemd/resolve", "/lib", "/lib64", "/usr/lib"};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof paths / sizeof *paths; i++)
        code = allow(rules, paths[i], ACCESS_READ, err);
    return code;
}

static int allow_all(const struct rules *rules, const struct config *config, struct err *err)
{
    static const char lmdb[] = "lmdb:", local[] = "redis+unix:";
    const char *url = config->store.url;
    int code = allow(rules, "/sys/devices/system/cpu", ACCESS_READ, err); /* malloc counts processors */
    if (code == 0 && strncmp(url, lmdb, sizeof lmdb - 1) == 0)
        code = allow_store(rules, url + sizeof lmdb - 1, err);
    if (code == 0 && config->store.password_file[0]) /* read once */
        code = allow(rules, config->store.password_file, ACCESS_READ, err);
    if (code == 0)
        code = allow_beside(rules, config->server.token_file, ACCESS_READ, err);
    if (code == 0)
        code = allow_beside(rules, config->admin.token_file, ACCESS_READ, err);
    if (code == 0 && strchr(config->log.access, '/'))
        code = allow_beside(rules, config->log.access, ACCESS_LOG, err);
    const bool network = strncmp(url, "redis", 5) == 0 && strncmp(url, local, sizeof local - 1) != 0;
    if (code == 0 && (network || is_name(config->server.listen) || is_name(config->admin.listen)))
        code = allow_names(rules, err);
    return code;
}

int sandbox_files(const struct config *config, struct err *err)
{
    const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1 || SANDBOX_SANITIZED)
        return 0;
    struct rules rules = {.handled = handled_by(version)};
    const struct landlock_ruleset_attr attr = {.handled_access_fs = rules.handled};
    rules.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (rules.fd < 0)
        return err_errno(err, "server.sandbox: make Landlock's rules");
    int code = allow_all(&rules, config, err);
    if (code == 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_landlock_restrict_self, rules.fd, 0) < 0))
        code = err_errno(err, "enforce Landlock's rules");
    close(rules.fd);
    return code < 0 ? err_place(err, "server.sandbox: ") : 1;
}
