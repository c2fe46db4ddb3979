#include "tests/lib/rank_judge.h"

#include "core/id.h"
#include "server/hot.h"
#include "tests/lib/scratch.h"

#include <string.h>

static struct store_id borrow(const json_t *value)
{
    return (struct store_id){json_string_value(value), json_string_length(value)};
}

static bool is_id(const json_t *value)
{
    return json_is_string(value) && id_check(json_string_value(value), json_string_length(value), NULL) == 0;
}

/* Each id once, where it stands first. */
static bool read_list(
    struct store_id **out, size_t *out_count, const json_t *value, size_t max, struct arena *arena)
{
    if (!json_is_array(value) || json_array_size(value) > max)
        return false;
    struct store_id *ids = arena_array(arena, json_array_size(value) + 1, sizeof *ids);
    assert_non_null(ids);
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!is_id(item))
            return false;
        const struct store_id id = borrow(item);
        size_t before = 0;
        while (before < count && (ids[before].len != id.len || memcmp(ids[before].id, id.id, id.len) != 0))
            before++;
        if (before == count)
            ids[count++] = id;
    }
    *out = ids;
    *out_count = count;
    return true;
}

static bool is_category(const json_t *value)
{
    if (!json_is_string(value))
        return false;
    const char *text = json_string_value(value);
    const size_t len = json_string_length(value);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7F)
            return false;
    return len >= 1 && len <= CATEGORY_MAX;
}

static bool read_key(struct rank_request *request, const char *key, const json_t *value, struct arena *arena,
    const struct rank_limits *limits)
{
    if (strcmp(key, "user") == 0) {
        request->users = arena_array(arena, 1, sizeof *request->users);
        assert_non_null(request->users);
        *request->users = borrow(value);
        request->user_count = 1;
        return is_id(value);
    }
    if (strcmp(key, "users") == 0) {
        request->several = true;
        return read_list(&request->users, &request->user_count, value, limits->users_max, arena) &&
               request->user_count > 0;
    }
    if (strcmp(key, "candidates") == 0)
        return read_list(
            &request->candidates, &request->candidate_count, value, limits->candidates_max, arena);
    if (strcmp(key, "exclude") == 0)
        return read_list(&request->exclude, &request->exclude_count, value, limits->candidates_max, arena);
    if (strcmp(key, "category") == 0) {
        request->category = borrow(value);
        return is_category(value);
    }
    if (strcmp(key, "top_k") == 0) {
        request->top_k = (size_t)json_integer_value(value);
        return json_is_integer(value) && json_integer_value(value) >= 1;
    }
    const bool explain = strcmp(key, "explain") == 0;
    *(explain ? &request->explain : &request->titles) = json_is_true(value);
    return (explain || strcmp(key, "titles") == 0) && json_is_boolean(value);
}

static bool read_tree(
    struct rank_request *request, json_t *tree, struct arena *arena, const struct rank_limits *limits)
{
    const char *key;
    json_t *value;
    if (!json_is_object(tree) || (json_object_get(tree, "user") && json_object_get(tree, "users")))
        return false;
    json_object_foreach(tree, key, value) if (!read_key(request, key, value, arena, limits)) return false;
    if (!request->users)
        return false;
    request->whole_catalogue = !request->candidates;
    if (request->whole_catalogue)
        return request->top_k >= 1 && request->top_k <= limits->candidates_max;
    return !request->category.len && !request->exclude;
}

int rank_judge_parse(struct rank_request *out, json_t **tree, struct arena *arena,
    const struct rank_limits *limits, const char *body, size_t len)
{
    struct rank_request request = {0};
    *tree = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!*tree || !read_tree(&request, *tree, arena, limits))
        return -ERR_INVALID;
    *out = request;
    return 0;
}

static bool same_ids(
    const struct store_id *a, const uint64_t *hashes, size_t count, const struct store_id *b, size_t b_count)
{
    if (!a != !b || count != b_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (a[i].len != b[i].len || memcmp(a[i].id, b[i].id, a[i].len) != 0 ||
            hashes[i] != hot_hash(b[i].id, b[i].len))
            return false;
    return true;
}

bool rank_judge_same(const struct rank_request *a, const struct rank_request *b)
{
    return same_ids(a->users, a->user_hashes, a->user_count, b->users, b->user_count) &&
           same_ids(a->candidates, a->hashes, a->candidate_count, b->candidates, b->candidate_count) &&
           same_ids(a->exclude, a->exclude_hashes, a->exclude_count, b->exclude, b->exclude_count) &&
           a->category.len == b->category.len &&
           memcmp(a->category.len ? a->category.id : "", b->category.len ? b->category.id : "",
               a->category.len) == 0 &&
           a->several == b->several && a->whole_catalogue == b->whole_catalogue && a->top_k == b->top_k &&
           a->explain == b->explain && a->titles == b->titles;
}
