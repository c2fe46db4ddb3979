/* The names under which everything is found, and the small texts that stand in the generations table. One
 * place for all backends: what redis-cli shows is what mdb_dump shows. */
#include "store/store_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"building", "ready", "live", "retired"};

const char *store_state_name(enum store_state state)
{
    return (size_t)state < sizeof state_names / sizeof *state_names ? state_names[state] : "unknown";
}

bool store_name_valid(const char *text, size_t len)
{
    if (len == 0 || len >= STORE_GENERATION_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                c == '_' || c == '-'))
            return false;
    }
    return true;
}

int store_name_copy(
    char out[STORE_GENERATION_MAX], const char *text, size_t len, const char *what, struct err *err)
{
    if (!store_name_valid(text, len))
        return err_set(err, ERR_CORRUPT, "%s holds %zu bytes that are no generation's name", what, len);
    memcpy(out, text, len);
    out[len] = '\0';
    return 0;
}

bool store_number_parse(uint64_t *out, const char *text, size_t len)
{
    uint64_t value = 0;
    if (len == 0 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        const unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *out = value;
    return true;
}

/* ---- rows ---- */

void store_row_format(char out[STORE_ROW_MAX], const struct store_generation *row)
{
    snprintf(out, STORE_ROW_MAX, "%s %" PRIu64, store_state_name(row->state), row->token);
}

static bool row_parse(struct store_generation *row, const char *value, size_t len)
{
    const char *const space = memchr(value, ' ', len);
    if (!space)
        return false;
    const size_t word = (size_t)(space - value);
    for (size_t i = 0; i < sizeof state_names / sizeof *state_names; i++)
        if (strlen(state_names[i]) == word && memcmp(state_names[i], value, word) == 0) {
            row->state = (enum store_state)i;
            return store_number_parse(&row->token, space + 1, len - word - 1);
        }
    return false;
}

bool store_row_complete(const char *row, size_t len)
{
    struct store_generation parsed;
    return row_parse(&parsed, row, len) && parsed.state != STORE_BUILDING;
}

int store_rows_add(struct store_rows *rows, const char *name, size_t name_len, const char *value, size_t len,
    struct err *err)
{
    struct store_generation row;
    const int rc = store_name_copy(row.name, name, name_len, "the generations table", err);
    if (rc < 0)
        return rc;
    if (!row_parse(&row, value, len))
        return err_set(err, ERR_CORRUPT, "the row of generation %s is damaged", row.name);
    if (rows->count == rows->size) {
        const size_t size = rows->size ? 2 * rows->size : 16;
        struct store_generation *const at = realloc(rows->at, size * sizeof *at);
        if (!at)
            return err_set(err, ERR_NOMEM, "out of memory");
        rows->at = at;
        rows->size = size;
    }
    rows->at[rows->count++] = row;
    return 0;
}

/* ---- keys ---- */

/* Prefix, generation and id are checked at the door, and STORE_KEY_MAX has room for the longest of each. */
void store_key_append(struct store_key *key, const char *text, size_t len)
{
    if (len)
        memcpy(key->text + key->len, text, len);
    key->len += len;
}

static void append(struct store_key *key, const char *text)
{
    store_key_append(key, text, strlen(text));
}

/* {P}: is the hash tag that keeps all of these in one slot of a cluster, where one script may touch them. */
void store_key_global(struct store_key *key, const struct store *store, const char *what)
{
    key->len = 0;
    append(key, "{");
    append(key, store->prefix);
    append(key, "}:");
    append(key, what);
}

void store_key_changes(struct store_key *key, const struct store *store, const char *generation)
{
    store_key_global(key, store, generation);
    append(key, ":changes");
}

void store_key_shadow(struct store_key *key, const struct store *store, const char *generation)
{
    store_key_global(key, store, generation);
    append(key, ":shadow");
}

void store_key_generation(struct store_key *key, const struct store *store, const char *generation)
{
    key->len = 0;
    append(key, store->prefix);
    append(key, ":");
    append(key, generation);
    append(key, ":");
}

void store_key_kind(
    struct store_key *key, const struct store *store, const char *generation, enum store_kind kind)
{
    store_key_generation(key, store, generation);
    switch (kind) {
    case STORE_MANIFEST:
        append(key, "manifest");
        break;
    case STORE_JOURNAL:
        append(key, "journal");
        break;
    case STORE_SCORE_PROJ:
        append(key, "w");
        break;
    case STORE_USER:
        append(key, "u:");
        break;
    case STORE_CONTENT:
        append(key, "c:");
        break;
    case STORE_SUMMARY:
        append(key, "s:");
        break;
    case STORE_CATEGORY:
        append(key, "k:");
        break;
    case STORE_TITLE:
        append(key, "t:");
        break;
    case STORE_WHY:
        append(key, "x:");
        break;
    case STORE_HISTORY:
        append(key, "h:");
        break;
    }
}
