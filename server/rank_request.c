#include "server/rank_request.h"

#include "core/id.h"
#include "server/http_message.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the request");
}

/* ---- what both forms share ---- */

/* Leave out what stood there before, keep the order. */
static int drop_repeated(struct store_id *ids, size_t *count, struct arena *arena, struct err *err)
{
    size_t slots = 4, kept = 0;
    while (slots < 2 * *count)
        slots *= 2;
    uint32_t *index = arena_array(arena, slots, sizeof *index); /* position + 1, or 0 */
    if (!index)
        return no_memory(err);
    for (size_t i = 0; i < *count; i++) {
        size_t at = (size_t)XXH3_64bits(ids[i].id, ids[i].len) & (slots - 1);
        for (; index[at]; at = (at + 1) & (slots - 1)) {
            const struct store_id *other = &ids[index[at] - 1];
            if (other->len == ids[i].len && memcmp(other->id, ids[i].id, ids[i].len) == 0)
                break;
        }
        if (index[at])
            continue;
        ids[kept++] = ids[i];
        index[at] = (uint32_t)kept;
    }
    *count = kept;
    return 0;
}

/* What no single key can tell. */
static int check_whole(
    struct rank_request *request, struct arena *arena, const struct rank_limits *limits, struct err *err)
{
    if (!request->users)
        return err_set(err, ERR_INVALID, "user is missing");
    request->whole_catalogue = !request->candidates;
    if (request->whole_catalogue && !request->top_k)
        return err_set(err, ERR_INVALID, "top_k is required where no candidates are given");
    if (request->whole_catalogue && request->top_k > limits->candidates_max)
        return err_set(
            err, ERR_INVALID, "top_k: at most %zu where no candidates are given", limits->candidates_max);
    const int code = drop_repeated(request->users, &request->user_count, arena, err);
    if (code < 0 || request->whole_catalogue)
        return code;
    return drop_repeated(request->candidates, &request->candidate_count, arena, err);
}

static int check_id(const struct store_id *id, const char *list, size_t index, struct err *err)
{
    const int code = id_check(id->id, id->len, err);
    if (code < 0 && index == SIZE_MAX)
        return err_place(err, "%s: ", list);
    return code < 0 ? err_place(err, "%s[%zu]: ", list, index) : 0;
}

static int check_count(const char *list, size_t count, size_t max, struct err *err)
{
    if (count <= max)
        return 0;
    return err_set(err, ERR_INVALID, "%s: %zu are given; at most %zu are allowed", list, count, max);
}

/* ---- JSON ---- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static int expect(const json_t *value, bool good, const char *wanted, const char *key, struct err *err)
{
    return good ? 0 : err_set(err, ERR_INVALID, "%s: %s is expected, not %s", key, wanted, type_name(value));
}

/* The strings stay in the tree until the request has been copied out of it. */
static struct store_id borrow(const json_t *value)
{
    return (struct store_id){json_string_value(value), json_string_length(value)};
}

static int copy_ids(struct store_id *ids, size_t count, struct arena *arena, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        if (!(ids[i].id = arena_copy(arena, ids[i].id, ids[i].len)))
            return no_memory(err);
    return 0;
}

static int read_list(struct store_id **out, size_t *out_count, const json_t *value, const char *key,
    size_t max, struct arena *arena, struct err *err)
{
    const size_t count = json_array_size(value);
    if (expect(value, json_is_array(value), "an array of strings", key, err) < 0 ||
        check_count(key, count, max, err) < 0)
        return -ERR_INVALID;
    struct store_id *ids = arena_array(arena, count + 1, sizeof *ids);
    if (!ids)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item))
            return err_set(
                err, ERR_INVALID, "%s[%zu]: a string is expected, not %s", key, i, type_name(item));
        ids[i] = borrow(item);
        if (check_id(&ids[i], key, i, err) < 0)
            return -ERR_INVALID;
    }
    *out = ids;
    *out_count = count;
    return copy_ids(ids, count, arena, err);
}

static int read_user(struct rank_request *request, const json_t *value, struct arena *arena, struct err *err)
{
    if (expect(value, json_is_string(value), "a string", "user", err) < 0)
        return -ERR_INVALID;
    struct store_id *user = arena_array(arena, 1, sizeof *user);
    if (!user)
        return no_memory(err);
    *user = borrow(value);
    if (check_id(user, "user", SIZE_MAX, err) < 0)
        return -ERR_INVALID;
    request->users = user;
    request->user_count = 1;
    return copy_ids(user, 1, arena, err);
}

static int read_users(struct rank_request *request, const json_t *value, struct arena *arena,
    const struct rank_limits *limits, struct err *err)
{
    request->several = true;
    const int code =
        read_list(&request->users, &request->user_count, value, "users", limits->users_max, arena, err);
    if (code == 0 && request->user_count == 0)
        return err_set(err, ERR_INVALID, "users: at least one is expected");
    return code;
}

static int read_top_k(struct rank_request *request, const json_t *value, struct err *err)
{
    if (expect(value, json_is_integer(value) || json_is_real(value), "a whole number", "top_k", err) < 0)
        return -ERR_INVALID;
    if (!json_is_integer(value) || json_integer_value(value) < 1)
        return err_set(err, ERR_INVALID, "top_k: a whole number of at least 1 is expected");
    request->top_k = (size_t)json_integer_value(value);
    return 0;
}

static int read_key(struct rank_request *request, const char *key, const json_t *value, struct arena *arena,
    const struct rank_limits *limits, struct err *err)
{
    if (strcmp(key, "user") == 0 || strcmp(key, "users") == 0) {
        if (request->users)
            return err_set(err, ERR_INVALID, "user and users exclude each other");
        return key[4] ? read_users(request, value, arena, limits, err)
                      : read_user(request, value, arena, err);
    }
    if (strcmp(key, "candidates") == 0)
        return read_list(&request->candidates, &request->candidate_count, value, "candidates",
            limits->candidates_max, arena, err);
    if (strcmp(key, "top_k") == 0)
        return read_top_k(request, value, err);
    if (strcmp(key, "explain") == 0) {
        request->explain = json_is_true(value);
        return expect(value, json_is_boolean(value), "true or false", "explain", err);
    }
    return err_set(err, ERR_INVALID, "\"%.64s\" is not a key of this request", key);
}

int rank_request_parse_json(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *body, size_t len, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "the body is empty; a JSON object is expected");
    json_error_t where;
    /* NUL is let in so that id_check can name the place of an id that holds one. */
    json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root)
        return err_set(err, ERR_INVALID, "the body is not valid JSON: line %d, column %d: %s", where.line,
            where.column, where.text);
    struct rank_request request = {0};
    int code = 0;
    if (!json_is_object(root))
        code = err_set(err, ERR_INVALID, "the body: an object is expected, not %s", type_name(root));
    for (void *at = json_object_iter(root); code == 0 && at; at = json_object_iter_next(root, at))
        code = read_key(&request, json_object_iter_key(at), json_object_iter_value(at), arena, limits, err);
    if (code == 0)
        code = check_whole(&request, arena, limits, err);
    json_decref(root);
    if (code == 0)
        *out = request;
    return code;
}

/* ---- query ---- */

static int decode_id(struct store_id *out, const char *text, size_t len, const char *list, size_t index,
    struct arena *arena, struct err *err)
{
    char *id = arena_alloc(arena, len + 1);
    if (!id)
        return no_memory(err);
    const ptrdiff_t decoded = http_percent_decode(id, text, len);
    if (decoded < 0)
        return err_set(err, ERR_INVALID, "%s: a %% is not followed by two hexadecimal digits", list);
    *out = (struct store_id){id, (size_t)decoded};
    return check_id(out, list, index, err);
}

/* Candidates are separated by commas; a comma inside an id is written %2C. */
static int decode_candidates(struct rank_request *request, const char *text, size_t len, struct arena *arena,
    const struct rank_limits *limits, struct err *err)
{
    size_t count = 1;
    for (size_t i = 0; i < len; i++)
        count += text[i] == ',';
    if (check_count("candidates", count, limits->candidates_max, err) < 0)
        return -ERR_INVALID;
    request->candidates = arena_array(arena, count, sizeof *request->candidates);
    if (!request->candidates)
        return no_memory(err);
    request->candidate_count = count;
    const char *const end = text + len;
    for (size_t i = 0; i < count; i++) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const size_t id_len = (size_t)((comma ? comma : end) - text);
        const int code = decode_id(&request->candidates[i], text, id_len, "candidates", i, arena, err);
        if (code < 0)
            return code;
        text += id_len + 1;
    }
    return 0;
}

static int decode_top_k(struct rank_request *request, const char *text, size_t len, struct err *err)
{
    size_t value = 0;
    bool digits = len > 0 && len <= 9;
    for (size_t i = 0; i < len && digits; i++) {
        digits = text[i] >= '0' && text[i] <= '9';
        value = 10 * value + (size_t)(text[i] - '0');
    }
    if (!digits || value == 0)
        return err_set(err, ERR_INVALID, "top_k: a whole number of at least 1 is expected");
    request->top_k = value;
    return 0;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static int decode_explain(struct rank_request *request, const char *text, size_t len, struct err *err)
{
    request->explain = is_word(text, len, "true");
    if (request->explain || is_word(text, len, "false"))
        return 0;
    return err_set(err, ERR_INVALID, "explain: true or false is expected");
}

enum { PARAMETER_USER, PARAMETER_CANDIDATES, PARAMETER_TOP_K, PARAMETER_EXPLAIN, PARAMETERS };

static int decode_parameter(struct rank_request *request, unsigned which, const char *value, size_t len,
    struct arena *arena, const struct rank_limits *limits, struct err *err)
{
    switch (which) {
    case PARAMETER_USER:
        request->users = arena_array(arena, 1, sizeof *request->users);
        if (!request->users)
            return no_memory(err);
        request->user_count = 1;
        return decode_id(request->users, value, len, "user", SIZE_MAX, arena, err);
    case PARAMETER_CANDIDATES:
        return decode_candidates(request, value, len, arena, limits, err);
    case PARAMETER_TOP_K:
        return decode_top_k(request, value, len, err);
    default:
        return decode_explain(request, value, len, err);
    }
}

int rank_request_parse_query(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *query, struct err *err)
{
    static const char *const names[PARAMETERS] = {"user", "candidates", "top_k", "explain"};
    struct rank_request request = {0};
    bool seen[PARAMETERS] = {false};
    for (const char *at = query ? query : ""; *at;) {
        const size_t len = strcspn(at, "&"), name_len = strcspn(at, "=&");
        unsigned which = 0;
        while (which < PARAMETERS && !is_word(at, name_len, names[which]))
            which++;
        if (which == PARAMETERS)
            return err_set(err, ERR_INVALID, "\"%.*s\" is not a parameter of this request",
                (int)(name_len < 64 ? name_len : 64), at);
        if (seen[which])
            return err_set(err, ERR_INVALID, "%s is given twice", names[which]);
        seen[which] = true;
        const char *value = at + name_len + (name_len < len);
        const int code =
            decode_parameter(&request, which, value, (size_t)(at + len - value), arena, limits, err);
        if (code < 0)
            return code;
        at += len + (at[len] == '&');
    }
    const int code = check_whole(&request, arena, limits, err);
    if (code == 0)
        *out = request;
    return code;
}
