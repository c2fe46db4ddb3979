#include "core/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

float *array_floats(size_t count, bool zero)
{
    const size_t huge = (size_t)1 << 21;
    if (count > (SIZE_MAX - huge) / sizeof(float))
        return NULL;
    size_t bytes = count * sizeof(float), align = 64;
    if (bytes >= 2 * huge) {
        align = huge;
        bytes = (bytes + huge - 1) & ~(huge - 1); /* a page of its own, to the end */
    }
    void *block;
    if (posix_memalign(&block, align, bytes ? bytes : 1) != 0)
        return NULL;
    if (align == huge)
        madvise(block, bytes, MADV_HUGEPAGE); /* advice: without it all is as before */
    if (zero)
        memset(block, 0, bytes);
    return block;
}
