#include "batch/npy.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files hold little-endian floats, and are read as they are"
#endif

enum { PREAMBLE = 10 }; /* magic, version, header length */

static int transfer(
    const struct npy *npy, char *bytes, size_t len, uint64_t offset, bool out, struct err *err)
{
    while (len) {
        const ssize_t some =
            out ? pwrite(npy->fd, bytes, len, (off_t)offset) : pread(npy->fd, bytes, len, (off_t)offset);
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return err_errno(err, "%s %s", out ? "write" : "read", npy->path);
        if (some == 0)
            return err_set(err, ERR_INVALID, "%s ends early", npy->path);
        bytes += some;
        len -= (size_t)some;
        offset += (size_t)some;
    }
    return 0;
}

/* Behind 'key': in the header's Python dictionary, or NULL. */
static const char *find_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at)
        return NULL;
    at += strlen(key);
    return at + strspn(at, " :");
}

static int parse_shape(struct npy *npy, const char *text, size_t dims, struct err *err)
{
    if (!text || *text != '(')
        return err_set(err, ERR_INVALID, "%s: no shape in the header", npy->path);
    uint64_t bytes = 4;
    const char *at = text + 1;
    npy->dims = 0;
    for (;;) {
        at += strspn(at, " ,");
        if (*at == ')')
            break;
        char *end;
        errno = 0;
        const unsigned long long extent = strtoull(at, &end, 10);
        if (end == at || errno || *at == '-' || npy->dims == NPY_DIMS)
            return err_set(err, ERR_INVALID, "%s: the shape %.40s is malformed", npy->path, text);
        npy->shape[npy->dims++] = (size_t)extent;
        if (__builtin_mul_overflow(bytes, extent, &bytes))
            return err_set(err, ERR_INVALID, "%s: the shape %.40s is impossible", npy->path, text);
        at = end;
    }
    if (npy->dims != dims)
        return err_set(err, ERR_INVALID, "%s has %zu dimensions instead of %zu", npy->path, npy->dims, dims);
    struct stat status;
    if (fstat(npy->fd, &status) != 0)
        return err_errno(err, "stat %s", npy->path);
    if ((uint64_t)status.st_size != npy->data + bytes)
        return err_set(err, ERR_INVALID, "%s has %lld bytes, but its shape asks for %llu", npy->path,
            (long long)status.st_size, (unsigned long long)(npy->data + bytes));
    return 0;
}

static int read_header(struct npy *npy, size_t dims, struct err *err)
{
    unsigned char preamble[PREAMBLE + 2];
    int result = transfer(npy, (char *)preamble, sizeof preamble, 0, false, err);
    if (result < 0)
        return result;
    if (memcmp(preamble, "\x93NUMPY", 6) != 0)
        return err_set(err, ERR_INVALID, "%s is no .npy file", npy->path);
    const size_t wide = preamble[6] >= 2 ? 2 : 0; /* versions 2 and 3 have four bytes of length */
    size_t len = preamble[8] | (size_t)preamble[9] << 8;
    if (wide)
        len |= (size_t)preamble[10] << 16 | (size_t)preamble[11] << 24;
    if (preamble[6] < 1 || preamble[6] > 3 || len > 1 << 20)
        return err_set(err, ERR_INVALID, "%s: unknown .npy version or header", npy->path);
    char *header = calloc(1, len + 1);
    if (!header)
        return err_set(err, ERR_NOMEM, "out of memory");
    npy->data = PREAMBLE + wide + len;
    result = transfer(npy, header, len, npy->data - len, false, err);
    const char *descr = find_value(header, "'descr'"), *fortran = find_value(header, "'fortran_order'");
    if (result == 0 && (!descr || strncmp(descr, "'<f4'", 5) != 0))
        result = err_set(err, ERR_INVALID, "%s holds %.12s; float32, little-endian ('<f4') is wanted",
            npy->path, descr ? descr : "no dtype");
    if (result == 0 && (!fortran || strncmp(fortran, "False", 5) != 0))
        result = err_set(err, ERR_INVALID, "%s is not in C order", npy->path);
    if (result == 0)
        result = parse_shape(npy, find_value(header, "'shape'"), dims, err);
    free(header);
    return result;
}

static void set_item(struct npy *npy)
{
    npy->item = 1;
    for (size_t i = 1; i < npy->dims; i++)
        npy->item *= npy->shape[i];
}

static int open_file(struct npy *npy, const char *path, int flags, struct err *err)
{
    *npy = (struct npy){.fd = -1};
    if (strlen(path) >= sizeof npy->path)
        return err_set(err, ERR_INVALID, "the path %.64s... is too long", path);
    strcpy(npy->path, path);
    npy->fd = open(path, flags | O_CLOEXEC, 0666);
    return npy->fd < 0 ? err_errno(err, "open %s", path) : 0;
}

int npy_open(struct npy *npy, const char *path, size_t dims, struct err *err)
{
    int result = open_file(npy, path, O_RDONLY, err);
    if (result == 0)
        result = read_header(npy, dims, err);
    if (result < 0) {
        npy_close(npy, NULL);
        return result;
    }
    set_item(npy);
    return 0;
}

int npy_create(struct npy *npy, const char *path, size_t dims, const size_t *shape, struct err *err)
{
    char header[256];
    int result = open_file(npy, path, O_RDWR | O_CREAT | O_TRUNC, err);
    if (result < 0)
        return result;
    int used = snprintf(
        header + PREAMBLE, sizeof header - PREAMBLE, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (size_t i = 0; i < dims; i++) {
        npy->shape[i] = shape[i];
        used += snprintf(header + PREAMBLE + used, sizeof header - PREAMBLE - (size_t)used, "%s%zu",
            i ? ", " : "", shape[i]);
    }
    used += snprintf(
        header + PREAMBLE + used, sizeof header - PREAMBLE - (size_t)used, "%s), }", dims == 1 ? "," : "");
    const size_t size =
        (PREAMBLE + (size_t)used + 1 + 63) & ~(size_t)63; /* spaces up to a newline at 64 x k - 1 */
    memset(header + PREAMBLE + used, ' ', size - PREAMBLE - (size_t)used);
    header[size - 1] = '\n';
    memcpy(header, "\x93NUMPY\x01", 8);
    header[8] = (char)((size - PREAMBLE) & 0xFF);
    header[9] = (char)((size - PREAMBLE) >> 8);
    npy->dims = dims;
    npy->data = size;
    set_item(npy);
    result = transfer(npy, header, size, 0, true, err);
    if (result < 0)
        npy_close(npy, NULL);
    return result;
}

int npy_read(const struct npy *npy, float *dst, size_t first, size_t count, struct err *err)
{
    return transfer(npy, (char *)dst, count * npy->item * sizeof *dst,
        npy->data + first * npy->item * sizeof *dst, false, err);
}

int npy_write(const struct npy *npy, const float *src, size_t first, size_t count, struct err *err)
{
    union {
        const float *in;
        char *out;
    } bytes = {.in = src}; /* transfer only reads when it writes to the file */
    return transfer(npy, bytes.out, count * npy->item * sizeof *src,
        npy->data + first * npy->item * sizeof *src, true, err);
}

int npy_close(struct npy *npy, struct err *err)
{
    int result = 0;
    if (npy->fd >= 0) {
        const int flags = fcntl(npy->fd, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fsync(npy->fd) != 0)
            result = err_errno(err, "write %s", npy->path);
        if (close(npy->fd) != 0 && result == 0)
            result = err_errno(err, "close %s", npy->path);
    }
    npy->fd = -1;
    return result;
}
