/* Memory that runs out in the commands of embsum: refresh, import, generations, encode, rank, doctor. */
#include "batch/commands.h"
#include "batch/stop.h"
#include "core/gemm.h"
#include "store/generation.h"
#include "tests/faults/lock.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TINY "tests/golden/tiny/"

static char folder[256], url[272], live[STORE_GENERATION_MAX];
static struct store *store;
static struct store_link *own;

/* In place of batch/stop.c's: a thread takes signals, which is begun once in a program; commands run hundreds of times here. */
void stop_on_signals(void)
{
}

bool stop_asked(void)
{
    return false;
}

/* ---- a command, its messages kept ---- */

enum { ARGUMENTS = 24 };

static int run_command(int (*command)(int argc, char **argv), const char *const *words, struct err *err)
{
    char *argv[ARGUMENTS];
    int argc = 0;
    for (; words[argc]; argc++)
        memcpy(&argv[argc], &words[argc], sizeof *argv); /* commands do not write into their words */
    argv[argc] = NULL;
    char told[400] = "";
    fflush(stdout);
    const int out = dup(STDOUT_FILENO), error = dup(STDERR_FILENO), kept = memfd_create("stderr", 0),
              nowhere = memfd_create("stdout", 0);
    dup2(nowhere, STDOUT_FILENO);
    dup2(kept, STDERR_FILENO);
    const int code = command(argc, argv);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    const ssize_t len = pread(kept, told, sizeof told - 1, 0);
    close(out);
    close(error);
    close(kept);
    close(nowhere);
    clearerr(stdout);
    if (code == EXIT_DONE)
        return 0;
    if (code != EXIT_FAILED || len <= 0)
        return 1; /* which no scenario may return */
    return err_set(err, ERR_NOMEM, "%s", told);
}

/* What is live is whole; the one before it, where the command failed. */
static void live_is_whole(int code)
{
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    struct generation_check check;
    (void)code;
    end_lock(own);
    nomem_require(store_live(own, name, &err), &err);
    nomem_require(generation_verify(&check, own, name, NULL, NULL, &err), &err);
    assert_true(code < 0 || strcmp(name, live) != 0);
    strcpy(live, name);
}

static void prune(void)
{
    struct err err = ERR_INIT;
    nomem_require(generation_prune(store, 0, &err), &err);
}

/* ---- refresh ---- */

static char news[300], behaviors[300], fewer[300];

static int refresh(struct err *err)
{
    const char *const words[] = {"refresh", "--model", TINY, "--news", news, "--behaviors", behaviors,
        "--store", url, "--threads", "1", "--quiet", "--full", NULL};
    return run_command(command_refresh, words, err);
}

static int refresh_explained(struct err *err)
{
    const char *const words[] = {"refresh", "--model", TINY, "--news", news, "--behaviors", behaviors,
        "--store", url, "--threads", "1", "--quiet", "--full", "--explain", NULL};
    return run_command(command_refresh, words, err);
}

/* Inside the live generation, with a user less and then with that user again. */
static size_t turn;

static void next_turn(void)
{
    turn++;
}

static int refresh_inside(struct err *err)
{
    const char *const words[] = {"refresh", "--model", TINY, "--news", news, "--behaviors",
        turn % 2 ? fewer : behaviors, "--store", url, "--threads", "1", "--quiet", NULL};
    return run_command(command_refresh, words, err);
}

/* Also where the command has failed in the midst. */
static void inside_is_whole(int code)
{
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    struct generation_check check;
    (void)code;
    end_lock(own);
    nomem_require(store_live(own, name, &err), &err);
    assert_string_equal(name, live);
    nomem_require(generation_verify(&check, own, name, NULL, NULL, &err), &err);
}

static void test_refresh(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "refresh --full", .run = refresh, .verify = live_is_whole, .after = prune, .cost = 3};
    static const struct nomem_scenario inside = {
        .name = "refresh", .before = next_turn, .run = refresh_inside, .verify = inside_is_whole, .cost = 3};
    static const struct nomem_scenario explained = {.name = "refresh --explain",
        .run = refresh_explained,
        .verify = live_is_whole,
        .after = prune,
        .cost = 3};
    nomem_test(&explained);
    nomem_test(&s);
    nomem_test(&inside);
}

/* ---- encode ---- */

static int encode(struct err *err)
{
    const char *const words[] = {"encode", "--model", TINY, "--news", news, "--behaviors", behaviors, "--out",
        folder, "--threads", "1", "--quiet", NULL};
    return run_command(command_encode, words, err);
}

static void test_encode(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "encode to .npy", .run = encode, .cost = 4};
    nomem_test(&s);
}

/* ---- import: of what encode has written ---- */

static int import(struct err *err)
{
    const char *const words[] = {"import", "--in", folder, "--store", url, "--quiet", NULL};
    return run_command(command_import, words, err);
}

static void test_import(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "import .npy", .run = import, .verify = live_is_whole, .after = prune};
    nomem_test(&s);
}

/* ---- generations ---- */

static int list(struct err *err)
{
    const char *const words[] = {"generations", "list", "--json", "--store", url, NULL};
    return run_command(command_generations, words, err);
}

static int verify(struct err *err)
{
    const char *const words[] = {"generations", "verify", "--store", url, NULL};
    return run_command(command_generations, words, err);
}

static void test_generations(void **state)
{
    (void)state;
    static const struct nomem_scenario listing = {.name = "generations list --json", .run = list, .cost = 3};
    static const struct nomem_scenario verifying = {.name = "generations verify", .run = verify};
    nomem_test(&listing);
    nomem_test(&verifying);
}

/* ---- rank and doctor ---- */

static int rank_json(struct err *err)
{
    const char *const words[] = {"rank", "--store", url, "--user", "U1", "--explain", "--json", NULL};
    return run_command(command_rank, words, err);
}

static int rank_table(struct err *err)
{
    const char *const words[] = {"rank", "--store", url, "--user", "U9", "--candidates", "N1,N2,N7", NULL};
    return run_command(command_rank, words, err);
}

/* Its findings are on stdout, and one of them is that memory is short. */
static int doctor(struct err *err)
{
    const char *const words[] = {"doctor", "--store", url, "--model", TINY, "--json", NULL};
    const int code = run_command(command_doctor, words, err);
    return code > 0 ? err_set(err, ERR_NOMEM, "an error among the findings") : code;
}

static void test_rank(void **state)
{
    (void)state;
    static const struct nomem_scenario json = {.name = "rank --explain --json", .run = rank_json};
    static const struct nomem_scenario table = {.name = "rank", .run = rank_table};
    nomem_test(&json);
    nomem_test(&table);
}

static void test_doctor(void **state)
{
    (void)state;
    /* doctor opens it to ask its version; what the libraries behind it lose while they are loaded is not ours. */
    void *const daemons = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    static const struct nomem_scenario s = {.name = "doctor", .run = doctor, .cost = 10};
    nomem_test(&s);
    if (daemons)
        dlclose(daemons);
}

static int prepare(void **state)
{
    (void)state;
    static const char few[] = "N1\tfood\tfood-olives\tOlive growers won\tOn a Tuesday morning.\t\t\t\n"
                              "N2\tfood\tfood-bakery\tThe corner bakery\tWrote down a soup.\t\t\t\n"
                              "N3\tsports\tsports-rowing\tFour rowers\tMissed the last train.\t\t\t\n";
    static const char read[] = "1\tU1\t11/24/2026 3:00:00 AM\tN1 N3\tN2-1 N3-0\n"
                               "2\tU2\t11/24/2026 3:00:00 AM\t\tN2-1 N1-0\n";
    struct err err = ERR_INIT;
    nomem_require(gemm_init(&err), &err);
    nomem_folder(folder);
    strcpy(news, scratch_write(folder, "news.tsv", few, strlen(few)));
    strcpy(behaviors, scratch_write(folder, "behaviors.tsv", read, strlen(read)));
    strcpy(fewer, scratch_write(folder, "fewer.tsv", read, (size_t)(strchr(read, '\n') - read) + 1));
    snprintf(url, sizeof url, "lmdb:%s/store", folder);
    nomem_require(store_open(&store, url, NULL, &err), &err);
    nomem_require(store_connect(&own, store, &err), &err);
    setenv("EMBSUM_ONEDNN", "0", 1);
    nomem_require(refresh(&err), &err); /* something to lose */
    return 0;
}

static int clean(void **state)
{
    (void)state;
    store_disconnect(own);
    store_close(store);
    scratch_remove(folder);
    return 0;
}

int main(void)
{
    if (!nomem_possible())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_rank),
        cmocka_unit_test(test_doctor),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
