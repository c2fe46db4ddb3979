/* The contract of store/store.h for what lies outside of generations, clicks and histories, run over every backend. */
#include "store/generation.h"
#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- clicks ---- */

struct heard {
    char text[4096]; /* "U1>N5 U2>N7 "; ">" for an entry that is no click */
    char last[STORE_CURSOR_MAX];
    int left; /* calls until one fails; negative: none does */
};

static int hear(void *ctx, const struct store_click *click, const char *cursor)
{
    struct heard *const heard = ctx;
    if (heard->left == 0)
        return -ERR_NOMEM;
    heard->left--;
    const size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "%.*s>%.*s ", (int)click->user.len,
        click->user.id, (int)click->item.len, click->item.id);
    assert_true(store_cursor_compare(heard->last, cursor) < 0);
    snprintf(heard->last, sizeof heard->last, "%s", cursor);
    return 0;
}

static void assert_clicks(
    struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, const char *text)
{
    struct heard heard = {.left = -1};
    struct err err = ERR_INIT;
    memcpy(heard.last, cursor, sizeof heard.last);
    ok(store_clicks_read(link, cursor, max, hear, &heard, &err));
    assert_string_equal(heard.text, text);
    assert_string_equal(heard.last, cursor);
}

static void append(struct store_link *link, const char *user, const char *item)
{
    const struct store_click click = {id_of(user), id_of(item)};
    struct err err = ERR_INIT;
    ok(store_clicks_append(link, &click, 1, &err));
}

static void test_clicks(void **state)
{
    struct test_store *const f = *state;
    char cursor[STORE_CURSOR_MAX] = "", start[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    const struct store_click clicks[] = {{id_of("U1"), id_of("N5")}, {id_of("U2"), id_of("N7")},
        {id_of("U1"), id_of("N5")}, {id_of("\xC3\xA9*"), id_of("user")}};
    assert_clicks(f->link, cursor, 10, "");
    assert_string_equal(cursor, "");
    ok(store_clicks_append(f->link, clicks, 0, &err));
    ok(store_clicks_append(f->link, clicks, 4, &err));
    assert_clicks(f->link, cursor, 0, "");
    assert_clicks(f->link, cursor, 2, "U1>N5 U2>N7 ");
    assert_clicks(f->link, cursor, 100, "U1>N5 \xC3\xA9*>user ");
    assert_clicks(f->link, cursor, 100, "");
    append(f->link, "item", "N1");
    assert_clicks(f->link, cursor, 100, "item>N1 ");
    assert_clicks(f->link, start, 100, "U1>N5 U2>N7 U1>N5 \xC3\xA9*>user item>N1 ");
    assert_string_equal(start, cursor);

    /* What the callback refused comes again. */
    struct heard heard = {.left = 2};
    *cursor = '\0';
    assert_int_equal(store_clicks_read(f->link, cursor, 100, hear, &heard, &err), -ERR_NOMEM);
    assert_string_equal(heard.text, "U1>N5 U2>N7 ");
    assert_string_equal(heard.last, cursor);
    assert_clicks(f->link, cursor, 1, "U1>N5 ");

    static const char *const bad[] = {"x", "1-x", "-", "-1", " 1", "1 ", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(cursor, sizeof cursor, "%s", bad[i]);
        assert_int_equal(store_clicks_read(f->link, cursor, 100, hear, &heard, &err), -ERR_INVALID);
        assert_int_equal(store_clicks_trim(f->link, cursor, &err), -ERR_INVALID);
        assert_string_equal(cursor, bad[i]);
    }
    memset(cursor, '1', sizeof cursor);
    assert_int_equal(store_clicks_read(f->link, cursor, 100, hear, &heard, &err), -ERR_INVALID);
    assert_int_equal(store_clicks_trim(f->link, cursor, &err), -ERR_INVALID);
    *start = '\0';
    assert_clicks(f->link, start, 100, "U1>N5 U2>N7 U1>N5 \xC3\xA9*>user item>N1 ");
}

static void test_click_ids(void **state)
{
    struct test_store *const f = *state;
    static char longest[ID_MAX + 2];
    char cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    memset(longest, 'a', ID_MAX + 1);
    static const char *const bad[] = {"", "a b", "a\n", "\x7F", "\xFF", longest};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct store_click users[] = {{id_of("U"), id_of("N")}, {id_of(bad[i]), id_of("N")}};
        const struct store_click items[] = {{id_of("U"), id_of("N")}, {id_of("U"), id_of(bad[i])}};
        assert_int_equal(store_clicks_append(f->link, users, 2, &err), -ERR_INVALID);
        assert_int_equal(store_clicks_append(f->link, items, 2, &err), -ERR_INVALID);
    }
    assert_clicks(f->link, cursor, 100, "");
    longest[ID_MAX] = '\0';
    append(f->link, longest, longest);
    char text[2 * ID_MAX + 8];
    snprintf(text, sizeof text, "%s>%s ", longest, longest);
    assert_clicks(f->link, cursor, 100, text);
}

static void test_trim(void **state)
{
    struct test_store *const f = *state;
    char cursor[STORE_CURSOR_MAX] = "", start[STORE_CURSOR_MAX] = "", before[STORE_CURSOR_MAX];
    struct err err = ERR_INIT;
    ok(store_clicks_trim(f->link, "", &err));
    for (int i = 0; i < 6; i++) {
        char item[8];
        snprintf(item, sizeof item, "N%d", i);
        append(f->link, "U", item);
    }
    assert_clicks(f->link, cursor, 2, "U>N0 U>N1 ");
    ok(store_clicks_trim(f->link, "", &err));
    ok(store_clicks_trim(f->link, cursor, &err));
    assert_clicks(f->link, start, 100, "U>N2 U>N3 U>N4 U>N5 ");
    assert_clicks(f->link, cursor, 1, "U>N2 "); /* no matter that the cursor's own click is gone */
    append(f->link, "U", "N6");
    ok(store_clicks_trim(f->link, start, &err)); /* N6 came meanwhile */
    *start = '\0';
    assert_clicks(f->link, start, 100, "U>N6 ");
    assert_clicks(f->link, cursor, 100, "U>N6 ");
    ok(store_clicks_trim(f->link, start, &err));
    ok(store_clicks_trim(f->link, start, &err));
    memcpy(before, start, sizeof before);
    *start = '\0';
    assert_clicks(f->link, start, 100, "");
    append(f->link, "U", "N7"); /* its place is behind that of all that has been trimmed */
    assert_clicks(f->link, start, 100, "U>N7 ");
    assert_true(store_cursor_compare(before, start) < 0);
    assert_clicks(f->link, cursor, 100, "U>N7 ");
    ok(store_clicks_trim(f->link, before, &err));
    *start = '\0';
    assert_clicks(f->link, start, 100, "U>N7 ");
}

static int count_click(void *ctx, const struct store_click *click, const char *cursor)
{
    size_t *const count = ctx;
    char expected[16];
    snprintf(expected, sizeof expected, "N%zu", (*count)++);
    assert_int_equal(click->item.len, strlen(expected));
    assert_memory_equal(click->item.id, expected, click->item.len);
    assert_true(*cursor);
    return 0;
}

/* More than one reply, one transaction and one node of a tree hold. */
static void test_many(void **state)
{
    struct test_store *const f = *state;
    enum { COUNT = 25000 };
    static char names[COUNT][8];
    static struct store_click clicks[COUNT];
    char cursor[STORE_CURSOR_MAX] = "", start[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "N%zu", i);
        clicks[i] = (struct store_click){id_of("U"), id_of(names[i])};
    }
    ok(store_clicks_append(f->link, clicks, COUNT, &err));
    ok(store_clicks_read(f->link, cursor, 1, count_click, &count, &err));
    assert_int_equal(count, 1);
    ok(store_clicks_read(f->link, cursor, 23999, count_click, &count, &err));
    assert_int_equal(count, 24000);
    ok(store_clicks_trim(f->link, cursor, &err));
    ok(store_clicks_read(f->link, start, SIZE_MAX, count_click, &count, &err));
    assert_int_equal(count, COUNT);
}

/* ---- histories ---- */

static void test_histories(void **state)
{
    struct test_store *const f = *state;
    static char longest[ID_MAX + 1];
    struct err err = ERR_INIT;
    memset(longest, 'a', ID_MAX);
    put_text(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
    put_text(f->link, STORE_SHARED, STORE_HISTORY, "U2", "two");
    put_text(f->link, STORE_SHARED, STORE_HISTORY, longest, "three");
    put_text(f->link, "g", STORE_USER, "U1", "a user");
    assert_value(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
    assert_value(f->link, STORE_SHARED, STORE_HISTORY, longest, "three");
    assert_value(f->link, STORE_SHARED, STORE_HISTORY, "U3", NULL);
    struct id_map seen = scan_ids(f->link, STORE_SHARED, STORE_HISTORY);
    assert_int_equal(seen.count, 3);
    assert_true(id_map_find(&seen, longest, ID_MAX) >= 0);
    id_map_done(&seen);
    const struct store_id two[] = {id_of("U2"), id_of("U3")};
    ok(store_delete(f->link, STORE_SHARED, STORE_HISTORY, two, 2, &err));
    assert_int_equal(scan_count(f->link, STORE_SHARED, STORE_HISTORY), 2);

    /* Neither has a place where the other is. */
    const struct store_entry entry = {id_of("U"), "", 0}, empty = {{"", 0}, "", 0};
    assert_int_equal(store_put(f->link, "g", STORE_HISTORY, &entry, 1, &err), -ERR_INVALID);
    assert_int_equal(store_put(f->link, STORE_SHARED, STORE_USER, &entry, 1, &err), -ERR_INVALID);
    assert_int_equal(store_put(f->link, STORE_SHARED, STORE_HISTORY, &empty, 1, &err), -ERR_INVALID);
    const struct store_change change = {STORE_USER, id_of("U")}, history = {STORE_HISTORY, id_of("U")};
    assert_int_equal(store_changes_append(f->link, STORE_SHARED, &change, 1, &err), -ERR_INVALID);
    assert_int_equal(store_changes_append(f->link, "g", &history, 1, &err), -ERR_INVALID);
}

/* ---- apart from generations ---- */

static void test_no_generation(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    put_text(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
    ok(store_lock(f->link, 10000, &token, &err));
    const struct store_generation row = {STORE_SHARED, STORE_READY, token};
    assert_int_equal(store_commit(f->link, token, &row, 1, NULL, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "is no generation"));
    assert_int_equal(store_commit(f->link, token, NULL, 0, STORE_SHARED, &err), -ERR_INVALID);
    assert_int_equal(store_drop(f->link, token, STORE_SHARED, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "is no generation"));
    ok(store_unlock(f->link, token, &err));
    assert_int_equal(generation_promote(f->store, STORE_SHARED, &err), -ERR_NOT_FOUND);
    assert_int_equal(generation_drop(f->store, STORE_SHARED, &err), -ERR_NOT_FOUND);
    assert_value(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
}

/* A generation of any name comes and goes, and leaves clicks and histories as they are. */
static void test_drops(void **state)
{
    struct test_store *const f = *state;
    static const char *const names[] = {"g", "clicks", "share", "shared.1", "h"};
    char cursor[STORE_CURSOR_MAX] = "", live[STORE_CURSOR_MAX];
    struct err err = ERR_INIT;
    uint64_t token = 0;
    put_text(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
    append(f->link, "U1", "N1");
    append(f->link, "U1", "N2");
    ok(store_lock(f->link, 10000, &token, &err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct store_generation row = {.state = STORE_READY, .token = token};
        const struct store_change change = {STORE_USER, id_of("U")};
        strcpy(row.name, names[i]);
        ok(store_commit(f->link, token, &row, 1, NULL, &err));
        put_text(f->link, names[i], STORE_USER, "U1", "user");
        ok(store_changes_append(f->link, names[i], &change, 1, &err));
        *cursor = *live = '\0';
        assert_changes(f->link, names[i], live, 100, "uU ");
        assert_clicks(f->link, cursor, 100, "U1>N1 U1>N2 ");
        ok(store_drop(f->link, token, names[i], &err));
        assert_value(f->link, names[i], STORE_USER, "U1", NULL);
        *cursor = *live = '\0';
        assert_changes(f->link, names[i], live, 100, "");
        assert_clicks(f->link, cursor, 100, "U1>N1 U1>N2 ");
        assert_value(f->link, STORE_SHARED, STORE_HISTORY, "U1", "one");
    }
    struct store_generation *rows = NULL;
    size_t count = 1;
    ok(store_generations(f->link, &rows, &count, &err));
    assert_int_equal(count, 0);
    free(rows);
    append(f->link, "U1", "N3");
    assert_clicks(f->link, cursor, 100, "U1>N3 ");
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_clicks),
        store_test(test_click_ids),
        store_test(test_trim),
        store_test(test_many),
        store_test(test_histories),
        store_test(test_no_generation),
        store_test(test_drops),
    };
    return test_group("clicks and histories", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
