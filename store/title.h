/* What a title may be in the store: 1 to STORE_TITLE_MAX bytes of UTF-8. A content without a title has no key of that kind. */
#ifndef EMBSUM_STORE_TITLE_H
#define EMBSUM_STORE_TITLE_H

#include "core/id.h"
#include "store/store.h"

#include <xxhash.h>

/* How much of a title is kept: all of it, or as many whole characters as fit. A carriage return at its end would be lost in
 * a file of lines, and is dropped here, so that titles are the same whichever way they come. */
static inline size_t title_cut(const char *text, size_t len)
{
    if (len > STORE_TITLE_MAX) {
        len = STORE_TITLE_MAX;
        while (len && ((unsigned char)text[len] & 0xC0) == 0x80)
            len--;
    }
    while (len && text[len - 1] == '\r')
        len--;
    return len;
}

/* A title as a number, to see whether it is another one; 0: there is none. */
static inline uint64_t title_hash(const char *text, size_t len)
{
    const uint64_t hash = len ? XXH3_64bits(text, len) : 0;
    return len && !hash ? 1 : hash;
}

static inline bool title_valid(const char *text, size_t len)
{
    return len && len <= STORE_TITLE_MAX && utf8_valid(text, len);
}

#endif
