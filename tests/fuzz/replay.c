/* A fuzz target without libFuzzer: the files of its corpus, then some thousands of mutations of them, the same ones
 * every time. Named files in place of the corpus replay a finding. An input lies against a page that cannot be read, so
 * that a byte read behind its end is seen without a sanitizer, too. */
#include "tests/lib/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INPUT_MAX = 65536, GUARD = 65536, MUTATIONS = 4000, SEEDS_MAX = 256 };

/* A sanitizer ends the process by a signal, too: each reads its options here. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}
const char *__ubsan_default_options(void)
{
    return "abort_on_error=1";
}
const char *__tsan_default_options(void)
{
    return "abort_on_error=1";
}

static struct {
    uint8_t *end; /* of the readable pages */
    size_t size;
    char name[512], crash[512];
} input;

struct seed {
    char *name;
    uint8_t data[INPUT_MAX];
    size_t size;
};

/* ---- one input ---- */

/* Called by a signal: nothing but system calls. */
static void save_input(void)
{
    const int fd = open(input.crash, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    const char *const words[] = {"the input is ", input.name, ", saved as ", input.crash, "\n"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (write(STDERR_FILENO, words[i], strlen(words[i])) < 0)
            break;
    if (fd >= 0 && write(fd, input.end - input.size, input.size) == (ssize_t)input.size)
        close(fd);
}

static void on_signal(int number)
{
    save_input();
    signal(number, SIG_DFL);
    raise(number);
}

static void prepare(const char *program)
{
    uint8_t *const pages =
        mmap(NULL, INPUT_MAX + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(pages != MAP_FAILED && mprotect(pages + INPUT_MAX, GUARD, PROT_NONE) == 0);
    input.end = pages + INPUT_MAX;
    snprintf(input.crash, sizeof input.crash, "%s.crash", program);
    signal(SIGABRT, on_signal);
#ifndef __SANITIZE_ADDRESS__ /* which tells more of the others than we do, and aborts then */
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
#endif
}

static void run(const uint8_t *data, size_t size)
{
    input.size = size;
    memcpy(input.end - size, data, size);
    LLVMFuzzerTestOneInput(input.end - size, size);
}

/* ---- mutations ---- */

static uint64_t state;

static size_t below(size_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % bound;
}

/* Replace data[at..at + out) by in bytes of `from`. */
static void replace(struct seed *to, size_t at, size_t out, const uint8_t *from, size_t in)
{
    uint8_t piece[INPUT_MAX];
    if (to->size - out + in > INPUT_MAX)
        return;
    memcpy(piece, from, in); /* which may lie in what is moved */
    memmove(to->data + at + in, to->data + at + out, to->size - at - out);
    memcpy(to->data + at, piece, in);
    to->size += in - out;
}

static void mutate(struct seed *to, const struct seed *other)
{
    static const uint8_t likely[] = "\0\x01\x7F\x80\xFF\t\n\r \"\\{}[]:,-+.09azAZ$*%&=?/";
    const size_t at = below(to->size + 1), left = to->size - at;
    const size_t some = below((left < 32 ? left : 32) + 1);
    const size_t from = below(other->size + 1), most = other->size - from;
    switch (below(6)) {
    case 0:
        if (left)
            to->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        replace(to, at, left ? 1 : 0, &likely[below(sizeof likely)], 1);
        break;
    case 2:
        replace(to, at, 0, &likely[below(sizeof likely)], 1);
        break;
    case 3:
        replace(to, at, some, likely, 0);
        break;
    case 4:
        replace(to, at, 0, to->data + at, some);
        break;
    default:
        replace(to, at, some, other->data + from, below((most < 64 ? most : 64) + 1));
    }
}

static void run_mutations(const struct seed *seeds, size_t count)
{
    static struct seed mutated;
    state = 20261128;
    printf("%d mutations, seed %llu\n", MUTATIONS, (unsigned long long)state);
    for (int i = 0; i < MUTATIONS; i++) {
        const struct seed *const seed = &seeds[(size_t)i % count];
        memcpy(mutated.data, seed->data, seed->size);
        mutated.size = seed->size;
        for (size_t times = 1 + below(4); times; times--)
            mutate(&mutated, &seeds[below(count)]);
        snprintf(input.name, sizeof input.name, "mutation %d, of %s", i, seed->name);
        run(mutated.data, mutated.size);
    }
}

/* ---- files ---- */

static void load(struct seed *seed, const char *path)
{
    FILE *const stream = fopen(path, "rbe");
    if (!stream) {
        perror(path);
        exit(2);
    }
    seed->name = strdup(path);
    seed->size = fread(seed->data, 1, INPUT_MAX, stream);
    fclose(stream);
    snprintf(input.name, sizeof input.name, "%s", path);
    run(seed->data, seed->size);
}

static int is_seed(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    static struct seed seeds[SEEDS_MAX];
    prepare(argv[0]);
    for (int i = 1; i < argc; i++) {
        load(&seeds[0], argv[i]);
        free(seeds[0].name);
    }
    if (argc > 1)
        return 0;
    char folder[256], path[512];
    struct dirent **found;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", strstr(argv[0], "fuzz_") + strlen("fuzz_"));
    const int count = scandir(folder, &found, is_seed, alphasort);
    if (count < 1 || count > SEEDS_MAX) {
        fprintf(stderr, "%s: 1 to %d seeds are expected\n", folder, SEEDS_MAX);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, found[i]->d_name);
        load(&seeds[i], path);
        free(found[i]);
    }
    free(found);
    printf("%d files of %s\n", count, folder);
    run_mutations(seeds, (size_t)count);
    for (int i = 0; i < count; i++)
        free(seeds[i].name);
    return 0;
}
