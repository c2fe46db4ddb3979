/* Histories of files and of clicks brought together, on every kind of store: what each user has read in the end, what the
 * store keeps, and that no click counts twice or is lost, whatever was killed. */
#include "batch/histories_fold.h"
#include "batch/history_record.h"
#include "tests/lib/stores.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEEP = 6, NEWS = 20 };

static char folder[256];
static struct news news;

struct world {
    struct test_store *f;
    struct histories histories;
    struct fold_done done;
    size_t gone;
};

static void begin(struct world *world, void **state)
{
    *world = (struct world){.f = *state, .histories.keep = KEEP};
}

static void end(struct world *world)
{
    histories_done(&world->histories);
}

/* As a new run of the program: histories are those of a file, lines "U1\tN1 N2". */
static void read_file(struct world *world, const char *lines)
{
    char text[4096] = "", *copy = strdup(lines);
    struct err err = ERR_INIT;
    for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = '\0';
        snprintf(text + strlen(text), sizeof text - strlen(text), "1\t%s\tx\t%s\t\n", line, tab + 1);
    }
    free(copy);
    histories_done(&world->histories);
    ok(histories_load(&world->histories, scratch_write(folder, "behaviors.tsv", text, strlen(text)), &news,
        KEEP, &(struct tsv_options){.quiet = true}, &err));
}

static void forget_all(struct world *world)
{
    histories_done(&world->histories);
    world->histories.keep = KEEP;
}

static void fold(struct world *world, enum fold_source source)
{
    struct err err = ERR_INIT;
    const struct fold_options options = {source, NULL, NULL};
    ok(histories_fold(&world->done, &world->histories, &news, &options, world->f->link, &err));
    ok(histories_delete(&world->done.gone, world->f->link, &err));
    world->gone = world->done.gone.count;
    fold_done_free(&world->done);
}

static void click(struct world *world, const char *user, const char *item)
{
    struct err err = ERR_INIT;
    const struct store_click one = {id_of(user), id_of(item)};
    ok(store_clicks_append(world->f->link, &one, 1, &err));
}

/* The newest items, and how many there have been. */
static void assert_history(const struct world *world, const char *user, const char *items, size_t total)
{
    char text[256] = "";
    const ptrdiff_t index = id_map_find(&world->histories.users, user, strlen(user));
    if (!items) {
        assert_true(index < 0);
        return;
    }
    assert_true(index >= 0);
    const struct history history = histories_get(&world->histories, (size_t)index);
    for (size_t i = 0; i < history.count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
            id_map_get(&news.ids, history.items[i]));
    assert_string_equal(text, items);
    assert_int_equal(history.total, total);
}

static size_t records(const struct world *world)
{
    return scan_count(world->f->link, STORE_SHARED, STORE_HISTORY);
}

static int count_click(void *ctx, const struct store_click *one, const char *place)
{
    (void)one, (void)place;
    ++*(size_t *)ctx;
    return 0;
}

static size_t waiting_clicks(const struct world *world)
{
    size_t count = 0;
    char cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    ok(store_clicks_read(world->f->link, cursor, 1000, count_click, &count, &err));
    return count;
}

static void test_file_alone(void **state)
{
    struct world world;
    begin(&world, state);
    read_file(&world, "U1\tN1 N2 X9 N3\nU2\tN1 N2 N3 N4 N5 N6 N7 N8\nU3\t");
    fold(&world, FOLD_FILE);
    assert_history(&world, "U1", "N1 N2 N3", 3);
    assert_history(&world, "U2", "N3 N4 N5 N6 N7 N8", 8);
    assert_history(&world, "U3", "", 0);
    assert_int_equal(world.done.written, 3);
    fold(&world, FOLD_FILE);
    assert_int_equal(world.done.written, 0);
    forget_all(&world); /* a run without the file knows the same */
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", "N1 N2 N3", 3);
    assert_history(&world, "U2", "N3 N4 N5 N6 N7 N8", 8);
    assert_history(&world, "U3", "", 0);
    read_file(&world, "U1\tN1 N2 X9 N3\nU3\t"); /* U2 goes */
    fold(&world, FOLD_FILE);
    assert_history(&world, "U2", NULL, 0);
    assert_int_equal(world.gone, 1);
    assert_int_equal(records(&world), 2);
    end(&world);
}

static void test_clicks(void **state)
{
    struct world world;
    begin(&world, state);
    read_file(&world, "U1\tN1 N2 N3");
    fold(&world, FOLD_FILE);
    click(&world, "U1", "N4");
    click(&world, "Unew", "N5");
    click(&world, "U1", "N4"); /* again, on purpose */
    click(&world, "U1", "X7"); /* no text yet */
    fold(&world, FOLD_CLICKS);
    assert_int_equal(world.done.clicks, 4);
    assert_int_equal(waiting_clicks(&world), 0);
    assert_history(&world, "U1", "N1 N2 N3 N4 N4", 5);
    assert_history(&world, "Unew", "N5", 1);
    fold(&world, FOLD_CLICKS);
    assert_int_equal(world.done.clicks, 0);
    assert_history(&world, "U1", "N1 N2 N3 N4 N4", 5);

    read_file(&world,
        "U1\tN1 N2 N3"); /* the file is behind: the clicks stay, and so does who is known by them alone */
    fold(&world, FOLD_FILE);
    assert_history(&world, "U1", "N1 N2 N3 N4 N4", 5);
    assert_history(&world, "Unew", "N5", 1);
    read_file(&world, "U1\tN1 N2 N3 N4"); /* it has the first of them */
    fold(&world, FOLD_FILE);
    assert_history(&world, "U1", "N1 N2 N3 N4 N4", 5);
    read_file(&world, "U1\tN1 N2 N3 N4 N9 N4 N10\nUnew\tN5"); /* and all, and more */
    fold(&world, FOLD_FILE);
    assert_history(&world, "U1", "N2 N3 N4 N9 N4 N10", 7);
    assert_history(&world, "Unew", "N5", 1);
    read_file(&world, "U1\tN1 N2 N3 N4 N9 N4 N10"); /* who was in a file goes with it */
    fold(&world, FOLD_FILE);
    assert_history(&world, "Unew", NULL, 0);
    end(&world);
}

/* Sessions are counted from the first item ever: the window slides, the total grows. */
static void test_window(void **state)
{
    struct world world;
    char item[8];
    begin(&world, state);
    read_file(&world, "U1\tN0 N1 N2 N3 N4");
    fold(&world, FOLD_FILE);
    for (int i = 5; i < 12; i++) {
        snprintf(item, sizeof item, "N%d", i);
        click(&world, "U1", item);
        fold(&world, FOLD_CLICKS);
    }
    assert_history(&world, "U1", "N6 N7 N8 N9 N10 N11", 12);
    forget_all(&world);
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", "N6 N7 N8 N9 N10 N11", 12);
    end(&world);
}

static int copy_value(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    char *const copy = ctx;
    assert_true(data && len < 1000);
    memcpy(copy, data, len);
    copy[len] = '\0';
    return 0;
}

/* Killed behind the records and before the clicks were trimmed: they are there again, and known. */
static void test_killed(void **state)
{
    struct world world;
    struct err err = ERR_INIT;
    char record[1000];
    const struct store_id id = id_of("U1");
    begin(&world, state);
    click(&world, "U1", "N1");
    click(&world, "U1", "N2");
    fold(&world, FOLD_STORE);
    ok(store_get(world.f->link, STORE_SHARED, STORE_HISTORY, &id, 1, copy_value, record, &err));
    click(&world, "U1", "N3");
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", "N1 N2 N3", 3);
    /* The record of before comes back, as if the last write had been lost with its store, and the click that it has not
     * seen comes a second time. */
    put_text(world.f->link, STORE_SHARED, STORE_HISTORY, "U1", record);
    click(&world, "U1", "N3");
    forget_all(&world);
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", "N1 N2 N3", 3);

    /* What is no record is begun anew, from the clicks that come. */
    put_text(world.f->link, STORE_SHARED, STORE_HISTORY, "U1", "nonsense");
    click(&world, "U1", "N4");
    forget_all(&world);
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", "N4", 1);
    end(&world);
}

/* Clicks that are in the stream and in the record, because nobody trimmed them, count once. */
static void test_not_trimmed(void **state)
{
    struct world world;
    struct err err = ERR_INIT;
    struct history_record record = {0};
    char text[256], cursor[STORE_CURSOR_MAX] = "";
    size_t count = 0;
    begin(&world, state);
    click(&world, "U1", "N1");
    click(&world, "U1", "N2");
    ok(store_clicks_read(
        world.f->link, cursor, 10, count_click, &count, &err)); /* which leaves it at the last */
    strcpy(record.last, cursor);
    ok(history_record_add(&record, "N1", 2, &err));
    ok(history_record_add(&record, "N2", 2, &err));
    text[history_record_format(text, &record)] = '\0';
    put_text(world.f->link, STORE_SHARED, STORE_HISTORY, "U1", text);
    click(&world, "U1", "N3");
    fold(&world, FOLD_CLICKS);
    assert_history(&world, "U1", "N1 N2 N3", 3);
    assert_int_equal(world.done.clicks, 1);
    assert_int_equal(waiting_clicks(&world), 0);
    history_record_done(&record);
    end(&world);
}

static void test_forget(void **state)
{
    struct world world;
    struct err err = ERR_INIT;
    const struct fold_options options = {FOLD_STORE, NULL, "U1"};
    begin(&world, state);
    click(&world, "U1", "N1");
    click(&world, "U2", "N1");
    fold(&world, FOLD_STORE);
    click(&world, "U1", "N2");
    click(&world, "U2", "N2");
    forget_all(&world);
    ok(histories_fold(&world.done, &world.histories, &news, &options, world.f->link, &err));
    ok(histories_delete(&world.done.gone, world.f->link, &err));
    fold_done_free(&world.done);
    assert_history(&world, "U1", NULL, 0);
    assert_history(&world, "U2", "N1 N2", 2);
    forget_all(&world);
    fold(&world, FOLD_STORE);
    assert_history(&world, "U1", NULL, 0);
    assert_int_equal(records(&world), 1);
    end(&world);
}

/* More users, and more clicks, than are held at once. */
static void test_many(void **state)
{
    enum { USERS = 3000 };
    struct world world;
    struct err err = ERR_INIT;
    char *const text = malloc(USERS * 32);
    static char ids[USERS][8];
    static struct store_click clicks[USERS];
    size_t len = 0;
    begin(&world, state);
    for (size_t i = 0; i < USERS; i++) {
        len += (size_t)sprintf(text + len, "1\tU%zu\tx\tN%zu N3\t\n", i, i % NEWS);
        snprintf(ids[i], sizeof ids[i], "U%zu", i + 1);
        clicks[i] = (struct store_click){id_of(ids[i]), id_of("N7")};
    }
    ok(histories_load(&world.histories, scratch_write(folder, "many.tsv", text, len), &news, KEEP,
        &(struct tsv_options){.quiet = true}, &err));
    fold(&world, FOLD_FILE);
    assert_int_equal(world.done.written, USERS);
    ok(store_clicks_append(world.f->link, clicks, USERS, &err));
    fold(&world, FOLD_CLICKS);
    assert_int_equal(world.done.clicks, USERS);
    assert_int_equal(world.done.written, USERS);
    assert_history(&world, "U0", "N0 N3", 2);
    assert_history(&world, "U2999", "N19 N3 N7", 3);
    assert_history(&world, "U3000", "N7", 1);
    forget_all(&world);
    fold(&world, FOLD_STORE);
    assert_int_equal(world.histories.users.count, USERS + 1);
    assert_history(&world, "U1500", "N0 N3 N7", 3);
    assert_int_equal(world.done.written, 0);
    free(text);
    end(&world);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_file_alone),
        store_test(test_clicks),
        store_test(test_window),
        store_test(test_killed),
        store_test(test_not_trimmed),
        store_test(test_forget),
        store_test(test_many),
    };
    return test_group("histories", world_name, tests);
}

int main(void)
{
    char text[4096] = "";
    struct err err = ERR_INIT;
    scratch_make(folder);
    for (int i = 0; i < NEWS; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "N%d\tc\ts\ttitle %d\t\t\t\t\n", i, i);
    if (news_load(&news, scratch_write(folder, "news.tsv", text, strlen(text)),
            &(struct tsv_options){.quiet = true}, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const int code = test_worlds(run);
    news_done(&news);
    scratch_remove(folder);
    return code;
}
