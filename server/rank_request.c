#include "server/rank_request.h"

#include "core/id.h"
#include "server/hot.h"
#include "server/http_message.h"
#include "server/rank_request_int.h"

#include <string.h>

/* ---- what both forms share ---- */

int rank_request_no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the request");
}

int rank_request_check_id(const struct store_id *id, const char *list, size_t index, struct err *err)
{
    const int code = id_check(id->id, id->len, err);
    if (code < 0 && index == SIZE_MAX)
        return err_place(err, "%s: ", list);
    return code < 0 ? err_place(err, "%s[%zu]: ", list, index) : 0;
}

int rank_request_check_category(const struct store_id *category, struct err *err)
{
    const int code = category_check(category->id, category->len, err);
    return code < 0 ? err_place(err, "category: ") : 0;
}

int rank_request_check_count(const char *list, size_t count, size_t max, struct err *err)
{
    if (count <= max)
        return 0;
    return err_set(err, ERR_INVALID, "%s: %zu are given; at most %zu are allowed", list, count, max);
}

/* Leave out the ids that stood there before, keep the order, and hash what is kept. */
static int drop_repeated(
    struct store_id *ids, uint64_t **out_hashes, size_t *count, struct arena *arena, struct err *err)
{
    size_t slots = 4, kept = 0;
    while (slots < 3 * *count) /* at most a third full: a slot in use is a jump that nobody foresaw */
        slots *= 2;
    uint32_t *index = arena_array(arena, slots, sizeof *index); /* position + 1, or 0 */
    uint64_t *hashes = arena_array(arena, *count, sizeof *hashes);
    if (!index || !hashes)
        return rank_request_no_memory(err);
    for (size_t i = 0; i < *count; i++) {
        const struct store_id id = ids[i];
        const uint64_t hash = hot_hash(id.id, id.len);
        size_t at = (size_t)hash & (slots - 1);
        for (; index[at]; at = (at + 1) & (slots - 1)) {
            const size_t other = index[at] - 1;
            if (hashes[other] == hash && ids[other].len == id.len &&
                memcmp(ids[other].id, id.id, id.len) == 0)
                break;
        }
        if (index[at])
            continue;
        ids[kept] = id;
        hashes[kept++] = hash;
        index[at] = (uint32_t)kept;
    }
    *out_hashes = hashes;
    *count = kept;
    return 0;
}

static int check_catalogue(
    const struct rank_request *request, const struct rank_limits *limits, struct err *err)
{
    if (!request->whole_catalogue && request->category.len)
        return err_set(err, ERR_INVALID, "category: allowed only where no candidates are given");
    if (!request->whole_catalogue && request->exclude)
        return err_set(err, ERR_INVALID, "exclude: allowed only where no candidates are given");
    if (request->whole_catalogue && !request->top_k)
        return err_set(err, ERR_INVALID, "top_k is required where no candidates are given");
    if (request->whole_catalogue && request->top_k > limits->candidates_max)
        return err_set(
            err, ERR_INVALID, "top_k: at most %zu where no candidates are given", limits->candidates_max);
    return 0;
}

int rank_request_finish(
    struct rank_request *request, struct arena *arena, const struct rank_limits *limits, struct err *err)
{
    if (!request->users)
        return err_set(err, ERR_INVALID, "user is missing");
    request->whole_catalogue = !request->candidates;
    int code = check_catalogue(request, limits, err);
    if (code == 0)
        code = drop_repeated(request->users, &request->user_hashes, &request->user_count, arena, err);
    if (code == 0 && request->candidates)
        code = drop_repeated(request->candidates, &request->hashes, &request->candidate_count, arena, err);
    if (code == 0 && request->exclude)
        code = drop_repeated(request->exclude, &request->exclude_hashes, &request->exclude_count, arena, err);
    return code;
}

/* ---- query ---- */

static int decode_text(
    struct store_id *out, const char *text, size_t len, const char *key, struct arena *arena, struct err *err)
{
    char *bytes = arena_alloc(arena, len + 1);
    if (!bytes)
        return rank_request_no_memory(err);
    const ptrdiff_t decoded = http_percent_decode(bytes, text, len);
    if (decoded < 0)
        return err_set(err, ERR_INVALID, "%s: a %% is not followed by two hexadecimal digits", key);
    *out = (struct store_id){bytes, (size_t)decoded};
    return 0;
}

static int decode_id(struct store_id *out, const char *text, size_t len, const char *list, size_t index,
    struct arena *arena, struct err *err)
{
    const int code = decode_text(out, text, len, list, arena, err);
    return code < 0 ? code : rank_request_check_id(out, list, index, err);
}

static int decode_category(
    struct store_id *out, const char *text, size_t len, struct arena *arena, struct err *err)
{
    const int code = decode_text(out, text, len, "category", arena, err);
    return code < 0 ? code : rank_request_check_category(out, err);
}

/* Ids are separated by commas; a comma inside an id is written %2C. */
static int decode_list(struct store_id **out, size_t *out_count, const char *text, size_t len,
    const char *list, size_t max, struct arena *arena, struct err *err)
{
    size_t count = 1;
    for (size_t i = 0; i < len; i++)
        count += text[i] == ',';
    if (rank_request_check_count(list, count, max, err) < 0)
        return -ERR_INVALID;
    struct store_id *ids = arena_array(arena, count, sizeof *ids);
    if (!ids)
        return rank_request_no_memory(err);
    const char *const end = text + len;
    for (size_t i = 0; i < count; i++) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const size_t id_len = (size_t)((comma ? comma : end) - text);
        const int code = decode_id(&ids[i], text, id_len, list, i, arena, err);
        if (code < 0)
            return code;
        text += id_len + 1;
    }
    *out = ids;
    *out_count = count;
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

static int decode_bool(bool *out, const char *text, size_t len, const char *key, struct err *err)
{
    *out = is_word(text, len, "true");
    if (*out || is_word(text, len, "false"))
        return 0;
    return err_set(err, ERR_INVALID, "%s: true or false is expected", key);
}

enum {
    PARAMETER_USER,
    PARAMETER_CANDIDATES,
    PARAMETER_CATEGORY,
    PARAMETER_EXCLUDE,
    PARAMETER_TOP_K,
    PARAMETER_EXPLAIN,
    PARAMETER_TITLES,
    PARAMETERS
};

static int decode_parameter(struct rank_request *request, unsigned which, const char *value, size_t len,
    struct arena *arena, const struct rank_limits *limits, struct err *err)
{
    switch (which) {
    case PARAMETER_USER:
        request->users = arena_array(arena, 1, sizeof *request->users);
        if (!request->users)
            return rank_request_no_memory(err);
        request->user_count = 1;
        return decode_id(request->users, value, len, "user", SIZE_MAX, arena, err);
    case PARAMETER_CANDIDATES:
        return decode_list(&request->candidates, &request->candidate_count, value, len, "candidates",
            limits->candidates_max, arena, err);
    case PARAMETER_CATEGORY:
        return decode_category(&request->category, value, len, arena, err);
    case PARAMETER_EXCLUDE:
        return decode_list(&request->exclude, &request->exclude_count, value, len, "exclude",
            limits->candidates_max, arena, err);
    case PARAMETER_TOP_K:
        return decode_top_k(request, value, len, err);
    case PARAMETER_EXPLAIN:
        return decode_bool(&request->explain, value, len, "explain", err);
    default:
        return decode_bool(&request->titles, value, len, "titles", err);
    }
}

int rank_request_parse_query(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *query, struct err *err)
{
    static const char *const names[PARAMETERS] = {
        "user", "candidates", "category", "exclude", "top_k", "explain", "titles"};
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
    const int code = rank_request_finish(&request, arena, limits, err);
    if (code == 0)
        *out = request;
    return code;
}
