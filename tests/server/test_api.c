/* The daemon over its socket. This program is the test's hands (it fills stores and knows the right scores);
 * tests/server/api.py is its head.
 *
 *     test_api                                run api.py
 *     test_api publish URL SEED [USERS [CONTENTS]]
 *                                             publish a generation (of 20 users, 300 contents), print its name
 *     test_api change URL SEED ID OTHER       give ID in the live generation the matrix of OTHER, and note the change
 *     test_api scores SEED USER CONTENT...    print the right scores
 *     test_api table SEED USERS CONTENT...    print those of U0, U1, ..., a line each
 *     test_api expire URL                     end the time of the writers' lock
 *     test_api keys URL GENERATION            print how many keys a generation has
 */
#include "core/gemm.h"
#include "tests/server/world.h"

#include <unistd.h>

static int publish(const char *url, const char *seed, const char *users, const char *contents)
{
    struct err err = ERR_INIT;
    struct store *store = NULL;
    char name[STORE_GENERATION_MAX];
    const struct world world = {.m = 4,
        .n = 2,
        .d = 16,
        .users = strtoull(users, NULL, 10),
        .contents = strtoull(contents, NULL, 10),
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

/* As world_score, but each content's gate is computed once. */
static int print_table(const char *seed, size_t users, char *const *contents, size_t count)
{
    enum { M = 4, N = 2, D = 16 };
    const struct world world = {.seed = strtoull(seed, NULL, 10)};
    float w[D * D], a[M * D];
    float(*const b)[2][N * D] = calloc(count, sizeof *b);
    double *scratch = malloc(score_gate_scratch(N, D) * sizeof *scratch);
    world_matrix(w, &world, 'w', "", D, D);
    for (size_t i = 0; b && scratch && i < count; i++) {
        world_matrix(b[i][0], &world, 'c', contents[i], N, D);
        score_gate(b[i][1], b[i][0], w, N, D, scratch);
    }
    for (size_t u = 0; b && scratch && u < users; u++) {
        char user[32];
        snprintf(user, sizeof user, "U%zu", u);
        world_matrix(a, &world, 'u', user, M, D);
        for (size_t i = 0; i < count; i++)
            printf(
                "%.9g%c", score_plain(NULL, NULL, a, b[i][0], b[i][1], M, N, D), i + 1 < count ? ' ' : '\n');
    }
    const bool done = b && scratch;
    free(b);
    free(scratch);
    return !done;
}

/* As if its holder had been away for too long; who holds it, and with which token, is told by nobody. */
static int expire(struct store_link *link, char *const *args, struct err *err)
{
    (void)args;
    struct store_generation *rows = NULL;
    size_t count = 0;
    uint64_t token = 0;
    int code = store_generations(link, &rows, &count, err);
    for (size_t i = 0; i < count; i++)
        token = rows[i].token > token ? rows[i].token : token;
    free(rows);
    for (int past = 0; code == 0 && past < 4096; past++) /* tokens that left no row */
        if (store_unlock(link, token + (uint64_t)past, err) == 0)
            return 0;
    return code < 0 ? code : err_set(err, ERR_NOT_FOUND, "the newest token is not to be guessed");
}

static int count_key(void *ctx, const char *id, size_t len)
{
    (void)id, (void)len;
    ++*(size_t *)ctx;
    return 0;
}

static int count_value(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index, (void)len;
    *(size_t *)ctx += data != NULL;
    return 0;
}

/* args: GENERATION */
static int print_keys(struct store_link *link, char *const *args, struct err *err)
{
    const char *const generation = args[0];
    static const enum store_kind many[] = {STORE_USER, STORE_CONTENT, STORE_SUMMARY, STORE_CATEGORY,
        STORE_TITLE, STORE_WHY},
                                 single[] = {STORE_SCORE_PROJ, STORE_MANIFEST};
    const struct store_id empty = {"", 0};
    size_t count = 0;
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof many / sizeof *many; i++)
        code = store_scan(link, generation, many[i], count_key, &count, err);
    for (size_t i = 0; code == 0 && i < sizeof single / sizeof *single; i++)
        code = store_get(link, generation, single[i], &empty, 1, count_value, &count, err);
    if (code == 0)
        printf("%zu\n", count);
    return code;
}

/* args: SEED ID OTHER. */
static int change(struct store_link *link, char *const *args, struct err *err)
{
    const struct world world = {.m = 4, .n = 2, .d = 16, .seed = strtoull(args[0], NULL, 10)};
    const char *const id = args[1];
    const enum blob_kind kind = *id == 'U' ? BLOB_USER : BLOB_CONTENT;
    char generation[STORE_GENERATION_MAX];
    const struct blob_spec spec = {.kind = kind,
        .dtype = BLOB_F32,
        .rows = kind == BLOB_USER ? world.m : world.n,
        .cols = world.d,
        .generation = generation,
        .id = id,
        .id_len = strlen(id)};
    float matrix[4 * 16];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    const struct store_entry entry = {{id, spec.id_len}, blob, blob_size(BLOB_F32, spec.rows, spec.cols)};
    const struct store_change note = {(enum store_kind)kind, entry.id};
    world_matrix(matrix, &world, (char)kind, args[2], spec.rows, spec.cols);
    int code = store_live(link, generation, err);
    if (code == 0)
        code = blob_encode(blob, &spec, 1, matrix, err);
    if (code == 0)
        code = store_put(link, generation, note.kind, &entry, 1, err);
    return code == 0 ? store_changes_append(link, generation, &note, 1, err) : code;
}

/* Do something with a store. */
static int with_store(
    const char *url, int (*act)(struct store_link *, char *const *, struct err *), char *const *args)
{
    struct err err = ERR_INIT;
    struct store *store = NULL;
    struct store_link *link = NULL;
    int code = store_open(&store, url, NULL, &err);
    if (code == 0)
        code = store_connect(&link, store, &err);
    if (code == 0)
        code = act(link, args, &err);
    store_disconnect(link);
    store_close(store);
    if (code < 0)
        fprintf(stderr, "%s\n", err.message);
    return code < 0;
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
    setenv("TEST_API", path, 0);
    for (int up = 0; up < 3; up++) /* BUILD/tests/server/test_api */
        *strrchr(path, '/') = '\0';
    snprintf(daemon, sizeof daemon, "%s/embsumd", path);
    setenv("EMBSUMD", daemon, 0);
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
    if (argc >= 4 && argc <= 6 && strcmp(argv[1], "publish") == 0)
        return publish(argv[2], argv[3], argc > 4 ? argv[4] : "20", argc > 5 ? argv[5] : "300");
    if (argc > 4 && strcmp(argv[1], "table") == 0)
        return print_table(argv[2], strtoull(argv[3], NULL, 10), argv + 4, (size_t)argc - 4);
    if (argc > 4 && strcmp(argv[1], "scores") == 0)
        return print_scores(argv[2], argv[3], argv + 4, argc - 4);
    if (argc == 3 && strcmp(argv[1], "expire") == 0)
        return with_store(argv[2], expire, NULL);
    if (argc == 4 && strcmp(argv[1], "keys") == 0)
        return with_store(argv[2], print_keys, argv + 3);
    if (argc == 6 && strcmp(argv[1], "change") == 0)
        return with_store(argv[2], change, argv + 3);
    fprintf(stderr, "see the head of tests/server/test_api.c\n");
    return 2;
}
