/* What is live in a store, to compare two of them: `dump URL` prints a line for each matrix, summary, category, title and
 * explanation of the live generation, sorted: kind, id, what the matrix was computed from, and the hash of its numbers, or the text. What depends
 * on the generation's name alone (a blob's owner and checksum) is left out; a blob that is none fails. */
#include "core/id.h"
#include "store/blob.h"
#include "store/manifest.h"
#include "tests/lib/blob_judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct dump {
    struct store_link *link;
    char generation[STORE_GENERATION_MAX];
    struct manifest manifest;
    enum store_kind kind;
    struct id_map ids;
    char **lines;
    size_t count, size;
    struct err *err;
};

static int list_id(void *ctx, const char *id, size_t len)
{
    struct dump *const dump = ctx;
    return id_map_add(&dump->ids, id, len, NULL) < 0 ? -ERR_NOMEM : 0;
}

static int add_line(void *ctx, size_t index, const void *data, size_t len)
{
    struct dump *const dump = ctx;
    const char *const id = dump->ids.count ? id_map_get(&dump->ids, index) : "";
    const bool blob =
        dump->kind == STORE_USER || dump->kind == STORE_CONTENT || dump->kind == STORE_SCORE_PROJ;
    char matrix[ID_MAX + 80], *line = NULL;
    if (!data)
        return err_set(dump->err, ERR_NOT_FOUND, "%c %s is gone", (char)dump->kind, id);
    if (blob) {
        const size_t rows = dump->kind == STORE_USER      ? dump->manifest.m
                            : dump->kind == STORE_CONTENT ? dump->manifest.n
                                                          : dump->manifest.d;
        const struct blob_spec spec = {(enum blob_kind)dump->kind, dump->manifest.dtype, rows,
            dump->manifest.d, dump->generation, id, strlen(id)};
        const enum blob_reason reason = blob_decode(NULL, &spec, data, len);
        if (reason != BLOB_OK)
            return err_set(
                dump->err, ERR_CORRUPT, "%c %s: %s", (char)dump->kind, id, blob_reason_name(reason));
        snprintf(matrix, sizeof matrix, "%c %s %016llx %016llx", (char)dump->kind, id,
            (unsigned long long)blob_judge_field(data, 24, 8),
            (unsigned long long)XXH3_64bits((const char *)data + BLOB_HEADER, len - BLOB_HEADER));
        line = strdup(matrix);
    } else if (asprintf(&line, "%c %s %.*s", (char)dump->kind, id, (int)len, (const char *)data) < 0) {
        line = NULL;
    }
    if (dump->count == dump->size) {
        dump->size = 2 * dump->size + 256;
        dump->lines = realloc(dump->lines, dump->size * sizeof *dump->lines);
    }
    if (!dump->lines || !(dump->lines[dump->count++] = line))
        return err_set(dump->err, ERR_NOMEM, "out of memory");
    return 0;
}

static int dump_kind(struct dump *dump, enum store_kind kind)
{
    dump->kind = kind;
    id_map_done(&dump->ids);
    if (kind == STORE_SCORE_PROJ) {
        const struct store_id empty = {"", 0};
        return store_get(dump->link, dump->generation, kind, &empty, 1, add_line, dump, dump->err);
    }
    int code = store_scan(dump->link, dump->generation, kind, list_id, dump, dump->err);
    struct store_id *const ids = malloc((dump->ids.count + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < dump->ids.count; i++)
        ids[i] = (struct store_id){id_map_get(&dump->ids, i), dump->ids.length[i]};
    if (code == 0)
        code = ids ? store_get(
                         dump->link, dump->generation, kind, ids, dump->ids.count, add_line, dump, dump->err)
                   : -ERR_NOMEM;
    free(ids);
    return code;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int dump_all(struct dump *dump)
{
    static const enum store_kind kinds[] = {
        STORE_SCORE_PROJ, STORE_USER, STORE_CONTENT, STORE_SUMMARY, STORE_CATEGORY, STORE_TITLE, STORE_WHY};
    int code = store_live(dump->link, dump->generation, dump->err);
    if (code == 0)
        code = manifest_get(&dump->manifest, dump->link, dump->generation, dump->err);
    for (size_t i = 0; code == 0 && i < sizeof kinds / sizeof *kinds; i++)
        code = dump_kind(dump, kinds[i]);
    if (code < 0)
        return code;
    printf("users %zu contents %zu\n", dump->manifest.users, dump->manifest.contents);
    qsort(dump->lines, dump->count, sizeof *dump->lines, compare);
    for (size_t i = 0; i < dump->count; i++)
        puts(dump->lines[i]);
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct store_options options = STORE_OPTIONS_INIT;
    struct store *store = NULL;
    struct dump dump = {.err = &err};
    options.read_only = true;
    if (argc != 2) {
        fprintf(stderr, "usage: dump URL\n");
        return 2;
    }
    int code = store_open(&store, argv[1], &options, &err);
    if (code == 0)
        code = store_connect(&dump.link, store, &err);
    if (code == 0)
        code = dump_all(&dump);
    if (code < 0)
        fprintf(stderr, "%s\n", err.message);
    for (size_t i = 0; i < dump.count; i++)
        free(dump.lines[i]);
    free(dump.lines);
    id_map_done(&dump.ids);
    store_disconnect(dump.link);
    store_close(store);
    return code < 0;
}
