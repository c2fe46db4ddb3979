/* The body is read in place, front to back, and nothing is built of it but the request: a tree of it costs
 * thirty times as much. What the shape of a request does not allow is refused where it begins, so that nothing
 * is ever nested and no recursion is needed; a body that is refused need not be JSON behind that place.
 *
 * What is accepted is JSON by RFC 8259, with the keys of an object told apart after their escapes. */
#include "core/id.h"
#include "server/rank_request_int.h"

#include <string.h>

struct reader {
    const char *at, *end, *body;
    struct arena *arena;
    const struct rank_limits *limits;
    struct err *err;
    unsigned seen; /* keys, one bit each */
};

/* The place is counted only when it is wanted: lines, and characters in the line, both from 1. */
static int syntax(const struct reader *r, const char *at, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *p = r->body; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else {
            column += ((unsigned char)*p & 0xC0) != 0x80;
        }
    }
    return err_set(r->err, ERR_INVALID, "the body is not valid JSON: line %zu, column %zu: %s%s", line,
        column, what, at == r->end ? ", but the body ends" : "");
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

/* Pass the character if it comes next. */
static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* ---- values of any type ---- */

static bool take_digits(struct reader *r)
{
    const char *const start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start;
}

/* RFC 8259, section 6; *whole: neither fraction nor exponent. */
static bool take_number(struct reader *r, bool *whole)
{
    *whole = true;
    take(r, '-');
    if (!take(r, '0') && !take_digits(r))
        return false;
    if (take(r, '.')) {
        *whole = false;
        if (!take_digits(r))
            return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        *whole = false;
        if (!take(r, '+'))
            take(r, '-');
        return take_digits(r);
    }
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    const size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

/* The type of the value that begins here, for a message; NULL if none does. */
static const char *type_name(struct reader *r)
{
    bool whole;
    switch (r->at < r->end ? *r->at : '\0') {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    case 't':
        return take_word(r, "true") ? "a boolean" : NULL;
    case 'f':
        return take_word(r, "false") ? "a boolean" : NULL;
    case 'n':
        return take_word(r, "null") ? "null" : NULL;
    default:
        return take_number(r, &whole) ? "a number" : NULL;
    }
}

/* What stands here is not what is wanted: another value, or none at all. index is SIZE_MAX outside lists. */
static int refuse(struct reader *r, const char *wanted, const char *key, size_t index)
{
    const char *type = type_name(r);
    if (!type)
        return syntax(r, r->at, "a value is expected");
    if (index == SIZE_MAX)
        return err_set(r->err, ERR_INVALID, "%s: %s is expected, not %s", key, wanted, type);
    return err_set(r->err, ERR_INVALID, "%s[%zu]: %s is expected, not %s", key, index, wanted, type);
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The value of the \uXXXX at text, -1 if there is none. */
static long unicode_escape(const char *text, const char *end)
{
    if (end - text < 6 || text[0] != '\\' || text[1] != 'u')
        return -1;
    long value = 0;
    for (int i = 2; i < 6; i++) {
        const int digit = hex_digit(text[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *to, unsigned long code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xE0 | code >> 12);
        } else {
            *to++ = (char)(0xF0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (char)(0x80 | (code & 0x3F));
    return to;
}

/* Decode the escape at *from and pass it; NULL if it is none. Two halves of a pair are one character, one half is
 * none. Never writes more than it passes. */
static char *put_escape(char *to, const char **from, const char *end)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *at = *from;
    const long code = unicode_escape(at, end);
    if (code >= 0) {
        *from = at + 6;
        if (code < 0xD800 || code > 0xDFFF)
            return put_utf8(to, (unsigned long)code);
        const long low = code < 0xDC00 ? unicode_escape(at + 6, end) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        *from = at + 12;
        return put_utf8(
            to, 0x10000ul + ((unsigned long)(code - 0xD800) << 10) + (unsigned long)(low - 0xDC00));
    }
    const char *letter = at[1] ? strchr(letters, at[1]) : NULL;
    if (!letter)
        return NULL;
    *from = at + 2;
    *to++ = meant[letter - letters];
    return to;
}

/* text[0..len) is what stood between the quotes: every backslash has a byte behind it. */
static int decode(struct reader *r, struct store_id *out, const char *text, size_t len)
{
    char *const bytes = arena_alloc(r->arena, len), *to = bytes;
    if (!bytes)
        return rank_request_no_memory(r->err);
    for (const char *from = text, *const end = text + len; from < end;) {
        const char *escape = memchr(from, '\\', (size_t)(end - from));
        const size_t plain = (size_t)((escape ? escape : end) - from);
        memcpy(to, from, plain);
        to += plain;
        from += plain;
        if (!escape)
            break;
        to = put_escape(to, &from, end);
        if (!to)
            return syntax(r, escape, "an escape is expected that JSON knows, surrogates in pairs");
    }
    *out = (struct store_id){bytes, (size_t)(to - bytes)};
    return 0;
}

/* The string that begins at its quote: a piece of the body, or in the arena if it holds escapes. */
static int read_string(struct reader *r, struct store_id *out)
{
    const char *const start = ++r->at;
    bool ascii = true, escaped = false;
    for (;;) {
        r->at += id_plain_span(r->at, (size_t)(r->end - r->at));
        if (r->at == r->end)
            return syntax(r, r->at, "a closing quote is expected");
        const unsigned char c = (unsigned char)*r->at;
        if (c == '"')
            break;
        if (c < ' ')
            return syntax(r, r->at, "a control character must be escaped");
        ascii &= c < 0x80;
        escaped |= c == '\\';
        r->at += c == '\\' && r->end - r->at > 1 ? 2 : 1;
    }
    const size_t len = (size_t)(r->at - start);
    if (!ascii && !utf8_valid(start, len))
        return syntax(r, start, "a string is not valid UTF-8");
    r->at++;
    *out = (struct store_id){start, len};
    return escaped ? decode(r, out, start, len) : 0;
}

/* ---- the values of a request ---- */

static int read_id(struct reader *r, struct store_id *out, const char *list, size_t index)
{
    /* Nearly all ids: nothing but plain bytes, which need no second look. */
    const char *const start = r->at + 1;
    const size_t plain = id_plain_span(start, (size_t)(r->end - start));
    if (plain - 1 < ID_MAX && start + plain < r->end && start[plain] == '"') {
        *out = (struct store_id){start, plain};
        r->at = start + plain + 1;
        return 0;
    }
    const int code = read_string(r, out);
    return code < 0 ? code : rank_request_check_id(out, list, index, r->err);
}

/* A list's ids: room for more is made as they come. */
struct ids {
    struct store_id *ids;
    size_t count, room;
};

static bool grow(struct ids *list, size_t room, struct arena *arena)
{
    struct store_id *ids = arena_array(arena, room, sizeof *ids);
    if (!ids)
        return false;
    if (list->count)
        memcpy(ids, list->ids, list->count * sizeof *ids);
    list->ids = ids;
    list->room = room;
    return true;
}

/* Those beyond max are counted for the message, and forgotten. */
static int read_items(struct reader *r, struct ids *list, const char *key, size_t max)
{
    struct store_id id;
    do {
        skip_space(r);
        if (r->at == r->end || *r->at != '"')
            return refuse(r, "a string", key, list->count);
        const int code = read_id(r, &id, key, list->count);
        if (code < 0)
            return code;
        if (list->count == list->room && list->count < max && !grow(list, 2 * list->room, r->arena))
            return rank_request_no_memory(r->err);
        if (list->count < list->room)
            list->ids[list->count] = id;
        list->count++;
        skip_space(r);
    } while (take(r, ','));
    return take(r, ']') ? 0 : syntax(r, r->at, "a comma or a closing bracket is expected");
}

static int read_list(struct reader *r, struct store_id **out, size_t *out_count, const char *key, size_t max)
{
    if (!take(r, '['))
        return refuse(r, "an array of strings", key, SIZE_MAX);
    /* Ids of five bytes, say, and their quotes and comma fill what is left of the body. */
    struct ids list = {0};
    if (!grow(&list, (size_t)(r->end - r->at) / 8 + 1, r->arena))
        return rank_request_no_memory(r->err);
    skip_space(r);
    const int code = take(r, ']') ? 0 : read_items(r, &list, key, max);
    if (code < 0)
        return code;
    if (rank_request_check_count(key, list.count, max, r->err) < 0)
        return -ERR_INVALID;
    *out = list.ids;
    *out_count = list.count;
    return 0;
}

static int read_user(struct reader *r, struct rank_request *request)
{
    if (r->at == r->end || *r->at != '"')
        return refuse(r, "a string", "user", SIZE_MAX);
    struct store_id *user = arena_array(r->arena, 1, sizeof *user);
    if (!user)
        return rank_request_no_memory(r->err);
    request->users = user;
    request->user_count = 1;
    return read_id(r, user, "user", SIZE_MAX);
}

static int read_users(struct reader *r, struct rank_request *request)
{
    request->several = true;
    const int code = read_list(r, &request->users, &request->user_count, "users", r->limits->users_max);
    if (code == 0 && request->user_count == 0)
        return err_set(r->err, ERR_INVALID, "users: at least one is expected");
    return code;
}

static int read_category(struct reader *r, struct rank_request *request)
{
    if (r->at == r->end || *r->at != '"')
        return refuse(r, "a string", "category", SIZE_MAX);
    const int code = read_string(r, &request->category);
    return code < 0 ? code : rank_request_check_category(&request->category, r->err);
}

static int read_top_k(struct reader *r, struct rank_request *request)
{
    const char *const start = r->at;
    bool whole;
    if (start == r->end || (*start != '-' && (*start < '0' || *start > '9')))
        return refuse(r, "a whole number", "top_k", SIZE_MAX);
    if (!take_number(r, &whole))
        return syntax(r, r->at, "a digit is expected");
    if (!whole || *start == '-' || *start == '0')
        return err_set(r->err, ERR_INVALID, "top_k: a whole number of at least 1 is expected");
    int64_t value = 0;
    for (const char *digit = start; digit < r->at; digit++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *digit - '0', &value))
            return err_set(r->err, ERR_INVALID, "top_k: a whole number of at most %lld is expected",
                (long long)INT64_MAX);
    request->top_k = (size_t)value;
    return 0;
}

static int read_bool(struct reader *r, bool *out, const char *key)
{
    *out = take_word(r, "true");
    return *out || take_word(r, "false") ? 0 : refuse(r, "true or false", key, SIZE_MAX);
}

/* ---- the object ---- */

enum {
    KEY_USER,
    KEY_USERS,
    KEY_CANDIDATES,
    KEY_CATEGORY,
    KEY_EXCLUDE,
    KEY_TOP_K,
    KEY_EXPLAIN,
    KEY_TITLES,
    KEYS
};

static int read_value(struct reader *r, struct rank_request *request, unsigned key)
{
    switch (key) {
    case KEY_USER:
        return read_user(r, request);
    case KEY_USERS:
        return read_users(r, request);
    case KEY_CANDIDATES:
        return read_list(
            r, &request->candidates, &request->candidate_count, "candidates", r->limits->candidates_max);
    case KEY_CATEGORY:
        return read_category(r, request);
    case KEY_EXCLUDE:
        return read_list(r, &request->exclude, &request->exclude_count, "exclude", r->limits->candidates_max);
    case KEY_TOP_K:
        return read_top_k(r, request);
    case KEY_EXPLAIN:
        return read_bool(r, &request->explain, "explain");
    default:
        return read_bool(r, &request->titles, "titles");
    }
}

static int read_member(struct reader *r, struct rank_request *request)
{
    static const char *const names[KEYS] = {
        "user", "users", "candidates", "category", "exclude", "top_k", "explain", "titles"};
    struct store_id name;
    const char *const start = r->at;
    if (start == r->end || *start != '"')
        return syntax(r, start, "a key in quotes is expected");
    const int code = read_string(r, &name);
    if (code < 0)
        return code;
    unsigned key = 0;
    while (key < KEYS && (name.len != strlen(names[key]) || memcmp(name.id, names[key], name.len) != 0))
        key++;
    if (key < KEYS && r->seen & 1u << key)
        return syntax(r, start, "a key is given twice");
    skip_space(r);
    if (!take(r, ':'))
        return syntax(r, r->at, "a colon is expected");
    if (key == KEYS)
        return err_set(r->err, ERR_INVALID, "\"%.*s\" is not a key of this request",
            (int)(name.len < 64 ? name.len : 64), name.id);
    r->seen |= 1u << key;
    if ((key == KEY_USER || key == KEY_USERS) && request->users)
        return err_set(r->err, ERR_INVALID, "user and users exclude each other");
    skip_space(r);
    return read_value(r, request, key);
}

static int read_object(struct reader *r, struct rank_request *request)
{
    skip_space(r);
    if (!take(r, '{'))
        return refuse(r, "an object", "the body", SIZE_MAX);
    skip_space(r);
    if (!take(r, '}')) {
        do {
            skip_space(r);
            const int code = read_member(r, request);
            if (code < 0)
                return code;
            skip_space(r);
        } while (take(r, ','));
        if (!take(r, '}'))
            return syntax(r, r->at, "a comma or a closing brace is expected");
    }
    skip_space(r);
    return r->at == r->end ? 0 : syntax(r, r->at, "the end of the body is expected");
}

int rank_request_parse_json(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *body, size_t len, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "the body is empty; a JSON object is expected");
    struct reader reader = {
        .at = body, .end = body + len, .body = body, .arena = arena, .limits = limits, .err = err};
    struct rank_request request = {0};
    int code = read_object(&reader, &request);
    if (code == 0)
        code = rank_request_finish(&request, arena, limits, err);
    if (code == 0)
        *out = request;
    return code;
}
