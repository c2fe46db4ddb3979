/* An embedded store that somebody else has written into: what is no click does not stop the reading, a number that is none
 * stops the appending, and a long id's value is not deleted for another's. */
#include "tests/lib/scratch.h"
#include "tests/lib/stores.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

static char root[256], url[320];
static struct store *store;
static struct store_link *link;

static void open_store(void)
{
    struct err err = ERR_INIT;
    ok(store_open(&store, url, NULL, &err));
    ok(store_connect(&link, store, &err));
}

static void close_store(void)
{
    store_disconnect(link);
    store_close(store);
}

/* Write a pair by LMDB itself; one process opens an environment once. */
static void write_pair(const char *key, const void *data, size_t len)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val name = {strlen(key), strdup(key)}, value = {len, malloc(len + 1)};
    memcpy(value.mv_data, data, len);
    close_store();
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, url + 5, 0, 0660), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &name, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    free(name.mv_data);
    free(value.mv_data);
    open_store();
}

static int setup(void **state)
{
    (void)state;
    scratch_make(root);
    snprintf(url, sizeof url, "lmdb:%s/store", root);
    open_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_store();
    scratch_remove(root);
    return 0;
}

static int take_click(void *ctx, const struct store_click *click, const char *cursor)
{
    char *const text = ctx;
    const size_t used = strlen(text);
    assert_true(*cursor && (click->user.len == 0) == (click->item.len == 0));
    snprintf(text + used, 128 - used, "%.*s>%.*s ", (int)click->user.len, click->user.id,
        (int)click->item.len, click->item.id);
    return 0;
}

static void test_alien_clicks(void **state)
{
    (void)state;
    const struct store_click click = {id_of("U1"), id_of("N1")};
    static const char *const values[] = {"U1 N5", "", " ", "U1", "U1 ", " N5", "U1 N5 N6", "U2 N6"};
    char text[128] = "", cursor[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    ok(store_clicks_append(link, &click, 1, &err));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char key[64];
        snprintf(key, sizeof key, "{embsum}:clicks:%020zu", i + 2);
        write_pair(key, values[i], strlen(values[i]));
    }
    write_pair("{embsum}:clicks", "9", 1);
    ok(store_clicks_append(link, &click, 1, &err));
    ok(store_clicks_read(link, cursor, 100, take_click, text, &err));
    assert_string_equal(text, "U1>N1 U1>N5 > > > > > > U2>N6 U1>N1 ");
    assert_string_equal(cursor, "10");
    static const char *const bad[] = {"", "x", "-1", "09", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_pair("{embsum}:clicks", bad[i], strlen(bad[i]));
        assert_int_equal(store_clicks_append(link, &click, 1, &err), -ERR_CORRUPT);
        assert_non_null(strstr(err.message, "last click"));
    }
    ok(store_clicks_trim(link, cursor, &err));
}

/* The value that lies where a long id's is kept has the id that it belongs to. */
static void test_same_hash(void **state)
{
    (void)state;
    static char mine[ID_MAX + 1], other[ID_MAX + 1], value[2 + ID_MAX + 5], key[128];
    struct err err = ERR_INIT;
    memset(mine, 'a', ID_MAX);
    memset(other, 'b', ID_MAX);
    put_text(link, "g", STORE_USER, mine, "mine");
    char whole[ID_MAX + 16];
    const int len = snprintf(whole, sizeof whole, "embsum:g:u:%s", mine);
    const XXH128_hash_t hash = XXH3_128bits(whole, (size_t)len);
    snprintf(key, sizeof key, "embsum:g:u:\t%016llx%016llx", (unsigned long long)hash.high64,
        (unsigned long long)hash.low64);
    value[0] = (char)(ID_MAX & 0xFF);
    value[1] = (char)(ID_MAX >> 8);
    memcpy(value + 2, other, ID_MAX);
    memcpy(value + 2 + ID_MAX, "other", 5);
    write_pair(key, value, sizeof value);
    const struct store_id id = id_of(mine);
    assert_value(link, "g", STORE_USER, mine, NULL);
    ok(store_delete(link, "g", STORE_USER, &id, 1, &err));
    assert_int_equal(scan_count(link, "g", STORE_USER), 1);
    write_pair(key, "x", 1); /* damaged, and nobody's: it may go */
    ok(store_delete(link, "g", STORE_USER, &id, 1, &err));
    put_text(link, "g", STORE_USER, mine, "again");
    assert_value(link, "g", STORE_USER, mine, "again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alien_clicks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_hash, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
