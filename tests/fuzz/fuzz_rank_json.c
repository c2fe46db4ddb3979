/* The body of POST /rank: the parser and jansson agree on what is a request and on what it means, and a request that
 * the query can say, too, is the same when it comes that way. */
#include "core/id.h"
#include "tests/lib/fuzz.h"
#include "tests/lib/rank_judge.h"

#include <stdio.h>
#include <string.h>

static const struct rank_limits limits = {.candidates_max = 6, .users_max = 4};

static struct arena arena, judge_arena, query_arena;

/* ---- the same as a query ---- */

struct query {
    char text[65536];
    size_t used;
};

static void put(struct query *query, const char *text)
{
    query->used += (size_t)snprintf(query->text + query->used, sizeof query->text - query->used, "%s", text);
}

static void put_id(struct query *query, const struct store_id *id)
{
    for (size_t i = 0; i < id->len; i++) {
        char code[4];
        snprintf(code, sizeof code, "%%%02x", (unsigned char)id->id[i]);
        put(query, code);
    }
}

static void put_ids(struct query *query, const char *key, const struct store_id *ids, size_t count)
{
    put(query, key);
    for (size_t i = 0; i < count; i++) {
        put(query, i ? "," : "");
        put_id(query, &ids[i]);
    }
}

/* One that has a single user and no empty list can be said. */
static void check_query(const struct rank_request *request)
{
    static struct query query;
    char number[32];
    if (request->several || request->top_k > 999999999 ||
        (!request->whole_catalogue && !request->candidate_count) ||
        (request->exclude && !request->exclude_count))
        return;
    query.used = 0;
    put_ids(&query, "user=", request->users, 1);
    if (!request->whole_catalogue)
        put_ids(&query, "&candidates=", request->candidates, request->candidate_count);
    if (request->category.len)
        put_ids(&query, "&category=", &request->category, 1);
    if (request->exclude)
        put_ids(&query, "&exclude=", request->exclude, request->exclude_count);
    snprintf(number, sizeof number, "&top_k=%zu", request->top_k);
    put(&query, request->top_k ? number : "");
    put(&query, request->explain ? "&explain=true" : "");
    put(&query, request->titles ? "&titles=true" : "");

    struct rank_request again;
    struct err err = ERR_INIT;
    must(rank_request_parse_query(&again, &query_arena, &limits, query.text, &err) == 0);
    must(rank_judge_same(&again, request));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *const body = (const char *)data;
    struct err err = ERR_INIT;
    struct rank_request request, untouched, right;
    memset(&request, 0x5A, sizeof request);
    untouched = request;
    json_t *tree;
    const int code = rank_request_parse_json(&request, &arena, &limits, body, size, &err);
    int verdict = rank_judge_parse(&right, &tree, &judge_arena, &limits, body, size);
    /* No JSON holds a byte 0, but jansson overlooks one behind a number or a word. */
    if (memchr(data, 0, size))
        verdict = -ERR_INVALID;
    must(code == verdict);
    if (code == 0) {
        must(rank_judge_same(&request, &right));
        check_query(&request);
    } else {
        fuzz_must_tell(code, &err);
        must(memcmp(&request, &untouched, sizeof request) == 0);
    }
    json_decref(tree);
    arena_reset(&arena);
    arena_reset(&judge_arena);
    arena_reset(&query_arena);
    return 0;
}
