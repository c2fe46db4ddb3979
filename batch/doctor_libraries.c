/* Versions are asked of the libraries themselves, by name, as each has one door in the source that is not this one. What a
 * library does not tell, the name of its file does. What they were when this program was built, pkg-config told the
 * Makefile. */
#include "batch/doctor.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#ifndef EMBSUM_BUILT_WITH
#define EMBSUM_BUILT_WITH ""
#endif

enum { VERSION_MAX = 32 };

/* The first numbers with dots between them in a text. */
static void copy_version(char out[VERSION_MAX], const char *text)
{
    text += strcspn(text, "0123456789");
    size_t len = strspn(text, "0123456789.");
    while (len && text[len - 1] == '.')
        len--;
    snprintf(out, VERSION_MAX, "%.*s", (int)(len < VERSION_MAX ? len : VERSION_MAX - 1), text);
}

/* Negative, 0 or positive, as far as both have numbers: 0.14 is as new as 0.14.1. */
static int compare_versions(const char *a, const char *b)
{
    while (*a && *b) {
        char *after_a, *after_b;
        const long x = strtol(a, &after_a, 10), y = strtol(b, &after_b, 10);
        if (x != y)
            return x < y ? -1 : 1;
        a = after_a + (*after_a == '.');
        b = after_b + (*after_b == '.');
    }
    return 0;
}

/* dlsym's answer as a function: ISO C has no cast for it. */
static bool find(void *library, const char *name, void *function)
{
    *(void **)function = dlsym(library, name);
    return *(void **)function != NULL;
}

/* ---- what is loaded ---- */

struct looking {
    const char *file; /* "libhiredis.so" */
    char *version;
};

static int look_at_file(struct dl_phdr_info *info, size_t size, void *ctx)
{
    struct looking *const looking = ctx;
    (void)size;
    const char *const slash = strrchr(info->dlpi_name, '/');
    const size_t len = strlen(looking->file);
    if (!slash || strncmp(slash + 1, looking->file, len) != 0)
        return 0;
    char path[PATH_MAX];
    const char *const real = realpath(info->dlpi_name, path) ? strrchr(path, '/') + 1 : slash + 1;
    const char *const suffix = strstr(real, ".so.");
    if (suffix && strcmp(suffix, ".so.0.0.0") != 0) /* libtool's, of who counts no interfaces */
        copy_version(looking->version, suffix);
    return 1;
}

/* How a library tells its version. */
enum teller { TELLS_TEXT, TELLS_NUMBER, TELLS_HALVES, TELLS_PARTS, TELLS_NOTHING };

static const struct library {
    const char *name; /* pkg-config's */
    enum teller teller;
    const char *function; /* of TELLS_NOTHING: its file's name */
} libraries[] = {
    {"jansson", TELLS_TEXT, "jansson_version_str"},
    {"openblas", TELLS_TEXT, "openblas_get_config"},
    {"libcurl", TELLS_TEXT, "curl_version"},
    {"libxxhash", TELLS_NUMBER, "XXH_versionNumber"},
    {"nettle", TELLS_HALVES, "nettle_version_major"},
    {"lmdb", TELLS_PARTS, "mdb_version"},
    {"hiredis", TELLS_NOTHING, "libhiredis.so"},
    {"sentencepiece", TELLS_NOTHING, "libsentencepiece.so"},
};

static void read_loaded(char out[VERSION_MAX], const struct library *library)
{
    const char *(*text)(void) = NULL;
    unsigned (*number)(void) = NULL;
    int (*major)(void) = NULL, (*minor)(void) = NULL;
    char *(*parts)(int *, int *, int *) = NULL;
    struct looking looking = {library->function, out};
    *out = '\0';
    if (library->teller == TELLS_TEXT && find(RTLD_DEFAULT, library->function, &text))
        copy_version(out, text());
    else if (library->teller == TELLS_NUMBER && find(RTLD_DEFAULT, library->function, &number))
        snprintf(out, VERSION_MAX, "%u.%u.%u", number() / 10000, number() / 100 % 100, number() % 100);
    else if (library->teller == TELLS_HALVES && find(RTLD_DEFAULT, library->function, &major) &&
             find(RTLD_DEFAULT, "nettle_version_minor", &minor))
        snprintf(out, VERSION_MAX, "%d.%d", major(), minor());
    else if (library->teller == TELLS_PARTS && find(RTLD_DEFAULT, library->function, &parts))
        copy_version(out, parts(NULL, NULL, NULL));
    else if (library->teller == TELLS_NOTHING)
        dl_iterate_phdr(look_at_file, &looking);
}

/* "jansson=2.14 openblas=0.3.21 " */
static void read_built(char out[VERSION_MAX], const char *name)
{
    const size_t len = strlen(name);
    *out = '\0';
    for (const char *at = EMBSUM_BUILT_WITH; *at; at += strcspn(at, " "), at += strspn(at, " "))
        if (strncmp(at, name, len) == 0 && at[len] == '=')
            copy_version(out, at + len);
}

static void tell_library(struct doctor *doctor, const char *name, const char *loaded)
{
    char check[48], built[VERSION_MAX], todo[200];
    snprintf(check, sizeof check, "library.%s", name);
    read_built(built, name);
    if (!*loaded || !*built || compare_versions(loaded, built) >= 0) {
        doctor_tell(doctor, FINDING_OK, check, NULL, "%s%s%s", *loaded ? loaded : "its version is not known",
            *built ? ", built with " : "", built);
        return;
    }
    snprintf(todo, sizeof todo, "Install %s %s or newer here, or build embsum on this system.", name, built);
    doctor_tell(
        doctor, FINDING_WARNING, check, todo, "%s, but this program was built with %s", loaded, built);
}

/* The daemon's alone: this program is not linked with it. */
static void tell_microhttpd(struct doctor *doctor)
{
    const char *(*text)(void) = NULL;
    char loaded[VERSION_MAX] = "";
    void *const library = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        doctor_tell(doctor, FINDING_OK, "library.microhttpd", NULL,
            "not installed: embsumd does not start on this machine, which embsum can do without");
        return;
    }
    if (find(library, "MHD_get_version", &text))
        copy_version(loaded, text());
    tell_library(doctor, "libmicrohttpd", loaded);
    dlclose(library);
}

void doctor_libraries(struct doctor *doctor)
{
    doctor_tell(doctor, FINDING_OK, "program", NULL, "embsum %s", EMBSUM_VERSION);
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        char loaded[VERSION_MAX];
        read_loaded(loaded, &libraries[i]);
        tell_library(doctor, libraries[i].name, loaded);
    }
    tell_microhttpd(doctor);
}
