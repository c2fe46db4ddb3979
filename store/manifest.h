/* The manifest of a generation: what it holds and where it comes from, as JSON under P:<gen>:manifest.
 *
 *     {"m": 32, "n": 4, "d": 512, "dtype": "float32", "users": 61, "contents": 240,
 *      "model_sha256": "...", "created": "2026-11-24T03:00:00Z", "previous": "20261123T030000Z-1b2c3d4e",
 *      "settings": "5d41402abc4b2a76", "refreshed": "2026-11-24T03:05:00Z", "users_least": 61, "contents_least": 240}
 *
 * The last four are not there where they have nothing to say.
 */
#ifndef EMBSUM_STORE_MANIFEST_H
#define EMBSUM_STORE_MANIFEST_H

#include "store/blob.h"
#include "store/store.h"

#include <time.h>

struct manifest {
    size_t m, n, d;
    enum blob_dtype dtype;
    size_t users, contents; /* users counts the default user too */
    size_t users_least,
        contents_least;    /* fewer than those while a refresh is inside: no fewer than these are there */
    char model_sha256[65]; /* of model.safetensors; "" when the matrices were imported */
    time_t created;        /* UTC */
    char previous[STORE_GENERATION_MAX]; /* the generation that was live before; "" if none */
    uint64_t settings;                   /* hash of all that decides what a text becomes; 0: not known */
    time_t refreshed;                    /* UTC: when a refresh last saw everything in it; 0: never */
};

/* malloc'ed JSON text (NUL-terminated), or NULL when memory is short. */
char *manifest_dump(const struct manifest *manifest);

/* ERR_CORRUPT names the key that is missing, unknown, of the wrong type or out of range. */
int manifest_parse(struct manifest *manifest, const char *json, size_t len, struct err *err);

/* Read the manifest of a generation. ERR_NOT_FOUND if it has none. */
int manifest_get(struct manifest *manifest, struct store_link *link, const char *generation, struct err *err);

#endif
