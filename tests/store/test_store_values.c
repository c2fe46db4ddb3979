/* The contract of store/store.h for values and ids, run over every backend. */
#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- values ---- */

static void put_get_many(struct test_store *f, size_t count)
{
    struct err err = ERR_INIT;
    char(*const names)[24] = calloc(2 * count + 1, sizeof *names);
    struct store_entry *const entries = calloc(count + 1, sizeof *entries);
    struct store_id *const ids = calloc(2 * count + 1, sizeof *ids);
    for (size_t i = 0; i < 2 * count; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        ids[i] = id_of(names[i]);
        if (i % 2 == 0)
            entries[i / 2] = (struct store_entry){ids[i], names[i], ids[i].len};
    }
    ok(store_put(f->link, "many", STORE_CONTENT, entries, count, &err));
    struct copies copies =
        get_copies(f->link, "many", STORE_CONTENT, ids, 2 * count); /* every second is missing */
    for (size_t i = 0; i < 2 * count; i++) {
        if (i % 2 == 0)
            assert_string_equal(copies.data[i], names[i]);
        else
            assert_null(copies.data[i]);
    }
    free_copies(&copies);
    free(names);
    free(entries);
    free(ids);
}

static void test_many(void **state)
{
    put_get_many(*state, 0);
    put_get_many(*state, 1);
    put_get_many(*state, 50);
    put_get_many(*state, 125);
    put_get_many(*state, 1000);
}

static void test_kinds_are_apart(void **state)
{
    struct test_store *const f = *state;
    static const enum store_kind kinds[] = {
        STORE_USER, STORE_CONTENT, STORE_SUMMARY, STORE_CATEGORY, STORE_TITLE};
    static const char *const values[] = {"a user", "a content", "a summary", "a category", "a title"};
    for (size_t i = 0; i < 5; i++)
        put_text(f->link, "g1", kinds[i], "X", values[i]);
    put_text(f->link, "g1", STORE_WHY, "u:X", "of a user");
    put_text(f->link, "g1", STORE_WHY, "c:X", "of a content");
    put_text(f->link, "g2", STORE_USER, "X", "of another generation");
    put_text(f->link, "g1", STORE_SCORE_PROJ, "", "W_s");
    put_text(f->link, "g1", STORE_MANIFEST, "", "{}");
    put_text(f->link, "g1", STORE_USER, "", "the default user");
    for (size_t i = 0; i < 5; i++)
        assert_value(f->link, "g1", kinds[i], "X", values[i]);
    assert_value(f->link, "g1", STORE_WHY, "u:X", "of a user");
    assert_value(f->link, "g1", STORE_WHY, "c:X", "of a content");
    assert_int_equal(scan_count(f->link, "g1", STORE_TITLE), 1);
    assert_int_equal(scan_count(f->link, "g1", STORE_WHY), 2);
    assert_value(f->link, "g2", STORE_USER, "X", "of another generation");
    assert_value(f->link, "g1", STORE_SCORE_PROJ, "", "W_s");
    assert_value(f->link, "g1", STORE_MANIFEST, "", "{}");
    assert_value(f->link, "g1", STORE_USER, "", "the default user");
    assert_value(f->link, "g1", STORE_SUMMARY, "", NULL);
    assert_value(f->link, "g3", STORE_USER, "X", NULL);
    assert_value(f->link, "g", STORE_USER, "X", NULL);
}

static void test_overwrite(void **state)
{
    struct test_store *const f = *state;
    put_text(f->link, "g", STORE_USER, "U", "first");
    put_text(f->link, "g", STORE_USER, "U", "the second, longer");
    assert_value(f->link, "g", STORE_USER, "U", "the second, longer");
    put_text(f->link, "g", STORE_USER, "U", "");
    assert_value(f->link, "g", STORE_USER, "U", ""); /* empty is there, not missing */
}

/* Values of every byte, of nothing, of a kilobyte, of megabytes; read together in one call. */
static void test_big_values(void **state)
{
    struct test_store *const f = *state;
    static const size_t sizes[] = {0, 1, 1000, 8256, 65600, 1 << 20, 3000000, 7, 65600, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct store_entry entries[COUNT];
    struct store_id ids[COUNT];
    char names[COUNT][8];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < COUNT; i++) {
        unsigned char *const data = malloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++)
            data[k] = (unsigned char)(k * 31 + i + (k >> 8));
        snprintf(names[i], sizeof names[i], "B%zu", i);
        ids[i] = id_of(names[i]);
        entries[i] = (struct store_entry){ids[i], data, sizes[i]};
    }
    ok(store_put(f->link, "big", STORE_USER, entries, COUNT, &err));
    for (int repeat = 0; repeat < 3; repeat++) {
        struct copies copies = get_copies(f->link, "big", STORE_USER, ids, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(copies.len[i], sizes[i]);
            assert_memory_equal(copies.data[i], entries[i].data, sizes[i]);
        }
        free_copies(&copies);
    }
    for (size_t i = 0; i < COUNT; i++)
        free((void *)(uintptr_t)entries[i].data);
}

static int stop_at_three(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    (void)data;
    (void)len;
    return ++*(int *)ctx == 3 ? 33 : 0;
}

/* A callback's value ends the call and is returned; the link is good for the next call. */
static void test_get_stopped(void **state)
{
    struct test_store *const f = *state;
    put_many(f->link, "many", 500);
    struct store_id ids[500];
    int calls = 0;
    for (size_t i = 0; i < 500; i++)
        ids[i] = id_of("N0");
    struct err err = ERR_INIT;
    assert_int_equal(store_get(f->link, "many", STORE_CONTENT, ids, 500, stop_at_three, &calls, &err), 33);
    assert_int_equal(calls, 3);
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

/* ---- heads ---- */

/* What came for each index: its first bytes, NULL, or nothing yet. */
struct heads {
    char text[1200][16];
    size_t len[1200], calls;
    int stop_at;
};

static int take_head(void *ctx, size_t index, const void *data, size_t len)
{
    struct heads *const heads = ctx;
    assert_true(index < 1200 && len < sizeof *heads->text);
    assert_string_equal(heads->text[index], "not yet");
    snprintf(heads->text[index], sizeof *heads->text, "%.*s", data ? (int)len : 9,
        data ? (const char *)data : "(nothing)");
    heads->len[index] = data ? len : 0;
    return (int)++heads->calls == heads->stop_at ? 55 : 0;
}

static int get_heads(struct heads *heads, struct test_store *f, const struct store_id *ids, size_t count,
    size_t bytes, struct err *err)
{
    for (size_t i = 0; i < 1200; i++)
        strcpy(heads->text[i], "not yet");
    heads->calls = 0;
    return store_get_head(f->link, "many", STORE_CONTENT, ids, count, bytes, take_head, heads, err);
}

static void test_heads(void **state)
{
    struct test_store *const f = *state;
    static struct heads heads;
    static char names[1200][8];
    struct store_id ids[1200];
    struct err err = ERR_INIT;
    put_many(f->link, "many", 1000);
    for (size_t i = 0; i < 1200; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        ids[i] = id_of(names[i]);
    }
    static const size_t counts[] = {1, 2, 1200}, bytes[] = {1, 3, 4, 15, SIZE_MAX};
    for (size_t k = 0; k < 3; k++)
        for (size_t b = 0; b < 5; b++) {
            ok(get_heads(&heads, f, ids, counts[k], bytes[b], &err));
            assert_int_equal(heads.calls, counts[k]);
            for (size_t i = 0; i < counts[k]; i++) {
                char expected[16];
                snprintf(expected, sizeof expected, "%.*s", bytes[b] < 15 ? (int)bytes[b] : 15, names[i]);
                assert_string_equal(heads.text[i], i < 1000 ? expected : "(nothing)");
                assert_int_equal(heads.len[i], i < 1000 ? strlen(expected) : 0);
            }
        }
    assert_int_equal(get_heads(&heads, f, ids, 0, 3, &err), 0);
    assert_int_equal(get_heads(&heads, f, ids, 1, 0, &err), -ERR_INVALID);
    assert_int_equal(heads.calls, 0);
    ids[1199] = id_of("a b");
    assert_int_equal(get_heads(&heads, f, ids, 1200, 3, &err), -ERR_INVALID);
    assert_int_equal(heads.calls, 0);
    heads.stop_at = 300;
    assert_int_equal(get_heads(&heads, f, ids, 1100, 3, &err), 55);
    assert_int_equal(heads.calls, 300);
    heads.stop_at = 0;
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

/* An empty value has no head; a long one, of a long id, has as any other. */
static void test_odd_heads(void **state)
{
    struct test_store *const f = *state;
    static struct heads heads;
    static char longest[ID_MAX + 1];
    struct err err = ERR_INIT;
    char *const big = calloc(1, 3000001);
    assert_non_null(big);
    memset(big, 'b', 3000000);
    memset(longest, 'a', ID_MAX);
    put_text(f->link, "many", STORE_CONTENT, "empty", "");
    put_text(f->link, "many", STORE_CONTENT, "big", big);
    put_text(f->link, "many", STORE_CONTENT, longest, big);
    free(big);
    const struct store_id ids[] = {id_of("big"), id_of("empty"), id_of(longest), id_of("big")};
    ok(get_heads(&heads, f, ids, 4, 5, &err));
    assert_string_equal(heads.text[0], "bbbbb");
    assert_string_equal(heads.text[1], "(nothing)");
    assert_string_equal(heads.text[2], "bbbbb");
    assert_string_equal(heads.text[3], "bbbbb");
}

/* ---- deleting ---- */

static void test_delete(void **state)
{
    struct test_store *const f = *state;
    enum { COUNT = 25000 }; /* more than an embedded store deletes in one transaction */
    static char names[COUNT][8], longest[ID_MAX + 1], other[ID_MAX + 1];
    static struct store_id ids[COUNT];
    struct err err = ERR_INIT;
    memset(longest, 'a', ID_MAX);
    memset(other, 'b', ID_MAX);
    put_many(f->link, "many", COUNT + 10);
    put_text(f->link, "many", STORE_USER, "N1", "a user");
    put_text(f->link, "many", STORE_USER, "", "the default user");
    put_text(f->link, "many", STORE_USER, longest, "long");
    put_text(f->link, "more", STORE_CONTENT, "N1", "of another generation");
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        ids[i] = id_of(names[i]);
    }
    ok(store_delete(f->link, "many", STORE_CONTENT, ids, 0, &err));
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), COUNT + 10);
    ok(store_delete(f->link, "many", STORE_CONTENT, ids, COUNT, &err));
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 10);
    assert_value(f->link, "many", STORE_CONTENT, "N24999", NULL);
    assert_value(f->link, "many", STORE_CONTENT, "N25000", "N25000");
    ok(store_delete(f->link, "many", STORE_CONTENT, ids, 2, &err)); /* not there any more */
    assert_value(f->link, "more", STORE_CONTENT, "N1", "of another generation");
    assert_value(f->link, "many", STORE_USER, "N1", "a user");
    const struct store_id users[] = {id_of("N1"), id_of(""), id_of(longest), id_of("N1"), id_of(other)};
    ok(store_delete(f->link, "many", STORE_USER, users, 5, &err)); /* one of them twice, one never there */
    assert_int_equal(scan_count(f->link, "many", STORE_USER), 0);
    put_text(f->link, "many", STORE_USER, "N1", "again");
    assert_value(f->link, "many", STORE_USER, "N1", "again");
    ids[1] = id_of("a b");
    put_text(f->link, "many", STORE_CONTENT, "N0", "N0");
    assert_int_equal(store_delete(f->link, "many", STORE_CONTENT, ids, 2, &err), -ERR_INVALID);
    assert_value(f->link, "many", STORE_CONTENT, "N0", "N0");
}

/* ---- streams ---- */

/* Who asks: shares of 1, 2, ... 9 ids; now and then none, as long as something is under way. */
struct asking {
    size_t count, asked, told, calls, stop_at, ahead;
    char names[600][24];
    struct store_id bad; /* in place of the last, if it is set */
};

static size_t ask_next(void *ctx, struct store_id *ids, size_t most)
{
    struct asking *const asking = ctx;
    const size_t share = asking->calls++ % 10;
    size_t count = 0;
    if (share == 0 && asking->asked > asking->told)
        return 0;
    for (; count < most && count < share + 1 && asking->asked < asking->count; count++) {
        const size_t i = asking->asked++;
        snprintf(asking->names[i], sizeof *asking->names, "N%zu", i);
        ids[count] = asking->bad.id && i == asking->count - 1 ? asking->bad : id_of(asking->names[i]);
    }
    return count;
}

static int take_told(void *ctx, size_t index, const void *data, size_t len)
{
    struct asking *const asking = ctx;
    assert_int_equal(index, asking->told++); /* both backends keep the order */
    assert_true(index < asking->asked);
    if (asking->asked - index > asking->ahead)
        asking->ahead = asking->asked - index;
    if (index < 300) {
        assert_int_equal(len, strlen(asking->names[index]));
        assert_memory_equal(data, asking->names[index], len);
    } else {
        assert_null(data);
    }
    return asking->told == asking->stop_at ? 44 : 0;
}

static void test_stream(void **state)
{
    struct test_store *const f = *state;
    static struct asking asking;
    struct err err = ERR_INIT;
    put_many(f->link, "many", 300);
    asking = (struct asking){.count = 600};
    assert_int_equal(store_stream(f->link, "many", STORE_CONTENT, ask_next, take_told, &asking, &err), 0);
    assert_int_equal(asking.told, 600);
    assert_true(asking.ahead < 200);
    asking = (struct asking){.count = 0};
    assert_int_equal(store_stream(f->link, "many", STORE_CONTENT, ask_next, take_told, &asking, &err), 0);
    assert_int_equal(asking.told, 0);
    asking = (struct asking){.count = 600, .stop_at = 200};
    assert_int_equal(store_stream(f->link, "many", STORE_CONTENT, ask_next, take_told, &asking, &err), 44);
    assert_int_equal(asking.told, 200);
    asking = (struct asking){.count = 100, .bad = id_of("a b")};
    assert_int_equal(
        store_stream(f->link, "many", STORE_CONTENT, ask_next, take_told, &asking, &err), -ERR_INVALID);
    assert_true(asking.told < 100); /* what was asked for before came, the share with the bad one did not */
    assert_int_equal(
        store_stream(f->link, "no:name", STORE_CONTENT, ask_next, take_told, &asking, &err), -ERR_INVALID);
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

/* ---- ids ---- */

static const char *const odd_ids[] = {"*", "?", "[a]", "a*", "\\", "\\*", "{x}", "a:b", "u:", ":", "%s%n",
    "\"", "'", "$1", "\xC3\xA9t\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "#", "-1", "0", "null",
    "manifest"};
#define ODD_IDS (sizeof odd_ids / sizeof *odd_ids)

static void test_odd_ids(void **state)
{
    struct test_store *const f = *state;
    for (size_t i = 0; i < ODD_IDS; i++)
        put_text(f->link, "odd", STORE_USER, odd_ids[i], odd_ids[i]);
    for (size_t i = 0; i < ODD_IDS; i++)
        assert_value(f->link, "odd", STORE_USER, odd_ids[i], odd_ids[i]);
    struct id_map seen = scan_ids(f->link, "odd", STORE_USER);
    assert_int_equal(seen.count, ODD_IDS);
    for (size_t i = 0; i < ODD_IDS; i++)
        assert_true(id_map_find(&seen, odd_ids[i], strlen(odd_ids[i])) >= 0);
    id_map_done(&seen);
}

/* Ids up to the longest, around every limit that a backend may have; many that differ in one byte. */
static void test_long_ids(void **state)
{
    struct test_store *const f = *state;
    enum { FIRST = 440, COUNT = ID_MAX - FIRST + 1 };
    static char ids[2 * COUNT][ID_MAX + 1];
    for (size_t i = 0; i < 2 * COUNT; i++) {
        const size_t len = FIRST + i / 2;
        memset(ids[i], 'a', len);
        ids[i][len - 1 - i % 2 * 300] = 'Z';
        ids[i][len] = '\0';
        put_text(f->link, "long", STORE_USER, ids[i], ids[i]);
        put_text(f->link, "long", STORE_SUMMARY, ids[i], "");
    }
    for (size_t i = 0; i < 2 * COUNT; i++) {
        assert_value(f->link, "long", STORE_USER, ids[i], ids[i]);
        assert_value(f->link, "long", STORE_SUMMARY, ids[i], "");
        assert_value(f->link, "long", STORE_CONTENT, ids[i], NULL);
        put_text(f->link, "long", STORE_USER, ids[i], "overwritten");
        assert_value(f->link, "long", STORE_USER, ids[i], "overwritten");
    }
    struct id_map seen = scan_ids(f->link, "long", STORE_USER);
    assert_int_equal(seen.count, 2 * COUNT);
    for (size_t i = 0; i < 2 * COUNT; i++)
        assert_true(id_map_find(&seen, ids[i], strlen(ids[i])) >= 0);
    id_map_done(&seen);
}

/* Categories have names with spaces, and as long as any id. */
static void test_categories(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    static char longest[CATEGORY_MAX + 1], longer[CATEGORY_MAX + 2];
    memset(longest, 'a', CATEGORY_MAX);
    memset(longer, 'a', CATEGORY_MAX + 1);
    const char *const names[] = {"sports", "world news", " ", "a  b ", "\xC3\xA9t\xC3\xA9", "*", longest};
    enum { COUNT = sizeof names / sizeof *names };
    for (size_t i = 0; i < COUNT; i++)
        put_text(f->link, "g", STORE_CATEGORY, names[i], names[i]);
    for (size_t i = 0; i < COUNT; i++)
        assert_value(f->link, "g", STORE_CATEGORY, names[i], names[i]);
    assert_value(f->link, "g", STORE_CATEGORY, "world", NULL);
    struct id_map seen = scan_ids(f->link, "g", STORE_CATEGORY);
    assert_int_equal(seen.count, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(id_map_find(&seen, names[i], strlen(names[i])) >= 0);
    id_map_done(&seen);
    const char *const bad[] = {"", "a\tb", "a\n", "\xFF", longer};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct store_entry entry = {id_of(bad[i]), "", 0};
        assert_int_equal(store_put(f->link, "g", STORE_CATEGORY, &entry, 1, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "a category"));
    }
    assert_int_equal(scan_count(f->link, "g", STORE_CATEGORY), COUNT);
}

/* The id of an explanation is a user's, the empty one too, or a content's, each behind its letter. */
static void test_why_ids(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    static char longest[2 + ID_MAX + 1] = "c:", longer[2 + ID_MAX + 2] = "u:";
    memset(longest + 2, 'a', ID_MAX);
    memset(longer + 2, 'a', ID_MAX + 1);
    const char *const good[] = {"u:", "u:U1", "c:U1", "c:u:", longest};
    const char *const bad[] = {"", "u", "U1", "c:", "x:U1", "u:U 1", "uU1", longer};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        put_text(f->link, "g", STORE_WHY, good[i], good[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_value(f->link, "g", STORE_WHY, good[i], good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct store_entry entry = {id_of(bad[i]), "", 0};
        assert_int_equal(store_put(f->link, "g", STORE_WHY, &entry, 1, &err), -ERR_INVALID);
    }
    assert_int_equal(scan_count(f->link, "g", STORE_WHY), sizeof good / sizeof *good);
}

static int stop_scan(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    return ++*(int *)ctx == 5 ? -ERR_NOMEM : 0;
}

static void test_scan(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    int calls = 0;
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 0);
    put_many(f->link, "many", 5000);
    put_text(f->link, "many", STORE_USER, "N1", "");
    put_text(f->link, "many", STORE_USER, "", "");
    put_text(f->link, "many2", STORE_CONTENT, "other", "");
    put_text(f->link, "man", STORE_CONTENT, "other", "");
    put_text(f->link, "many", STORE_MANIFEST, "", "{}");
    assert_int_equal(scan_count(f->link, "many", STORE_CONTENT), 5000);
    assert_int_equal(scan_count(f->link, "many2", STORE_CONTENT), 1);
    assert_int_equal(scan_count(f->link, "many", STORE_SUMMARY), 0);
    struct id_map seen = scan_ids(f->link, "many", STORE_USER);
    assert_int_equal(seen.count, 2);
    assert_true(id_map_find(&seen, "", 0) >= 0);
    id_map_done(&seen);
    assert_int_equal(store_scan(f->link, "many", STORE_SCORE_PROJ, stop_scan, &calls, &err), -ERR_INVALID);
    assert_int_equal(calls, 0);
}

static void test_scan_stopped(void **state)
{
    struct test_store *const f = *state;
    int calls = 0;
    put_many(f->link, "many", 100);
    assert_int_equal(store_scan(f->link, "many", STORE_CONTENT, stop_scan, &calls, NULL), -ERR_NOMEM);
    assert_int_equal(calls, 5);
    assert_value(f->link, "many", STORE_CONTENT, "N2", "N2");
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_many),
        store_test(test_kinds_are_apart),
        store_test(test_overwrite),
        store_test(test_big_values),
        store_test(test_get_stopped),
        store_test(test_heads),
        store_test(test_odd_heads),
        store_test(test_delete),
        store_test(test_stream),
        store_test(test_odd_ids),
        store_test(test_long_ids),
        store_test(test_categories),
        store_test(test_why_ids),
        store_test(test_scan),
        store_test(test_scan_stopped),
    };
    return test_group("values", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
