/* What the body of POST /rank means, by jansson's reading of it and the definition of a request: slow, plain, and
 * the judge of the parser. */
#ifndef EMBSUM_TESTS_LIB_RANK_JUDGE_H
#define EMBSUM_TESTS_LIB_RANK_JUDGE_H

#include "server/rank_request.h"

#include <jansson.h>

/* 0 or -ERR_INVALID, without a message. The ids stay in the tree, which the caller gives back (it may be NULL), the
 * arrays are the arena's; hashes are not computed. */
int rank_judge_parse(struct rank_request *out, json_t **tree, struct arena *arena,
    const struct rank_limits *limits, const char *body, size_t len);

/* Does the parser's request mean the same as b? Its hashes are held to be those of b's ids. */
bool rank_judge_same(const struct rank_request *a, const struct rank_request *b);

#endif
