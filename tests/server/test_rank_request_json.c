/* A million bodies, good ones and damaged ones, to the parser and to a judge that has jansson read them: the verdict is
 * the same, and so is the meaning. EMBSUM_LONG=1 makes it twenty million. */
#include "server/rank_request.h"
#include "tests/lib/rank_judge.h"
#include "tests/lib/scratch.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BODIES = 1000000, BODY_MAX = 8192, PAGES = 2 * 65536 };

static const struct rank_limits limits = {.candidates_max = 6, .users_max = 4};

/* ---- drawing ---- */

struct draw {
    uint64_t x;
    char text[BODY_MAX];
    size_t len;
};

static unsigned below(struct draw *draw, unsigned bound)
{
    draw->x = draw->x * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((draw->x >> 33) % bound);
}

static void put(struct draw *draw, const char *text, size_t len)
{
    if (len <= sizeof draw->text - draw->len) {
        memcpy(draw->text + draw->len, text, len);
        draw->len += len;
    }
}

static void put_text(struct draw *draw, const char *text)
{
    put(draw, text, strlen(text));
}

/* One of a table's texts; once in `rare` draws any of them, else one of the first `common`. */
#define PICK(draw, table, common, rare)                                                                      \
    (table)[below(draw, rare) ? below(draw, common)                                                          \
                              : below(draw, (unsigned)(sizeof(table) / sizeof *(table)))]

static void put_space(struct draw *draw)
{
    static const char *const spaces[] = {"", " ", "\n", "\t\r\n  ", "\v", "\f", "\xC2\xA0", "/**/"};
    put_text(draw, PICK(draw, spaces, below(draw, 4) ? 1 : 4, 400));
}

static void put_string(struct draw *draw)
{
    static const char *const pieces[] = {"a", "b", "N1", "N12345", "\\u0061", "\\\"", "\\\\", "\\/",
        "\xC3\xBC", "\\u00fC", "\xE6\x96\xB0", "\\uD83D\\uDE00", "\xF0\x9F\x98\x80", "a-text-of-sixteen",
        "\\uffff",
        /* no ids, or no JSON */
        " ", "\\n", "\\t", "\\u0000", "\\u001f", "\\u007f", "\x7F", "\\b\\f\\r", "\\ud800", "\\udc00",
        "\\ud800\\ud800", "\\ud800x", "\\udbff\\udfff", "\\ud800\\u0061", "\\uD83D\\", "\\u12", "\\u12g4",
        "\\U0061", "\\x", "\\", "\\\xC3\xBC", "\n", "\x01", "\x1F", "\xFF", "\xC0\x80", "\xED\xA0\x80",
        "\xE6\x96", "\x80", "\xF4\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\xEF\xBF\xBF", "\"", "\"\"", "'"};
    put_text(draw, "\"");
    for (unsigned count = below(draw, 40) ? 1 + below(draw, 3) : below(draw, 2) * 300; count > 0; count--)
        put_text(draw, PICK(draw, pieces, below(draw, 3) ? 4 : 15, 60));
    put_text(draw, "\"");
}

static void put_number(struct draw *draw)
{
    static const char *const numbers[] = {"1", "2", "3", "6", "5", "7", "10", "9223372036854775807",
        "9223372036854775808", "18446744073709551617", "-1", "-0", "0", "00", "01", "1.0", "1e2", "1E+2",
        "1e-2", "1.", ".5", "1e", "1e+", "-", "+1", "1e999", "-1e999", "1e-999", "0x10", "1_0", "1.5e3x",
        "Infinity", "NaN", "0.1", "0e1", "-9223372036854775808", "-9223372036854775809", "1\xC2\xA0"};
    put_text(draw, PICK(draw, numbers, 4, 6));
}

/* Anything but what is asked for. */
static void put_other(struct draw *draw)
{
    static const char *const values[] = {"null", "true", "false", "{}", "[]", "\"a\"", "1", "-1.5e3", "[[]]",
        "{\"a\":{}}", "nul", "True", "truefalse", "nulls", "", "{\"a\":1,\"a\":2}", "[1,]", "[\"a\":1]",
        "{\"a\"}"};
    if (below(draw, 50)) {
        put_text(draw, values[below(draw, sizeof values / sizeof *values)]);
        return;
    }
    const unsigned depth = below(draw, 2500); /* jansson's limit is 2048 */
    for (unsigned i = 0; i < depth; i++)
        put_text(draw, "[");
    for (unsigned i = 0; i < depth; i++)
        put_text(draw, "]");
}

static void put_list(struct draw *draw, unsigned most)
{
    put_text(draw, "[");
    put_space(draw);
    const unsigned count = below(draw, 30) ? below(draw, most + 1) : below(draw, 2 * most);
    for (unsigned i = 0; i < count; i++) {
        if (i)
            put_text(draw, below(draw, 500) ? "," : ",,");
        put_space(draw);
        if (below(draw, 200))
            put_string(draw);
        else
            put_other(draw);
        put_space(draw);
    }
    put_text(draw, below(draw, 500) ? "]" : ",]");
}

static void put_member(struct draw *draw, const char *key)
{
    /* Any letter of a key may be an escape. */
    char name[64] = "\"";
    for (const char *c = key; *c; c++) {
        const size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, below(draw, 200) ? "%c" : "\\u%04x", *c);
    }
    put_text(draw, name);
    put_text(draw, "\"");
    put_space(draw);
    put_text(draw, below(draw, 1000) ? ":" : "=");
    put_space(draw);
    if (!below(draw, 60))
        put_other(draw);
    else if (strcmp(key, "user") == 0 || strcmp(key, "category") == 0)
        put_string(draw);
    else if (strcmp(key, "top_k") == 0)
        put_number(draw);
    else if (strcmp(key, "explain") == 0 || strcmp(key, "titles") == 0)
        put_text(draw, below(draw, 2) ? "true" : "false");
    else
        put_list(draw, strcmp(key, "users") == 0 ? 4 : 6);
}

/* A request that is good if nothing bad was drawn. */
static void put_body(struct draw *draw)
{
    static const char *const odd[] = {"user", "users", "candidates", "top_k", "explain", "titles", "category",
        "exclude", "a", "", "User", "topk"};
    const char *keys[10];
    size_t count = 0;
    keys[count++] = below(draw, 3) ? "user" : "users";
    const bool catalogue = !below(draw, 3);
    keys[count++] = catalogue ? "top_k" : "candidates";
    if (below(draw, 3) == 0)
        keys[count++] = "explain";
    if (below(draw, 3) == 0)
        keys[count++] = "titles";
    if (below(draw, 3) == 0)
        keys[count++] = catalogue ? "category" : "top_k";
    if (catalogue && below(draw, 2))
        keys[count++] = "exclude";
    if (!below(draw, 12))
        keys[count++] = odd[below(draw, sizeof odd / sizeof *odd)];
    if (!below(draw, 30))
        count--;
    draw->len = 0;
    put_space(draw);
    put_text(draw, "{");
    for (size_t left = count; left > 0; left--) {
        put_space(draw);
        const size_t which = below(draw, (unsigned)left);
        put_member(draw, keys[which]);
        keys[which] = keys[left - 1];
        put_space(draw);
        put_text(draw, left == 1 ? "" : ",");
    }
    put_text(draw, below(draw, 200) ? "}" : ",}");
    put_space(draw);
}

/* Bytes flipped, put in, taken out, moved, and the end cut off. */
static void damage(struct draw *draw)
{
    static const char likely[] = "\"\\{}[]:,0123456789eE+-.tfnu \n\t\x00\x1F\x7F\x80\xBF\xC0\xE0\xED\xF0\xFF";
    for (unsigned times = 1 + below(draw, 3); times > 0 && draw->len > 0; times--) {
        const size_t at = below(draw, (unsigned)draw->len), left = draw->len - at;
        char *to = draw->text + at;
        switch (below(draw, 6)) {
        case 0:
            *to = (char)(*to ^ 1 << below(draw, 8));
            break;
        case 1:
            *to = likely[below(draw, sizeof likely - 1)];
            break;
        case 2:
            if (draw->len < sizeof draw->text) {
                memmove(to + 1, to, left);
                *to = likely[below(draw, sizeof likely - 1)];
                draw->len++;
            }
            break;
        case 3:
            memmove(to, to + 1, left - 1);
            draw->len--;
            break;
        case 4:
            put(draw, to, left < 30 ? left : 30);
            break;
        default:
            if (!below(draw, 4))
                draw->len = at;
        }
    }
}

/* ---- comparing ---- */

static void show(const char *what, const char *body, size_t len)
{
    printf("%s:\n", what);
    for (size_t i = 0; i < len; i++)
        printf(body[i] >= ' ' && body[i] != 0x7F ? "%c" : "<%02x>", (unsigned char)body[i]);
    printf("\n");
    fail();
}

struct sides {
    char *end; /* of the readable page: a byte read behind a body ends the test */
    struct arena arena, judge_arena;
    size_t accepted, refused;
};

static struct sides sides_make(void)
{
    char *pages = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + PAGES / 2, PAGES / 2, PROT_NONE), 0);
    return (struct sides){.end = pages + PAGES / 2};
}

static void sides_done(struct sides *sides)
{
    munmap(sides->end - PAGES / 2, PAGES);
    arena_done(&sides->arena);
    arena_done(&sides->judge_arena);
}

static void compare(struct sides *sides, const char *text, size_t len)
{
    char *body = sides->end - len;
    memcpy(body, text, len);
    struct err err = ERR_INIT;
    struct rank_request request, untouched, right;
    memset(&request, 0x5A, sizeof request);
    untouched = request;
    json_t *tree;
    const int code = rank_request_parse_json(&request, &sides->arena, &limits, body, len, &err);
    int verdict = rank_judge_parse(&right, &tree, &sides->judge_arena, &limits, body, len);
    /* No JSON holds a byte 0, but jansson overlooks one behind a number or a word. */
    if (memchr(body, 0, len))
        verdict = -ERR_INVALID;
    if (code != verdict)
        show(code == 0 ? "accepted" : err.message, body, len);
    if (code == 0 && !rank_judge_same(&request, &right))
        show("understood otherwise", body, len);
    if (code < 0 && (!*err.message || memcmp(&request, &untouched, sizeof request) != 0))
        show("refused without a word, or written to", body, len);
    *(code == 0 ? &sides->accepted : &sides->refused) += 1;
    json_decref(tree);
    arena_reset(&sides->arena);
    arena_reset(&sides->judge_arena);
}

static void test_a_million(void **state)
{
    (void)state;
    static struct draw draw = {.x = 20261124};
    printf("seed %llu\n", (unsigned long long)draw.x);
    struct sides sides = sides_make();
    arena_alloc(&sides.arena, 1); /* as a larger body would, outgrow the first chunk */
    assert_non_null(arena_alloc(&sides.arena, 64 * 1024));
    compare(&sides, "{\"user\":\"a\",\"top_k\":1}", 22);
    const struct arena_chunk *const chunks = sides.arena.chunks;
    const size_t bodies = getenv("EMBSUM_LONG") ? 20 * (size_t)BODIES : test_rounds(BODIES);
    for (size_t i = 0; i < bodies; i++) {
        put_body(&draw);
        if (i % 3 == 0)
            damage(&draw);
        compare(&sides, draw.text, draw.len);
        assert_ptr_equal(sides.arena.chunks, chunks); /* warm, it needs no malloc */
    }
    printf("%zu accepted, %zu refused\n", sides.accepted, sides.refused);
    assert_true(sides.accepted > bodies / 4 && sides.refused > bodies / 4);
    sides_done(&sides);
}

/* Each byte of a body with everything in it replaced by each other, left out, and each prefix. */
static void test_each_byte(void **state)
{
    (void)state;
    static const char body[] = "{\"user\":\"\\ud83d\\ude00\", \"top_k\":2 ,\"category\":\"a b\\u0041\",\n"
                               "\"explain\":true,\"exclude\":[\"N1\",\"\xE6\x96\xB0\",\"\xF0\x9F\x98\x80\"]}";
    struct sides sides = sides_make();
    char text[sizeof body];
    for (size_t at = 0; at < sizeof body - 1; at++) {
        for (int c = 0; c < 256; c++) {
            memcpy(text, body, sizeof body);
            text[at] = (char)c;
            compare(&sides, text, sizeof body - 1);
        }
        memcpy(text, body, at);
        compare(&sides, text, at);
        memcpy(text + at, body + at + 1, sizeof body - 1 - at);
        compare(&sides, text, sizeof body - 2);
    }
    printf("%zu accepted, %zu refused\n", sides.accepted, sides.refused);
    sides_done(&sides);
}

/* Thousands of ids, many of them twice, with the limits that a service has. */
static void test_many(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    static const struct rank_limits wide = {.candidates_max = COUNT, .users_max = 4};
    struct arena arena = {0}, judge_arena = {0};
    char *body = malloc(16 * COUNT + 64);
    assert_non_null(body);
    size_t len = (size_t)sprintf(body, "{\"user\":\"U1\",\"candidates\":[");
    for (unsigned i = 0; i < COUNT; i++)
        len += (size_t)sprintf(body + len, "%s\"N%u\"", i ? "," : "", i * 7919 % 6007);
    len += (size_t)sprintf(body + len, "]}");
    struct err err = ERR_INIT;
    struct rank_request request, right;
    json_t *tree;
    assert_int_equal(rank_request_parse_json(&request, &arena, &wide, body, len, &err), 0);
    assert_int_equal(rank_judge_parse(&right, &tree, &judge_arena, &wide, body, len), 0);
    assert_int_equal(request.candidate_count, 6007);
    assert_true(rank_judge_same(&request, &right));
    json_decref(tree);
    free(body);
    arena_done(&arena);
    arena_done(&judge_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_byte),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
