/* What the codes of a user's or a content's matrix look at (STORE_WHY): for each code the rows of Z or the tokens that weigh
 * most in its softmax (core/poly.h), the heaviest first, as a line of JSON that an operator can read:
 *
 *     {"codes":[[["N5",0.41],["N2",0.2],["",0.1]],[["N2",0.7]]]}       a user's with m = 2; "" is the summary's state
 *     {"codes":[[["space",0.3],["nasa",0.2]]]}                         a content's with n = 1 */
#ifndef EMBSUM_STORE_WHY_H
#define EMBSUM_STORE_WHY_H

#include "core/err.h"

#include <stddef.h>

enum { WHY_ITEMS = 3, WHY_TOKENS = 5 }; /* the most that are kept of a code */

struct why_look {
    const char *name; /* an item's id or a token's text: UTF-8 */
    size_t len;
    float weight;
};

struct why {
    size_t code_count;
    size_t *first; /* code_count + 1 of them: code i's are looks[first[i]] .. looks[first[i + 1] - 1] */
    struct why_look *looks;
    char *bytes; /* of the names, where why_read() has made it; else NULL */
};

/* The malloc'ed text; NULL: no memory. */
char *why_write(const struct why *why);

/* ERR_CORRUPT for what why_write() does not write, or ERR_NOMEM. Nothing of text is kept. */
int why_read(struct why *why, const void *text, size_t len, struct err *err);
void why_done(struct why *why); /* of one that was read; zero-initialised is valid, too */

#endif
