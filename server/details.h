/* What an answer says beside the numbers and is not in memory: contents' titles, and what the codes of users and contents
 * look at (store/why.h). A reader brings it, while nobody waits with a thread, nor longer than until a deadline.
 *
 *     details_new(&details, service, generation->name, &wanted);
 *     if (details_start(details, deadline_ns, done, owner))
 *         return;                                    done(owner) is called, perhaps before this returns
 *     ... without them ...
 *     details_release(details);
 *
 * What a request asks for is copied: the reader may come back when the request is long answered. Unlike the numbers these
 * may be of two moments of a refresh, and a generation may have none of them. */
#ifndef EMBSUM_SERVER_DETAILS_H
#define EMBSUM_SERVER_DETAILS_H

#include "core/err.h"
#include "store/store.h"
#include "store/why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct details;
struct service;

struct details_wanted {
    const struct store_id *contents;
    size_t content_count;
    bool titles; /* of the contents */
    bool whys;   /* of the contents and the users, and the titles of the items that these look at */
    const struct store_id *users;
    size_t user_count;
};

int details_new(struct details **out, struct service *service, const char *generation,
    const struct details_wanted *wanted, struct err *err);

/* False: the time is over, or the store is away. done is called by a reader or by the thread of the deadlines. */
bool details_start(struct details *details, uint64_t deadline_ns, void (*done)(void *owner), void *owner);
void details_release(struct details *details); /* NULL is allowed */

/* After done: has all come? What has come is there where the store failed meanwhile; nothing is after the deadline. */
bool details_complete(const struct details *details);

/* The title of content i of those wanted, or of any item that a user's codes look at; len 0: there is none. */
struct store_id details_title(const struct details *details, size_t content);
struct store_id details_item_title(const struct details *details, const char *id, size_t len);
/* code_count is 0 where there is none. */
const struct why *details_user_why(const struct details *details, size_t user);
const struct why *details_content_why(const struct details *details, size_t content);

#endif
