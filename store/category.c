#include "store/category.h"

#include "core/id.h"

#include <string.h>

size_t category_size(const struct store_id *ids, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(size, ids[i].len, &size) || __builtin_add_overflow(size, 1, &size))
            return SIZE_MAX;
    return size;
}

void category_encode(char *out, const struct store_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(out, ids[i].id, ids[i].len);
        out += ids[i].len;
        *out++ = '\n';
    }
}

int category_next(struct store_id *id, const char *value, size_t len, size_t *at)
{
    if (*at == len)
        return 0;
    const char *const start = value + *at, *const end = memchr(start, '\n', len - *at);
    const struct store_id next = {start, end ? (size_t)(end - start) : len - *at};
    *at += next.len + (end != NULL);
    if (!end || id_check(next.id, next.len, NULL) < 0)
        return -ERR_CORRUPT;
    *id = next;
    return 1;
}
