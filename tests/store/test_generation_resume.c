/* A refresh goes on with what is there: inside the live generation, in one that is ready, or in one that was left. On
 * every kind of store. */
#include "store/generation_int.h"
#include "tests/lib/generations.h"

#include <stdio.h>
#include <stdlib.h>

static struct manifest plan_of(uint64_t settings)
{
    struct manifest plan = dimensions();
    plan.settings = settings;
    return plan;
}

static struct generation_writer *resume(
    struct test_store *f, uint64_t settings, enum generation_choice choice)
{
    struct generation_writer *writer = NULL;
    struct err err = ERR_INIT;
    const struct manifest plan = plan_of(settings);
    ok(generation_resume(&writer, f->store, &plan, choice, &err));
    return writer;
}

static struct generation_turnover turnover(
    size_t users, size_t users_gone, size_t contents, size_t contents_gone)
{
    return (struct generation_turnover){users, users_gone, contents, contents_gone, false};
}

/* The whole small generation through a writer that resumes; leaves its name. */
static void publish_all(struct test_store *f, uint64_t settings, char name[STORE_GENERATION_MAX])
{
    struct err err = ERR_INIT;
    struct manifest manifest = plan_of(settings);
    struct generation_writer *writer = resume(f, settings, GENERATION_ANY);
    const struct generation_turnover all = turnover(USERS, 0, CONTENTS, 0);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    ok(generation_expect(writer, &all, &err));
    put_generation(writer);
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_publish(writer, &err));
    snprintf(name, STORE_GENERATION_MAX, "%s", generation_name(writer));
    generation_end(writer);
}

static void assert_inputs(
    struct generation_writer *writer, enum blob_kind kind, const char *id, uint64_t wanted)
{
    struct err err = ERR_INIT;
    const struct store_id ids[] = {id_of(id), id_of("nobody")};
    uint64_t inputs[2] = {7, 7};
    ok(generation_inputs(writer, kind, ids, 2, kind == BLOB_USER ? M : N, D, inputs, &err));
    assert_true(inputs[0] == wanted);
    assert_true(inputs[1] == 0);
}

static void assert_verified(struct test_store *f, const char *name, int code)
{
    struct generation_check check;
    struct err err = ERR_INIT;
    const int rc = generation_verify(&check, f->link, name, NULL, NULL, &err);
    if (rc != code)
        print_error("%s\n", err.message);
    assert_int_equal(rc, code);
}

/* What a killed writer has left is gone on with by the same settings, and dropped by others. */
static void test_left_building(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    struct generation_writer *writer = resume(f, 5, GENERATION_ANY);
    snprintf(name, sizeof name, "%s", generation_name(writer));
    assert_inputs(writer, BLOB_CONTENT, "N1", 0);
    put_matrix(writer, BLOB_CONTENT, "N1", 1, N);
    put_matrix(writer, BLOB_USER, "U1", 1, M);
    ok(generation_flush(writer, &err));
    put_matrix(writer, BLOB_CONTENT, "N2", 2, N); /* in the buffer, and lost with it */
    generation_end(writer);
    assert_int_equal(state_of(f->link, name, NULL), STORE_BUILDING);
    assert_int_equal(generation_promote(f->store, name, &err), -ERR_INVALID);

    writer = resume(f, 5, GENERATION_ANY);
    assert_int_equal(generation_mode(writer), GENERATION_RESUMED);
    assert_string_equal(generation_name(writer), name);
    assert_inputs(writer, BLOB_CONTENT, "N1", 1001);
    assert_inputs(writer, BLOB_CONTENT, "N2", 0);
    assert_inputs(writer, BLOB_USER, "U1", 1001);
    uint64_t inputs;
    const struct store_id id = id_of("U1");
    ok(generation_inputs(
        writer, BLOB_USER, &id, 1, M + 1, D, &inputs, &err)); /* it was made by another model */
    assert_true(inputs == 0);
    const struct generation_turnover all = turnover(USERS, 0, CONTENTS, 0);
    struct manifest manifest = plan_of(5);
    ok(generation_expect(writer, &all, &err));
    put_generation(writer); /* those that are there are put again, which changes nothing */
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_publish(writer, &err));
    generation_end(writer);
    assert_live(f->link, name);
    assert_verified(f, name, 0);

    writer = resume(f, 6, GENERATION_ANY);
    char other[STORE_GENERATION_MAX];
    snprintf(other, sizeof other, "%s", generation_name(writer));
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    assert_string_equal(generation_beside(writer), name);
    put_matrix(writer, BLOB_CONTENT, "N1", 1, N);
    ok(generation_flush(writer, &err));
    generation_end(writer);
    writer = resume(f, 7, GENERATION_ANY);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    assert_int_equal(state_of(f->link, other, NULL), -1);
    assert_int_equal(scan_count(f->link, other, STORE_CONTENT), 0);
    generation_end(writer);
    ok(generation_begin(&writer, f->store, BLOB_F32, &err)); /* an import drops it, too */
    generation_end(writer);
    struct store_generation *rows = NULL;
    size_t count = 0;
    ok(store_generations(f->link, &rows, &count, &err));
    assert_int_equal(count, 1);
    free(rows);
}

/* A count that is not what was expected is told, whoever put the keys. */
static void test_expectation(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    struct manifest manifest = plan_of(5);
    struct generation_writer *writer = resume(f, 5, GENERATION_ANY);
    const struct generation_turnover all = turnover(USERS, 0, CONTENTS + 1, 0);
    ok(generation_expect(writer, &all, &err));
    put_generation(writer);
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "contents"));
    generation_end(writer);
}

/* Inside the live generation: values replaced, new, deleted; told in the stream; counts that hold at every moment. */
static void test_inside(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX], cursor[STORE_CURSOR_MAX] = "";
    struct manifest manifest, read;
    publish_all(f, 5, name);
    assert_changes(f->link, name, cursor, 100, "");

    struct generation_writer *writer = resume(f, 5, GENERATION_ANY);
    assert_int_equal(generation_mode(writer), GENERATION_INSIDE);
    assert_string_equal(generation_name(writer), name);
    assert_inputs(writer, BLOB_USER, "", 1000);
    assert_inputs(writer, BLOB_USER, "U3", 1003);
    const struct generation_turnover change = turnover(USERS, 1, CONTENTS - 2, 3);
    ok(generation_expect(writer, &change, &err));
    assert_verified(f, name, 0);
    put_matrix(writer, BLOB_USER, "U3", 9, M);
    put_matrix(writer, BLOB_USER, "U99", 2, M);
    put_matrix(writer, BLOB_CONTENT, "N99", 3, N);
    ok(generation_put_summary(writer, "U99", 3, "new", 3, &err));
    static const char user_why[] = "{\"codes\":[[],[],[]]}", content_why[] = "{\"codes\":[[],[]]}";
    for (size_t i = 0; i < 2; i++) {
        const char *const user = i ? "U99" : "U1", *const content = i ? "N99" : "N1";
        ok(generation_put_why(writer, BLOB_USER, user, strlen(user), user_why, strlen(user_why), &err));
        ok(generation_put_why(
            writer, BLOB_CONTENT, content, strlen(content), content_why, strlen(content_why), &err));
    }
    ok(generation_put_title(writer, "N1", 2, "goes", 4, &err));
    char title[STORE_TITLE_MAX + 3];
    memset(title, 'x', sizeof title);
    memcpy(title + STORE_TITLE_MAX - 1, "\xC3\xA9", 2); /* a character across the limit */
    ok(generation_put_title(writer, "N99", 3, title, sizeof title, &err));
    assert_int_equal(generation_put_title(writer, "a b", 3, "x", 1, &err), -ERR_INVALID);
    assert_int_equal(generation_put_title(writer, "N99", 3, "", 0, &err), -ERR_INVALID);
    assert_int_equal(generation_put_title(writer, "N99", 3, "\xC3", 1, &err), -ERR_INVALID);
    assert_int_equal(generation_delete(writer, STORE_SUMMARY, "U1", 2, &err), -ERR_INVALID);
    assert_int_equal(generation_delete(writer, STORE_WHY, "U1", 2, &err), -ERR_INVALID);
    assert_int_equal(generation_delete(writer, STORE_CONTENT, "a b", 3, &err), -ERR_INVALID);
    assert_int_equal(generation_delete(writer, STORE_CONTENT, "", 0, &err), -ERR_INVALID);
    ok(generation_flush(writer, &err));
    assert_verified(f, name, 0);
    assert_value(f->link, name, STORE_TITLE, "N1", "goes");
    assert_value(f->link, name, STORE_WHY, "u:U1", user_why);
    ok(generation_delete(writer, STORE_USER, "U1", 2, &err));
    ok(generation_delete(writer, STORE_CONTENT, "N1", 2, &err));
    ok(generation_delete(writer, STORE_CONTENT, "N2", 2, &err));
    ok(generation_delete(writer, STORE_CONTENT, "N3", 2, &err));
    ok(generation_flush(writer, &err));
    assert_verified(f, name, 0);
    assert_changes(f->link, name, cursor, 100, "uU3 uU99 cN99 uU1 cN1 cN2 cN3 ");
    manifest = plan_of(5);
    manifest.refreshed = 1000;
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_publish(writer, &err));
    generation_end(writer);
    assert_live(f->link, name);
    assert_verified(f, name, 0);
    assert_value(f->link, name, STORE_USER, "U1", NULL);
    assert_value(f->link, name, STORE_SUMMARY, "U1", NULL);
    assert_value(f->link, name, STORE_SUMMARY, "U99", "new");
    title[STORE_TITLE_MAX - 1] = '\0';
    assert_value(f->link, name, STORE_TITLE, "N99", title);
    assert_value(f->link, name, STORE_TITLE, "N1", NULL);
    assert_value(f->link, name, STORE_WHY, "c:N1", NULL);
    assert_value(f->link, name, STORE_WHY, "u:U1", NULL);
    assert_value(f->link, name, STORE_WHY, "u:U99", user_why);
    assert_value(f->link, name, STORE_WHY, "c:N99", content_why);
    assert_value(f->link, name, STORE_JOURNAL, "", "");
    ok(manifest_get(&read, f->link, name, &err));
    assert_int_equal(read.users, USERS);
    assert_int_equal(read.users_least, USERS);
    assert_int_equal(read.contents, CONTENTS - 2);
    assert_int_equal(read.contents_least, CONTENTS - 2);
    assert_true(read.settings == 5 && read.refreshed == 1000);
    assert_string_equal(read.previous, ""); /* not itself */

    writer = resume(f, 5, GENERATION_ANY); /* with nothing to do */
    ok(generation_expect(writer, &(struct generation_turnover){USERS, 0, CONTENTS - 2, 0, false}, &err));
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_publish(writer, &err));
    generation_end(writer);
    assert_changes(f->link, name, cursor, 100, "");
    assert_verified(f, name, 0);
}

/* A writer that dies between its values and the stream: the next one tells what they were. */
static void test_killed_inside(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX], cursor[STORE_CURSOR_MAX] = "";
    publish_all(f, 5, name);
    put_text(f->link, name, STORE_JOURNAL, "", "uU2\ncN5\nk\nnonsense\nkworld news\nc\n");
    struct generation_writer *writer = resume(f, 5, GENERATION_ANY);
    assert_changes(f->link, name, cursor, 100, "uU2 cN5 kworld news ");
    assert_value(f->link, name, STORE_JOURNAL, "", "");
    generation_end(writer);
    writer = resume(f, 5, GENERATION_ANY);
    assert_changes(f->link, name, cursor, 100, "");

    /* One that had announced fewer contents, and was killed: the next one that leaves them counts again. */
    ok(generation_expect(writer, &(struct generation_turnover){USERS, 0, CONTENTS - 1, 1, false}, &err));
    ok(generation_delete(writer, STORE_CONTENT, "N1", 2, &err));
    ok(generation_flush(writer, &err));
    generation_end(writer);
    assert_verified(f, name, 0);
    writer = resume(f, 5, GENERATION_ANY);
    struct manifest manifest = plan_of(5);
    ok(generation_expect(writer, &(struct generation_turnover){USERS, 0, CONTENTS - 1, 0, false}, &err));
    ok(generation_finish(writer, &manifest, &err));
    generation_end(writer);
    ok(manifest_get(&manifest, f->link, name, &err));
    assert_int_equal(manifest.contents, CONTENTS - 1);
    assert_int_equal(manifest.contents_least, CONTENTS - 1);
    assert_verified(f, name, 0);

    const struct store_id id = id_of("N2"); /* a store that forgets is still found out */
    ok(store_delete(f->link, name, STORE_CONTENT, &id, 1, &err));
    assert_verified(f, name, -ERR_CORRUPT);
}

/* A writer that dies after a user's matrix is deleted and before the summary is, or after a summary is put and before the
 * matrix is; inside a generation, or in one that is built. What workers were to write is left to them. */
static void test_killed_deleting(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    for (int building = 0; building <= 2; building++) { /* 2: by workers */
        const bool gone_too = building < 2;
        const uint64_t settings = 5 + (uint64_t)building;
        const enum generation_choice choice = building ? GENERATION_ANEW : GENERATION_ANY;
        if (building) {
            struct generation_writer *const first = resume(f, settings, choice);
            put_generation(first);
            ok(generation_flush(first, &err));
            snprintf(name, sizeof name, "%s", generation_name(first));
            generation_end(first);
        } else {
            publish_all(f, settings, name);
        }
        const struct store_id gone = id_of("U1");
        ok(store_delete(f->link, name, STORE_USER, &gone, 1, &err));
        put_text(f->link, name, STORE_SUMMARY, "U7", "of one whose matrix comes");
        ok(store_delete(f->link, name, STORE_CONTENT, &(struct store_id){"N2", 2}, 1, &err));
        for (const char *const *id = (const char *const[]){"u:U1", "u:U2", "c:N1", "c:N2", NULL}; *id; id++)
            put_text(f->link, name, STORE_WHY, *id, "why");
        put_text(f->link, name, STORE_JOURNAL, "",
            building == 2 ? "+\nuU7\nuU1\ncN2\n" : "uU7\nuU1\ncN1\nuU2\ncN2\n");
        assert_value(f->link, name, STORE_SUMMARY, "U1", "likes tests");
        struct generation_writer *const writer = resume(f, settings, choice);
        assert_string_equal(generation_name(writer), name);
        assert_value(f->link, name, STORE_SUMMARY, "U1", gone_too ? NULL : "likes tests");
        assert_value(f->link, name, STORE_SUMMARY, "U2", "likes tests");
        assert_value(f->link, name, STORE_SUMMARY, "U7", gone_too ? NULL : "of one whose matrix comes");
        assert_value(f->link, name, STORE_WHY, "u:U1", gone_too ? NULL : "why");
        assert_value(f->link, name, STORE_WHY, "u:U2", "why");
        assert_value(f->link, name, STORE_WHY, "c:N1", "why");
        assert_value(f->link, name, STORE_WHY, "c:N2", gone_too ? NULL : "why");
        assert_value(f->link, name, STORE_JOURNAL, "", "");
        generation_end(writer);
    }
}

/* An operator who promotes by hand: refreshes go on with what is ready, and leave the live one alone. */
static void test_apart(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX], ready[STORE_GENERATION_MAX];
    struct manifest manifest = plan_of(5);
    publish_all(f, 5, name);
    struct generation_writer *writer = resume(f, 5, GENERATION_APART);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    snprintf(ready, sizeof ready, "%s", generation_name(writer));
    const struct generation_turnover all = turnover(USERS, 0, CONTENTS, 0);
    ok(generation_expect(writer, &all, &err));
    put_generation(writer);
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_keep(writer, &err));
    generation_end(writer);
    assert_int_equal(state_of(f->link, ready, NULL), STORE_READY);

    writer = resume(f, 5, GENERATION_APART);
    assert_int_equal(generation_mode(writer), GENERATION_INSIDE);
    assert_string_equal(generation_name(writer), ready);
    ok(generation_expect(writer, &all, &err));
    put_matrix(writer, BLOB_USER, "U3", 9, M);
    ok(generation_finish(writer, &manifest, &err));
    ok(generation_keep(writer, &err));
    generation_end(writer);
    assert_int_equal(state_of(f->link, ready, NULL), STORE_READY);
    assert_live(f->link, name);
    writer = resume(f, 5, GENERATION_ANY); /* the live one has the right of way */
    assert_string_equal(generation_name(writer), name);
    generation_end(writer);
    writer = resume(f, 5, GENERATION_ANEW);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    generation_end(writer);
    writer = resume(f, 5, GENERATION_ANEW);
    assert_int_equal(generation_mode(writer), GENERATION_RESUMED);
    generation_end(writer);
}

/* Another dtype, other dimensions, a manifest that cannot be read: begin anew. */
static void test_others(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    struct generation_writer *writer = NULL;
    publish_all(f, 5, name);
    struct manifest plan = plan_of(5);
    plan.dtype = BLOB_BF16;
    ok(generation_resume(&writer, f->store, &plan, GENERATION_ANY, &err));
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    generation_end(writer);
    plan = plan_of(5);
    plan.m++;
    ok(generation_resume(&writer, f->store, &plan, GENERATION_ANY, &err));
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    generation_end(writer);
    put_text(f->link, name, STORE_MANIFEST, "", "{}");
    writer = resume(f, 5, GENERATION_ANY);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    generation_end(writer);
    make_generation(f->store, BLOB_F32, true, name); /* an import does not say what it was made with */
    writer = resume(f, 0, GENERATION_ANY);
    assert_int_equal(generation_mode(writer), GENERATION_NEW);
    generation_end(writer);
}

/* A writer whose lock has passed on can do nothing more. */
static void test_fenced(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    uint64_t token;
    publish_all(f, 5, name);
    struct generation_writer *writer = resume(f, 5, GENERATION_ANY);
    put_matrix(writer, BLOB_USER, "U3", 9, M);
    ok(store_unlock(f->link, lease_token(writer->lease), &err));
    ok(store_lock(f->link, 60000, &token, &err));
    struct manifest manifest = plan_of(5);
    ok(generation_expect(writer, &(struct generation_turnover){USERS, 0, CONTENTS, 0, false}, &err));
    assert_int_equal(generation_finish(writer, &manifest, &err), -ERR_FENCED);
    assert_int_equal(generation_publish(writer, &err), -ERR_INVALID);
    generation_end(writer);
    assert_verified(f, name, 0);
    ok(store_unlock(f->link, token, &err));
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_left_building),
        store_test(test_expectation),
        store_test(test_inside),
        store_test(test_killed_inside),
        store_test(test_killed_deleting),
        store_test(test_apart),
        store_test(test_others),
        store_test(test_fenced),
    };
    return test_group("resuming", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
