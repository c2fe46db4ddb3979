#include "batch/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>

int digest_file(uint8_t digest[DIGEST_SIZE], const char *path, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    uint8_t chunk[65536];
    size_t got;
    struct sha256_ctx sha;
    sha256_init(&sha);
    while ((got = fread(chunk, 1, sizeof chunk, stream)) > 0)
        sha256_update(&sha, got, chunk);
    sha256_digest(&sha, DIGEST_SIZE, digest);
    const int result = ferror(stream) ? err_errno(err, "read %s", path) : 0;
    fclose(stream);
    return result;
}

void digest_hex(char hex[2 * DIGEST_SIZE + 1], const uint8_t digest[DIGEST_SIZE])
{
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}
