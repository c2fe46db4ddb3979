#include "core/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int array_grow(void *array, size_t *size, size_t need, size_t width, struct err *err)
{
    if (need <= *size)
        return 0;
    void *old;
    memcpy(&old, array, sizeof old); /* the array's own pointer type is not ours to know */
    const size_t twice = *size > SIZE_MAX / 2 ? SIZE_MAX : 2 * *size, want = need > twice ? need : twice;
    void *more = want > SIZE_MAX / width ? NULL : realloc(old, want * width);
    if (!more)
        return err_set(err, ERR_NOMEM, "out of memory for %zu x %zu bytes", want, width);
    memcpy(array, &more, sizeof more);
    *size = want;
    return 0;
}
