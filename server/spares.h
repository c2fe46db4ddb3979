/* What one thread keeps for its next use, a stack: who is needed often stays warm on top. How many are needed at once
 * changes, with the store's outages say, and so does what each has grown to; so those at the bottom that nobody has needed
 * for a while are given up one by one, or memory would only ever grow. Zero-initialised is empty and valid. */
#ifndef EMBSUM_SERVER_SPARES_H
#define EMBSUM_SERVER_SPARES_H

#include <stddef.h>
#include <string.h>

enum { SPARES_MAX = 64, SPARES_LOOK = 64 /* uses */ };

struct spares {
    void *at[SPARES_MAX];
    size_t count;
    size_t uses, least; /* since the last look, and how few were there then at any time */
    size_t surplus;     /* still to be given up */
};

static inline void *spares_take(struct spares *spares) /* NULL: there is none */
{
    if (!spares->count)
        return NULL;
    void *top = spares->at[--spares->count];
    if (spares->count < spares->least)
        spares->least = spares->count;
    return top;
}

/* One that is not kept, for the caller to free; or NULL. */
static inline void *spares_give(struct spares *spares, void *item)
{
    if (spares->count == SPARES_MAX)
        return item;
    spares->at[spares->count++] = item;
    if (++spares->uses == SPARES_LOOK) {
        spares->surplus = spares->least;
        spares->least = spares->count;
        spares->uses = 0;
    }
    if (!spares->surplus || !spares->count)
        return NULL;
    void *bottom = spares->at[0];
    memmove(spares->at, spares->at + 1, --spares->count * sizeof *spares->at);
    spares->surplus--;
    spares->least -= spares->least > spares->count;
    return bottom;
}

#endif
