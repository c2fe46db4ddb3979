#include "core/safetensors.h"

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX (100u << 20) /* the format's own bound */

/* dtype names of the format and their sizes; only floats are ever read, the others may be there. */
static const struct {
    const char *name;
    size_t size;
    enum safetensors_dtype dtype;
} dtypes[] = {
    {"F32", 4, SAFETENSORS_F32},
    {"F16", 2, SAFETENSORS_F16},
    {"BF16", 2, SAFETENSORS_BF16},
    {"F64", 8, SAFETENSORS_OTHER},
    {"I64", 8, SAFETENSORS_OTHER},
    {"I32", 4, SAFETENSORS_OTHER},
    {"I16", 2, SAFETENSORS_OTHER},
    {"I8", 1, SAFETENSORS_OTHER},
    {"U64", 8, SAFETENSORS_OTHER},
    {"U32", 4, SAFETENSORS_OTHER},
    {"U16", 2, SAFETENSORS_OTHER},
    {"U8", 1, SAFETENSORS_OTHER},
    {"BOOL", 1, SAFETENSORS_OTHER},
};

static int read_at(int fd, void *dst, size_t len, uint64_t offset, struct err *err)
{
    for (size_t done = 0; done < len;) {
        const ssize_t got = pread(fd, (char *)dst + done, len - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read");
        if (got == 0)
            return err_set(err, ERR_CORRUPT, "the file ends at byte %llu, inside a tensor",
                (unsigned long long)(offset + done));
        done += (size_t)got;
    }
    return 0;
}

/* A non-negative JSON integer. */
static bool get_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static int parse_entry(struct safetensors_entry *entry, const char *name, const json_t *value,
    uint64_t data_len, struct err *err)
{
    const json_t *dtype = json_object_get(value, "dtype"), *shape = json_object_get(value, "shape"),
                 *offsets = json_object_get(value, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) ||
        json_array_size(offsets) != 2)
        return err_set(
            err, ERR_CORRUPT, "tensor %s: dtype, shape or data_offsets is missing or malformed", name);
    size_t size = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && !size; i++) {
        if (strcmp(dtypes[i].name, json_string_value(dtype)) == 0) {
            size = dtypes[i].size;
            entry->dtype = dtypes[i].dtype;
        }
    }
    if (!size)
        return err_set(err, ERR_CORRUPT, "tensor %s: unknown dtype %.32s", name, json_string_value(dtype));
    entry->dims = json_array_size(shape);
    if (entry->dims > SAFETENSORS_DIMS)
        return err_set(err, ERR_CORRUPT, "tensor %s: %zu dimensions", name, entry->dims);
    uint64_t bytes = size;
    for (size_t i = 0; i < entry->dims; i++) {
        uint64_t extent;
        if (!get_size(json_array_get(shape, i), &extent) || __builtin_mul_overflow(bytes, extent, &bytes))
            return err_set(err, ERR_CORRUPT, "tensor %s: impossible shape", name);
        entry->shape[i] = (size_t)extent;
    }
    if (!get_size(json_array_get(offsets, 0), &entry->begin) ||
        !get_size(json_array_get(offsets, 1), &entry->end) || entry->begin > entry->end)
        return err_set(err, ERR_CORRUPT, "tensor %s: impossible data_offsets", name);
    if (entry->end > data_len)
        return err_set(err, ERR_CORRUPT, "tensor %s: its data ends at byte %llu, but the file has only %llu",
            name, (unsigned long long)entry->end, (unsigned long long)data_len);
    if (entry->end - entry->begin != bytes)
        return err_set(err, ERR_CORRUPT, "tensor %s: shape and dtype need %llu bytes, data_offsets give %llu",
            name, (unsigned long long)bytes, (unsigned long long)(entry->end - entry->begin));
    entry->name = strdup(name);
    return entry->name ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int by_begin(const void *a, const void *b)
{
    const struct safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end; /* an empty tensor comes before its neighbour */
}

/* The entries must tile [0, data_len). */
static int check_cover(struct safetensors *file, uint64_t data_len, struct err *err)
{
    if (file->count)
        qsort(file->entries, file->count, sizeof *file->entries, by_begin);
    uint64_t covered = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_entry *entry = &file->entries[i];
        if (entry->begin < covered)
            return err_set(err, ERR_CORRUPT, "tensor %s overlaps tensor %s", entry->name, entry[-1].name);
        if (entry->begin > covered)
            return err_set(err, ERR_CORRUPT, "there is a hole of %llu bytes before tensor %s",
                (unsigned long long)(entry->begin - covered), entry->name);
        covered = entry->end;
    }
    if (covered != data_len)
        return err_set(err, ERR_CORRUPT, "%llu bytes behind the last tensor belong to none",
            (unsigned long long)(data_len - covered));
    return 0;
}

static int parse_header(
    struct safetensors *file, const char *text, size_t len, uint64_t data_len, struct err *err)
{
    json_error_t where;
    json_t *header = json_read(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!header && json_error_code(&where) == json_error_out_of_memory)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (!json_is_object(header)) {
        json_decref(header);
        return err_set(
            err, ERR_CORRUPT, "the header is not a JSON object: %s", header ? "another type" : where.text);
    }
    int result = 0;
    const char *name;
    json_t *value;
    file->entries = calloc(json_object_size(header) + 1, sizeof *file->entries);
    if (!file->entries)
        result = err_set(err, ERR_NOMEM, "out of memory");
    json_object_foreach(header, name, value)
    {
        if (result < 0)
            break;
        if (strcmp(name, "__metadata__") == 0) {
            if (!json_is_object(value)) {
                result = err_set(err, ERR_CORRUPT, "the header's __metadata__ is not an object");
                break;
            }
            file->metadata = json_write(value, JSON_COMPACT);
            if (!file->metadata)
                result = err_set(err, ERR_NOMEM, "out of memory");
            continue;
        }
        result = parse_entry(&file->entries[file->count], name, value, data_len, err);
        if (result == 0)
            file->count++;
    }
    json_decref(header);
    return result < 0 ? result : check_cover(file, data_len, err);
}

static int open_checked(struct safetensors *file, const char *path, struct err *err)
{
    struct stat status;
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0)
        return err_errno(err, "open");
    if (fstat(file->fd, &status) != 0)
        return err_errno(err, "stat");
    const uint64_t size = (uint64_t)status.st_size;
    uint64_t length;
    if (size < sizeof length)
        return err_set(err, ERR_CORRUPT, "the file has %llu bytes, too few for a header length",
            (unsigned long long)size);
    int result = read_at(file->fd, &length, sizeof length, 0, err);
    if (result < 0)
        return result;
    length = le64toh(length);
    if (length > size - sizeof length || length > HEADER_MAX)
        return err_set(err, ERR_CORRUPT, "the header claims %llu bytes, but only %llu follow",
            (unsigned long long)length, (unsigned long long)(size - sizeof length));
    char *text = malloc((size_t)length + 1);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    result = read_at(file->fd, text, (size_t)length, sizeof length, err);
    if (result == 0) {
        file->data = sizeof length + length;
        result = parse_header(file, text, (size_t)length, size - file->data, err);
    }
    free(text);
    return result;
}

int safetensors_open(struct safetensors *file, const char *path, struct err *err)
{
    struct safetensors opened = {.fd = -1};
    const int result = open_checked(&opened, path, err);
    if (result < 0) {
        safetensors_close(&opened);
        err_place(err, "%s: ", path);
        return result;
    }
    *file = opened;
    return 0;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->count; i++)
        free(file->entries[i].name);
    free(file->entries);
    free(file->metadata);
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct safetensors){.fd = -1};
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->entries[i].name, name) == 0)
            return &file->entries[i];
    return NULL;
}

int safetensors_read(
    const struct safetensors *file, const struct safetensors_entry *entry, float *dst, struct err *err)
{
    enum { CHUNK = 16384 };
    uint16_t half[CHUNK];
    if (entry->dtype == SAFETENSORS_OTHER)
        return err_set(err, ERR_INVALID, "tensor %s: only F32, F16 and BF16 are read", entry->name);
    const size_t width = entry->dtype == SAFETENSORS_F32 ? 4 : 2;
    const size_t count = (size_t)(entry->end - entry->begin) / width;
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t some = count - at < CHUNK ? count - at : CHUNK;
        void *raw = width == 4 ? (void *)(dst + at) : (void *)half;
        const int result = read_at(file->fd, raw, some * width, file->data + entry->begin + at * width, err);
        if (result < 0) {
            err_place(err, "tensor %s: ", entry->name);
            return result;
        }
        for (size_t i = 0; i < some; i++) {
            if (entry->dtype == SAFETENSORS_F32) {
                uint32_t bits;
                memcpy(&bits, &dst[at + i], sizeof bits);
                bits = le32toh(bits);
                memcpy(&dst[at + i], &bits, sizeof bits);
            } else {
                const uint16_t h = le16toh(half[i]);
                dst[at + i] = entry->dtype == SAFETENSORS_F16 ? f16_to_f32(h) : bf16_to_f32(h);
            }
            if (!isfinite(dst[at + i]))
                return err_set(
                    err, ERR_CORRUPT, "tensor %s: element %zu is not a finite number", entry->name, at + i);
        }
    }
    return 0;
}

/* The JSON header, padded with spaces so that the data begins at a multiple of 64 bytes. */
static char *dump_header(const struct safetensors_tensor *tensors, size_t count, const char *metadata)
{
    const size_t failures = json_failures();
    const char *about = metadata ? metadata : "{\"format\":\"pt\"}";
    json_t *header = json_pack("{s:o}", "__metadata__", json_read(about, strlen(about), 0, NULL));
    uint64_t at = 0;
    for (size_t i = 0; header && i < count; i++) {
        json_t *shape = json_array();
        uint64_t bytes = 4;
        for (size_t k = 0; k < tensors[i].dims; k++) {
            bytes *= tensors[i].shape[k];
            json_array_append_new(shape, json_integer((json_int_t)tensors[i].shape[k]));
        }
        json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape, "data_offsets",
            (json_int_t)at, (json_int_t)(at + bytes));
        if (!entry || json_object_set_new(header, tensors[i].name, entry) != 0) {
            json_decref(header);
            return NULL;
        }
        at += bytes;
    }
    char *text = json_write(header, JSON_COMPACT), *padded = NULL;
    json_decref(header);
    if (text && failures == json_failures()) {
        const size_t used = strlen(text), size = ((used + 8 + 63) & ~(size_t)63) - 8;
        padded = malloc(size + 1);
        if (padded) {
            memset(padded, ' ', size);
            memcpy(padded, text, used);
            padded[size] = '\0';
        }
    }
    free(text);
    return padded;
}

static bool write_floats(FILE *stream, const float *data, size_t count)
{
    enum { CHUNK = 4096 };
    uint32_t chunk[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t some = count - at < CHUNK ? count - at : CHUNK;
        memcpy(chunk, data + at, some * sizeof *data);
        for (size_t i = 0; i < some; i++)
            chunk[i] = htole32(chunk[i]);
        if (fwrite(chunk, sizeof *chunk, some, stream) != some)
            return false;
    }
    return true;
}

int safetensors_write(const char *path, const struct safetensors_tensor *tensors, size_t count,
    const char *metadata, struct err *err)
{
    struct file_replacement file;
    char *header = dump_header(tensors, count, metadata);
    if (!header)
        return err_set(err, ERR_NOMEM, "write %s: out of memory", path);
    int result = file_replace_begin(&file, path, err);
    if (result == 0) {
        const uint64_t length = htole64(strlen(header));
        bool whole = fwrite(&length, sizeof length, 1, file.stream) == 1 &&
                     fwrite(header, strlen(header), 1, file.stream) == 1;
        for (size_t i = 0; whole && i < count; i++) {
            size_t elements = 1;
            for (size_t k = 0; k < tensors[i].dims; k++)
                elements *= tensors[i].shape[k];
            whole = write_floats(file.stream, tensors[i].data, elements);
        }
        if (whole) {
            result = file_replace_commit(&file, err);
        } else {
            result = err_errno(err, "write %s", path);
            file_replace_abort(&file);
        }
    }
    free(header);
    return result;
}
