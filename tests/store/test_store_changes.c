/* The contract of store/store.h for the stream of changes, arguments and rights, run over every backend. */
#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- changes ---- */

struct heard {
    char text[4096]; /* "uU1 cN2 " */
    int left;        /* calls until one fails; negative: none does */
};

static int hear(void *ctx, const struct store_change *change)
{
    struct heard *const heard = ctx;
    if (heard->left == 0)
        return -ERR_NOMEM;
    heard->left--;
    const size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "%c%.*s ", (char)change->kind,
        (int)change->id.len, change->id.id);
    return 0;
}

static void test_changes(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char start[STORE_CURSOR_MAX] = "", cursor[STORE_CURSOR_MAX] = "";
    const struct store_change changes[] = {{STORE_USER, id_of("U1")}, {STORE_CONTENT, id_of("N1")},
        {STORE_USER, id_of("U1")}, {STORE_USER, id_of("\xC3\xA9*")}, {STORE_CONTENT, id_of("u")}};
    const struct store_change category = {STORE_CATEGORY, id_of("world news")};
    const struct store_change empty = {STORE_USER, {"", 0}};
    assert_changes(f->link, "g", cursor, 10, "");
    assert_string_equal(cursor, "");
    ok(store_changes_append(f->link, "g", changes, 0, &err));
    ok(store_changes_append(f->link, "g", changes, 5, &err));
    ok(store_changes_append(f->link, "other", &empty, 1, &err));
    ok(store_changes_append(f->link, "third", &category, 1, &err));
    assert_changes(f->link, "g", cursor, 0, "");
    assert_changes(f->link, "g", cursor, 2, "uU1 cN1 ");
    assert_changes(f->link, "g", cursor, 100, "uU1 u\xC3\xA9* cu ");
    assert_changes(f->link, "g", cursor, 100, "");
    ok(store_changes_append(f->link, "g", &empty, 1, &err));
    assert_changes(f->link, "g", cursor, 100, "u ");
    assert_changes(f->link, "g", start, 100, "uU1 cN1 uU1 u\xC3\xA9* cu u ");
    assert_string_equal(start, cursor);
    *start = '\0';
    assert_changes(f->link, "third", start, 100, "kworld news ");

    /* What the callback refused comes again. */
    struct heard heard = {.left = 3};
    *cursor = '\0';
    assert_int_equal(store_changes_read(f->link, "g", cursor, 100, hear, &heard, &err), -ERR_NOMEM);
    assert_string_equal(heard.text, "uU1 cN1 uU1 ");
    assert_changes(f->link, "g", cursor, 100, "u\xC3\xA9* cu u ");

    static const char *const bad[] = {"x", "1-x", "-", "-1", " 1", "1 ", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(cursor, sizeof cursor, "%s", bad[i]);
        assert_int_equal(store_changes_read(f->link, "g", cursor, 100, hear, &heard, &err), -ERR_INVALID);
        assert_string_equal(cursor, bad[i]);
    }
}

static int count_change(void *ctx, const struct store_change *change)
{
    size_t *const count = ctx;
    char expected[16];
    snprintf(expected, sizeof expected, "N%zu", (*count)++);
    assert_int_equal(change->id.len, strlen(expected));
    assert_memory_equal(change->id.id, expected, change->id.len);
    return 0;
}

static void test_many_changes(void **state)
{
    struct test_store *const f = *state;
    enum { COUNT = 5000 };
    static char names[COUNT][16];
    static struct store_change changes[COUNT];
    char cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        changes[i] = (struct store_change){STORE_CONTENT, id_of(names[i])};
    }
    ok(store_changes_append(f->link, "g", changes, COUNT / 2, &err));
    ok(store_changes_append(f->link, "g", changes + COUNT / 2, COUNT / 2, &err));
    ok(store_changes_read(f->link, "g", cursor, 1, count_change, &count, &err));
    assert_int_equal(count, 1);
    ok(store_changes_read(f->link, "g", cursor, 3500, count_change, &count, &err));
    assert_int_equal(count, 3501);
    ok(store_changes_read(f->link, "g", cursor, SIZE_MAX, count_change, &count, &err));
    assert_int_equal(count, COUNT);
}

/* ---- the end, and what has been trimmed ---- */

static void note(struct test_store *f, const char *generation, const char *id)
{
    const struct store_change change = {STORE_CONTENT, id_of(id)};
    struct err err = ERR_INIT;
    ok(store_changes_append(f->link, generation, &change, 1, &err));
}

static void test_end(void **state)
{
    struct test_store *const f = *state;
    char end[STORE_CURSOR_MAX] = "x", cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    ok(store_changes_end(f->link, "g", end, &err));
    assert_string_equal(end, "");
    note(f, "g", "N1");
    note(f, "g", "N2");
    note(f, "h", "N3");
    ok(store_changes_end(f->link, "g", end, &err));
    assert_changes(f->link, "g", cursor, 1, "cN1 ");
    assert_true(store_cursor_compare(cursor, end) < 0);
    assert_changes(f->link, "g", cursor, 100, "cN2 ");
    assert_string_equal(cursor, end);
    assert_changes(f->link, "g", end, 100, "");
    note(f, "g", "N4");
    assert_changes(f->link, "g", end, 100, "cN4 ");
}

static void assert_trimmed(struct test_store *f, const char *generation, const char *from)
{
    struct heard heard = {.left = -1};
    char cursor[STORE_CURSOR_MAX];
    struct err err = ERR_INIT;
    memcpy(cursor, from, sizeof cursor);
    assert_int_equal(
        store_changes_read(f->link, generation, cursor, 100, hear, &heard, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "changes behind the cursor have been trimmed"));
    assert_string_equal(heard.text, "");
    assert_string_equal(cursor, from);
}

static void test_trim(void **state)
{
    struct test_store *const f = *state;
    char at[8][STORE_CURSOR_MAX] = {""}, cursor[STORE_CURSOR_MAX] = "", end[STORE_CURSOR_MAX];
    struct err err = ERR_INIT;
    ok(store_changes_trim(f->link, "g", 1, &err)); /* there is none */
    for (int i = 0; i < 8; i++) {
        char id[8];
        snprintf(id, sizeof id, "N%d", i);
        note(f, "g", id);
        ok(store_changes_end(f->link, "g", at[i], &err));
    }
    note(f, "other", "X");
    ok(store_changes_trim(f->link, "g", 9, &err));
    ok(store_changes_trim(f->link, "g", 8, &err));
    assert_changes(f->link, "g", cursor, 2, "cN0 cN1 ");
    assert_string_equal(cursor, at[1]);
    ok(store_changes_trim(f->link, "g", 3, &err)); /* N5, N6 and N7 stay */
    assert_trimmed(f, "g", at[0]);
    assert_trimmed(f, "g", at[1]);
    assert_trimmed(f, "g", at[3]);
    *cursor = '\0';
    assert_changes(f->link, "g", cursor, 100, "cN5 cN6 cN7 ");
    memcpy(cursor, at[5], sizeof cursor);
    assert_changes(f->link, "g", cursor, 1, "cN6 ");
    assert_changes(f->link, "g", cursor, 100, "cN7 ");
    assert_changes(f->link, "g", cursor, 100, "");
    ok(store_changes_trim(f->link, "g", 1, &err));
    assert_changes(f->link, "g", cursor, 100, "");
    assert_trimmed(f, "g", at[5]);
    ok(store_changes_end(f->link, "g", end, &err));
    assert_string_equal(end, at[7]);
    note(f, "g", "N8");
    assert_changes(f->link, "g", cursor, 100, "cN8 ");
    assert_int_equal(store_changes_trim(f->link, "g", 0, &err), -ERR_INVALID);
    *cursor = '\0';
    assert_changes(f->link, "g", cursor, 100, "cN7 cN8 ");
    *cursor = '\0';
    assert_changes(f->link, "other", cursor, 100, "cX ");
}

/* More than an embedded store deletes in one transaction, and than Redis keeps in a node of its tree. */
static void test_trim_many(void **state)
{
    struct test_store *const f = *state;
    enum { COUNT = 25000, KEEP = 1234 };
    static struct store_change changes[COUNT];
    static char names[COUNT][8];
    char cursor[STORE_CURSOR_MAX] = "", first[STORE_CURSOR_MAX] = "";
    size_t count = 0;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        changes[i] = (struct store_change){STORE_CONTENT, id_of(names[i])};
    }
    ok(store_changes_append(f->link, "g", changes, COUNT, &err));
    ok(store_changes_read(f->link, "g", first, 1, count_change, &count, &err));
    ok(store_changes_trim(f->link, "g", KEEP, &err));
    count = COUNT - KEEP;
    ok(store_changes_read(f->link, "g", cursor, SIZE_MAX, count_change, &count, &err));
    assert_int_equal(count, COUNT);
    assert_trimmed(f, "g", first);
}

static void test_cursors(void **state)
{
    (void)state;
    static const char *const rising[] = {"", "0", "1", "9", "10", "18446744073709551615"};
    static const char *const streams[] = {"", "0-0", "0-1", "0-2", "0-10", "1-0", "9-5", "10-0",
        "1700000000000-0", "1700000000000-18446744073709551615", "1700000000001-0"};
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++)
        for (size_t k = 0; k < sizeof rising / sizeof *rising; k++)
            assert_true((store_cursor_compare(rising[i], rising[k]) > 0) -
                            (store_cursor_compare(rising[i], rising[k]) < 0) ==
                        (i > k) - (i < k));
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        for (size_t k = 0; k < sizeof streams / sizeof *streams; k++)
            assert_true((store_cursor_compare(streams[i], streams[k]) > 0) -
                            (store_cursor_compare(streams[i], streams[k]) < 0) ==
                        (i > k) - (i < k));
}

/* ---- apart from others ---- */

/* Two prefixes on one store do not see each other, even if one begins like the other. */
static void test_prefixes(void **state)
{
    struct test_store *const f = *state;
    char prefix[64];
    struct err err = ERR_INIT;
    struct store_link *link = NULL;
    char live[STORE_GENERATION_MAX];
    uint64_t token = 0;
    snprintf(prefix, sizeof prefix, "%s.x", f->prefix);
    struct store *const other = test_store_open(prefix, false);
    ok(store_connect(&link, other, &err));
    put_text(f->link, "g", STORE_USER, "U", "mine");
    assert_value(link, "g", STORE_USER, "U", NULL);
    assert_int_equal(scan_count(link, "g", STORE_USER), 0);
    ok(store_lock(f->link, 10000, &token, &err));
    const struct store_generation row = {"g", STORE_LIVE, token};
    ok(store_commit(f->link, token, &row, 1, "g", &err));
    assert_int_equal(store_live(link, live, &err), -ERR_NOT_FOUND);
    ok(store_lock(link, 10000, &token, &err));
    ok(store_drop(link, token, "g", &err));
    assert_value(f->link, "g", STORE_USER, "U", "mine");
    store_disconnect(link);
    store_close(other);
}

/* ---- arguments ---- */

/* A value that nobody asked for. */
static int never(void *ctx, size_t index, const void *data, size_t len)
{
    (void)ctx;
    (void)data;
    fail_msg("called for value %zu of %zu bytes", index, len);
    return 0;
}

static void test_arguments(void **state)
{
    struct test_store *const f = *state;
    static const char *const bad_names[] = {"", "a b", "a:b", "a/b", "a*", "\xC3\xA9",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    static const struct store_id bad_ids[] = {{"a b", 3}, {"a\n", 2}, {"\x7F", 1}, {"a\0b", 3}, {"\xFF", 1}};
    char long_id[ID_MAX + 1], cursor[STORE_CURSOR_MAX];
    struct err err = ERR_INIT;
    memset(long_id, 'a', sizeof long_id);
    const struct store_id good = id_of("X"), empty = {"", 0}, too_long = {long_id, sizeof long_id};
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        const struct store_entry entry = {good, "", 0};
        assert_int_equal(
            store_get(f->link, bad_names[i], STORE_USER, &good, 1, never, NULL, &err), -ERR_INVALID);
        assert_int_equal(store_put(f->link, bad_names[i], STORE_USER, &entry, 1, &err), -ERR_INVALID);
        assert_int_equal(store_drop(f->link, 1, bad_names[i], &err), -ERR_INVALID);
        assert_int_equal(
            store_get_head(f->link, bad_names[i], STORE_USER, &good, 1, 8, never, NULL, &err), -ERR_INVALID);
        assert_int_equal(store_delete(f->link, bad_names[i], STORE_USER, &good, 1, &err), -ERR_INVALID);
        assert_int_equal(store_changes_end(f->link, bad_names[i], cursor, &err), -ERR_INVALID);
        assert_int_equal(store_changes_trim(f->link, bad_names[i], 1, &err), -ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++) {
        const struct store_entry entry = {bad_ids[i], "", 0};
        const struct store_change change = {STORE_USER, bad_ids[i]};
        assert_int_equal(
            store_get(f->link, "g", STORE_USER, &bad_ids[i], 1, never, NULL, &err), -ERR_INVALID);
        assert_int_equal(store_put(f->link, "g", STORE_CONTENT, &entry, 1, &err), -ERR_INVALID);
        assert_int_equal(store_changes_append(f->link, "g", &change, 1, &err), -ERR_INVALID);
    }
    assert_int_equal(store_get(f->link, "g", STORE_USER, &too_long, 1, never, NULL, &err), -ERR_INVALID);
    assert_int_equal(store_get(f->link, "g", STORE_CONTENT, &empty, 1, never, NULL, &err), -ERR_INVALID);
    assert_int_equal(store_get(f->link, "g", STORE_SCORE_PROJ, &good, 1, never, NULL, &err), -ERR_INVALID);
    assert_int_equal(
        store_get(f->link, "g", (enum store_kind)'x', &good, 1, never, NULL, &err), -ERR_INVALID);
    const struct store_change summary = {STORE_SUMMARY, good};
    assert_int_equal(store_changes_append(f->link, "g", &summary, 1, &err), -ERR_INVALID);
    uint64_t token;
    assert_int_equal(store_lock(f->link, 0, &token, &err), -ERR_INVALID);
}

static void test_ping(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    ok(store_ping(f->link, &err));
    ok(store_ping(f->link, &err));
}

static void test_read_only(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    struct store_link *link = NULL;
    uint64_t token = 0;
    put_text(f->link, "g", STORE_USER, "U", "value");
    struct store *const reader = test_store_open(f->prefix, true);
    ok(store_connect(&link, reader, &err));
    assert_value(link, "g", STORE_USER, "U", "value");
    assert_int_equal(scan_count(link, "g", STORE_USER), 1);
    const struct store_entry entry = {id_of("U"), "", 0};
    const struct store_change change = {STORE_USER, id_of("U")};
    assert_int_equal(store_put(link, "g", STORE_USER, &entry, 1, &err), -ERR_INVALID);
    assert_int_equal(store_lock(link, 1000, &token, &err), -ERR_INVALID);
    assert_int_equal(store_renew(link, 1, 1000, &err), -ERR_INVALID);
    assert_int_equal(store_unlock(link, 1, &err), -ERR_INVALID);
    assert_int_equal(store_commit(link, 1, NULL, 0, "g", &err), -ERR_INVALID);
    assert_int_equal(store_drop(link, 1, "g", &err), -ERR_INVALID);
    assert_int_equal(store_changes_append(link, "g", &change, 1, &err), -ERR_INVALID);
    assert_int_equal(store_changes_trim(link, "g", 1, &err), -ERR_INVALID);
    assert_int_equal(store_delete(link, "g", STORE_USER, &entry.id, 1, &err), -ERR_INVALID);
    const struct store_click click = {id_of("U"), id_of("N")};
    assert_int_equal(store_clicks_append(link, &click, 1, &err), -ERR_INVALID);
    assert_int_equal(store_clicks_trim(link, "1", &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "reading only"));
    assert_value(link, "g", STORE_USER, "U", "value");
    put_text(f->link, "g", STORE_USER, "U", "changed");
    assert_value(link, "g", STORE_USER, "U", "changed");
    store_disconnect(link);
    store_close(reader);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_changes),
        store_test(test_many_changes),
        store_test(test_end),
        store_test(test_trim),
        store_test(test_trim_many),
        store_test(test_cursors),
        store_test(test_prefixes),
        store_test(test_arguments),
        store_test(test_ping),
        store_test(test_read_only),
    };
    return test_group("changes and arguments", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
