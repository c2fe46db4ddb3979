/* The daemon over its socket. This program is the test's hands (it fills stores and knows the right scores);
 * tests/server/api.py is its head.
 *
 *     test_api                                run api.py
 *     test_api publish URL SEED [USERS]       publish a generation (of 20 users), print its name
 *     test_api scores SEED USER CONTENT...    print the right scores
 *     test_api table SEED USERS CONTENT...    print those of U0, U1, ..., a line each
 */
#include "core/gemm.h"
#include "tests/server/world.h"

#include <unistd.h>

static int publish(const char *url, const char *seed, const char *users)
{
    struct err err = ERR_INIT;
    struct store *store = NULL;
    char name[STORE_GENERATION_MAX];
    const struct world world = {.m = 4,
        .n = 2,
        .d = 16,
        .users = strtoull(users, NULL, 10),
        .contents = 300,
        .categories = 7,
        .seed = strtoull(seed, NULL, 10)};
    int code = store_open(&store, url, NULL, &err);
    if (code == 0)
        code = world_publish(&world, store, BLOB_F32, name, &err);
    store_close(store);
    if (code < 0)
        fprintf(stderr, "%s\n", err.message);
    else
        puts(name);
    return code < 0;
}

static int print_scores(const char *seed, const char *user, char *const *contents, int count)
{
    const struct world world = {.m = 4, .n = 2, .d = 16, .seed = strtoull(seed, NULL, 10)};
    for (int i = 0; i < count; i++)
        printf("%.9g\n", world_score(&world, user, contents[i]));
    return 0;
}

static int print_table(const char *seed, size_t users, char *const *contents, int count)
{
    const struct world world = {.m = 4, .n = 2, .d = 16, .seed = strtoull(seed, NULL, 10)};
    for (size_t u = 0; u < users; u++) {
        char user[32];
        snprintf(user, sizeof user, "U%zu", u);
        for (int i = 0; i < count; i++)
            printf("%.9g%c", world_score(&world, user, contents[i]), i + 1 < count ? ' ' : '\n');
    }
    return 0;
}

static int run_script(const char *self)
{
    if (access("/usr/bin/python3", X_OK) < 0 || access("/usr/bin/redis-server", X_OK) < 0) {
        puts("skipped: /usr/bin/python3 and /usr/bin/redis-server are needed");
        return 77;
    }
    char path[4096], daemon[4200];
    if (!realpath(self, path))
        return 1;
    setenv("TEST_API", path, 1);
    for (int up = 0; up < 3; up++) /* BUILD/tests/server/test_api */
        *strrchr(path, '/') = '\0';
    snprintf(daemon, sizeof daemon, "%s/embsumd", path);
    setenv("EMBSUMD", daemon, 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    execl("/usr/bin/python3", "python3", "tests/server/api.py", "-v", (char *)NULL);
    perror("/usr/bin/python3");
    return 1;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    if (argc == 1)
        return run_script(argv[0]);
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if ((argc == 4 || argc == 5) && strcmp(argv[1], "publish") == 0)
        return publish(argv[2], argv[3], argc == 5 ? argv[4] : "20");
    if (argc > 4 && strcmp(argv[1], "table") == 0)
        return print_table(argv[2], strtoull(argv[3], NULL, 10), argv + 4, argc - 4);
    if (argc > 4 && strcmp(argv[1], "scores") == 0)
        return print_scores(argv[2], argv[3], argv + 4, argc - 4);
    fprintf(stderr, "see the head of tests/server/test_api.c\n");
    return 2;
}
