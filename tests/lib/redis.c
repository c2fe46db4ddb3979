#include "tests/lib/redis.h"
#include "tests/lib/scratch.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

bool test_redis_installed(void)
{
    return system("command -v redis-server >/dev/null") == 0;
}

int test_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("find a free port");
    close(fd);
    return ntohs(address.sin_port);
}

/* Does it answer a PING? With a password it refuses, which is an answer too. */
static bool answers(const struct test_redis *redis)
{
    static const char ping[] = "PING\r\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char reply[16] = "";
    memcpy(address.sun_path, redis->socket, strlen(redis->socket) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                    send(fd, ping, sizeof ping - 1, MSG_NOSIGNAL) == (ssize_t)sizeof ping - 1 &&
                    recv(fd, reply, sizeof reply - 1, 0) > 0 &&
                    (strncmp(reply, "+PONG", 5) == 0 || strncmp(reply, "-NOAUTH", 7) == 0);
    if (fd >= 0)
        close(fd);
    return ok;
}

static void run_server(const struct test_redis *redis, pid_t parent)
{
    char port[16], log[288];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    snprintf(port, sizeof port, "%d", redis->port);
    snprintf(log, sizeof log, "%s/log", redis->dir);
    const char *const password = redis->password ? redis->password : "";
    const char *arguments[40] = {"redis-server"}, *const usual[] = {"--bind", "127.0.0.1", "--port", port,
                                                      "--unixsocket", redis->socket, "--dir", redis->dir,
                                                      "--logfile", log, "--save", "", "--appendonly", "no",
                                                      "--repl-diskless-sync-delay", "0", "--requirepass",
                                                      password, "--masterauth", password};
    const bool sentinel =
        redis->more[0][0] == '/'; /* its configuration comes first, and says itself who may enter */
    size_t count = 1;
    for (size_t i = 0; sentinel && redis->more[i][0]; i++)
        arguments[count++] = redis->more[i];
    for (size_t i = 0; i < sizeof usual / sizeof *usual - (sentinel ? 4 : 0); i++)
        arguments[count++] = usual[i];
    for (size_t i = 0; !sentinel && redis->more[i][0]; i++)
        arguments[count++] = redis->more[i];
    execvp("redis-server", (char *const *)(uintptr_t)arguments);
    _exit(127);
}

void test_redis_restart(struct test_redis *redis)
{
    const pid_t parent = getpid();
    unlink(redis->socket);
    redis->pid = fork();
    if (redis->pid < 0)
        die("fork");
    if (redis->pid == 0)
        run_server(redis, parent);
    for (int i = 0; i < 1000; i++) {
        if (answers(redis))
            return;
        if (waitpid(redis->pid, NULL, WNOHANG) == redis->pid)
            break;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fprintf(stderr, "redis-server did not start; see %s/log\n", redis->dir);
    exit(1);
}

void test_redis_prepare(struct test_redis *redis, const char *password)
{
    *redis = (struct test_redis){.port = test_free_port(), .password = password};
    scratch_make(redis->dir);
    snprintf(redis->socket, sizeof redis->socket, "%s/redis.sock", redis->dir);
    if (strlen(redis->socket) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        fprintf(stderr, "%s: too long for a unix socket; set TMPDIR to a shorter path\n", redis->socket);
        exit(1);
    }
}

void test_redis_start(struct test_redis *redis, const char *password)
{
    test_redis_prepare(redis, password);
    test_redis_restart(redis);
}

void test_redis_kill(struct test_redis *redis)
{
    if (redis->pid > 0) {
        kill(redis->pid, SIGKILL);
        waitpid(redis->pid, NULL, 0);
        redis->pid = 0;
    }
}

void test_redis_stop(struct test_redis *redis)
{
    test_redis_kill(redis);
    scratch_remove(redis->dir);
}

static void set_password(const struct test_redis *redis)
{
    if (redis->password)
        setenv("REDISCLI_AUTH", redis->password, 1);
    else
        unsetenv("REDISCLI_AUTH");
}

void test_redis_cli(const struct test_redis *redis, const char *arguments)
{
    char command[1024];
    set_password(redis);
    snprintf(command, sizeof command, "redis-cli -e -s '%s' %s >/dev/null", redis->socket, arguments);
    if (system(command) != 0) {
        fprintf(stderr, "failed: %s\n", command);
        exit(1);
    }
}

void test_redis_await(const struct test_redis *redis, const char *arguments, const char *says)
{
    char command[1024], output[16384];
    set_password(redis);
    snprintf(command, sizeof command, "redis-cli -s '%s' %s 2>&1", redis->socket, arguments);
    for (int i = 0; i < 1000; i++) {
        FILE *const from = popen(command, "r");
        if (!from)
            die("popen");
        output[fread(output, 1, sizeof output - 1, from)] = '\0';
        pclose(from);
        if (strstr(output, says))
            return;
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    fprintf(stderr, "%s never said \"%s\":\n%s\n", command, says, output);
    exit(1);
}
