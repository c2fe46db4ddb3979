/* The query of GET /rank: what is understood is a request by the rules of its ids, and written as a body it is read as
 * the same by jansson's judge. */
#include "core/id.h"
#include "server/writer.h"
#include "tests/lib/fuzz.h"
#include "tests/lib/rank_judge.h"

#include <stdlib.h>
#include <string.h>

static const struct rank_limits limits = {.candidates_max = 6, .users_max = 4};

static struct arena arena, judge_arena;
static struct writer body;

static void put_ids(const char *key, const struct store_id *ids, size_t count)
{
    writer_key(&body, key);
    writer_open(&body, '[');
    for (size_t i = 0; i < count; i++) {
        must(id_check(ids[i].id, ids[i].len, NULL) == 0);
        writer_string(&body, ids[i].id, ids[i].len);
    }
    writer_close(&body, ']');
}

static void check_body(const struct rank_request *request)
{
    must(request->user_count == 1 && !request->several);
    must(id_check(request->users->id, request->users->len, NULL) == 0);
    writer_clear(&body);
    writer_open(&body, '{');
    writer_key(&body, "user");
    writer_string(&body, request->users->id, request->users->len);
    if (!request->whole_catalogue)
        put_ids("candidates", request->candidates, request->candidate_count);
    if (request->category.len) {
        writer_key(&body, "category");
        writer_string(&body, request->category.id, request->category.len);
    }
    if (request->exclude)
        put_ids("exclude", request->exclude, request->exclude_count);
    if (request->top_k) {
        writer_key(&body, "top_k");
        writer_uint(&body, request->top_k);
    }
    writer_key(&body, "explain");
    writer_bool(&body, request->explain);
    writer_key(&body, "titles");
    writer_bool(&body, request->titles);
    writer_close(&body, '}');

    struct rank_request right;
    json_t *tree;
    must(!body.failed);
    must(rank_judge_parse(&right, &tree, &judge_arena, &limits, body.data, body.used) == 0);
    must(rank_judge_same(request, &right));
    json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct rank_request request, untouched;
    memset(&request, 0x5A, sizeof request);
    untouched = request;
    char *const query = malloc(size + 1); /* of its size, for the sanitizers */
    must(query);
    memcpy(query, data, size);
    query[size] = '\0';
    const int code = rank_request_parse_query(&request, &arena, &limits, query, &err);
    if (code == 0) {
        check_body(&request);
    } else {
        fuzz_must_tell(code, &err);
        must(memcmp(&request, &untouched, sizeof request) == 0);
    }
    free(query);
    arena_reset(&arena);
    arena_reset(&judge_arena);
    return 0;
}
