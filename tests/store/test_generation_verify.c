/* The verification of generations, run over every backend. */
#include "tests/lib/generations.h"

#include <stdio.h>
#include <stdlib.h>

struct complaints {
    char text[1024]; /* "c N1 owner;" */
};

static void complain(void *ctx, enum store_kind kind, const char *id, const char *reason)
{
    struct complaints *const complaints = ctx;
    const size_t used = strlen(complaints->text);
    snprintf(complaints->text + used, sizeof complaints->text - used, "%c %s %s;", (char)kind, id, reason);
}

static void assert_verdict(struct store_link *link, const char *name, size_t bad, const char *complaint)
{
    struct complaints complaints = {""};
    struct generation_check check = {0};
    struct err err = ERR_INIT;
    const int rc = generation_verify(&check, link, name, complain, &complaints, &err);
    if (bad == 0)
        test_ok(rc, "generation_verify", &err, __FILE__, __LINE__);
    else
        assert_int_equal(rc, -ERR_CORRUPT);
    assert_int_equal(check.bad, bad);
    if (!strstr(complaints.text, complaint))
        fail_msg("\"%s\" is not among \"%s\"", complaint, complaints.text);
}

static int keep(void *ctx, size_t index, const void *data, size_t len)
{
    struct store_entry *const entry = ctx;
    (void)index;
    assert_non_null(data);
    void *const copy = malloc(len);
    memcpy(copy, data, len);
    entry->data = copy;
    entry->len = len;
    return 0;
}

/* Put the value of one id under another, one byte changed if asked. */
static void copy_value(struct store_link *link, const char *name, enum store_kind kind, const char *from,
    const char *to, bool damage)
{
    const struct store_id id = {from, strlen(from)};
    struct store_entry entry = {{to, strlen(to)}, NULL, 0};
    struct err err = ERR_INIT;
    ok(store_get(link, name, kind, &id, 1, keep, &entry, &err));
    unsigned char *const data = (unsigned char *)(uintptr_t)entry.data;
    if (damage)
        data[entry.len / 2 + 20] ^= 1;
    ok(store_put(link, name, kind, &entry, 1, &err));
    free(data);
}

static void test_verify(void **state)
{
    struct test_store *const f = *state;
    struct generation_check check;
    struct manifest manifest;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    const struct store_click click = {{"U1", 2}, {"N1", 2}};
    put_text(f->link, STORE_SHARED, STORE_HISTORY, "U1", "no matrix, and of no generation");
    ok(store_clicks_append(f->link, &click, 1, &err));
    make_generation(f->store, BLOB_F16, true, name);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    assert_int_equal(check.users, USERS);
    assert_int_equal(check.contents, CONTENTS);
    assert_int_equal(check.bad, 0);
    assert_int_equal(check.bytes, USERS * (64 + 2 * M * D) + CONTENTS * (64 + 2 * N * D) + 64 + 2 * D * D);
    assert_verdict(f->link, name, 0, "");

    copy_value(f->link, name, STORE_CONTENT, "N1", "N2", false);
    assert_verdict(f->link, name, 1, "c N2 owner;");
    copy_value(f->link, name, STORE_USER, "U1", "U1", true);
    assert_verdict(f->link, name, 2, "u U1 check;");
    copy_value(f->link, name, STORE_USER, "", "", true);
    assert_verdict(f->link, name, 3, "u  check;");
    copy_value(f->link, name, STORE_SCORE_PROJ, "", "", true);
    assert_verdict(f->link, name, 4, "w  check;");
    const struct store_entry empty = {{"N3", 2}, "", 0};
    ok(store_put(f->link, name, STORE_CONTENT, &empty, 1, &err));
    assert_verdict(f->link, name, 5, "c N3 length;");

    /* A key too few: the manifest counts one more than there are. */
    ok(manifest_get(&manifest, f->link, name, &err));
    manifest.contents_least = ++manifest.contents;
    char *const json = manifest_dump(&manifest);
    const struct store_entry entry = {{"", 0}, json, strlen(json)};
    ok(store_put(f->link, name, STORE_MANIFEST, &entry, 1, &err));
    free(json);
    assert_verdict(f->link, name, 6, "c  count;");
    assert_int_equal(generation_verify(&check, f->link, name, NULL, NULL, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "11 of 12 contents"));
}

static void test_verify_categories(void **state)
{
    struct test_store *const f = *state;
    struct generation_check check;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    make_generation(f->store, BLOB_F32, true, name);
    put_text(f->link, name, STORE_CATEGORY, "world news", "N1\nN2\n");
    put_text(f->link, name, STORE_CATEGORY, "empty", "");
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    assert_int_equal(check.categories, 2);
    put_text(f->link, name, STORE_CATEGORY, "a b", "N1\nN 2\nN3\n");
    assert_verdict(f->link, name, 1, "k a b list;");
    put_text(f->link, name, STORE_CATEGORY, "cut", "N1\nN2");
    assert_verdict(f->link, name, 2, "k cut list;");
    put_text(f->link, name, STORE_CATEGORY, "blank", "N1\n\nN2\n");
    assert_verdict(f->link, name, 3, "k blank list;");
}

static void test_verify_texts(void **state)
{
    struct test_store *const f = *state;
    struct generation_check check;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX], longer[STORE_TITLE_MAX + 2];
    memset(longer, 'x', STORE_TITLE_MAX + 1);
    longer[STORE_TITLE_MAX + 1] = '\0';
    make_generation(f->store, BLOB_F32, true, name);
    put_text(f->link, name, STORE_TITLE, "N1", "A title \xC3\xA9");
    put_text(f->link, name, STORE_TITLE, "N2", longer + 1);
    put_text(f->link, name, STORE_WHY, "c:N1", "{\"codes\":[[[\"space\",0.5]],[]]}");
    put_text(f->link, name, STORE_WHY, "u:", "{\"codes\":[[[\"\",1]],[],[]]}");
    assert_true(N == 2 && M == 3);
    ok(generation_verify(&check, f->link, name, NULL, NULL, &err));
    assert_int_equal(check.titles, 2);
    assert_int_equal(check.explanations, 2);
    put_text(f->link, name, STORE_TITLE, "N1", longer);
    assert_verdict(f->link, name, 1, "t N1 text;");
    put_text(f->link, name, STORE_TITLE, "N2", "\xC3");
    assert_verdict(f->link, name, 2, "t N2 text;");
    put_text(f->link, name, STORE_TITLE, "N3", "");
    assert_verdict(f->link, name, 3, "t N3 text;");
    put_text(f->link, name, STORE_WHY, "c:N1", "{\"codes\":[[[\"space\",0.5]]]}"); /* a code too few */
    assert_verdict(f->link, name, 4, "x c:N1 json;");
    put_text(f->link, name, STORE_WHY, "u:U1", "{}");
    assert_verdict(f->link, name, 5, "x u:U1 json;");
}

static void test_verify_no_score_proj(void **state)
{
    struct test_store *const f = *state;
    struct manifest manifest = {.m = M, .n = N, .d = D};
    struct err err = ERR_INIT;
    char *const json = manifest_dump(&manifest);
    const struct store_entry entry = {{"", 0}, json, strlen(json)};
    ok(store_put(f->link, "g", STORE_MANIFEST, &entry, 1, &err));
    free(json);
    assert_verdict(f->link, "g", 1, "w  missing;");
}

static void test_damaged_manifest(void **state)
{
    struct test_store *const f = *state;
    struct manifest manifest;
    struct err err = ERR_INIT;
    const struct store_entry entry = {{"", 0}, "{\"m\": 1}", 8};
    ok(store_put(f->link, "g", STORE_MANIFEST, &entry, 1, &err));
    assert_int_equal(manifest_get(&manifest, f->link, "g", &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "generation g: manifest: \"n\" is missing"));
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_verify),
        store_test(test_verify_categories),
        store_test(test_verify_texts),
        store_test(test_verify_no_score_proj),
        store_test(test_damaged_manifest),
    };
    return test_group("verification", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}
