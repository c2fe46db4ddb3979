#include "batch/history_record.h"

#include "core/array.h"
#include "core/id.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HEAD_MOST (2 + 21 + 21 + 17 + STORE_CURSOR_MAX + 1)

int history_record_add(struct history_record *record, const char *id, size_t len, struct err *err)
{
    const int result = array_grow(&record->ids, &record->size, record->count + 1, sizeof *record->ids, err);
    if (result == 0)
        record->ids[record->count++] = (struct store_id){id, len};
    return result;
}

void history_record_clear(struct history_record *record)
{
    record->seen = record->base = record->count = 0;
    record->last[0] = '\0';
}

void history_record_done(struct history_record *record)
{
    free(record->ids);
    *record = (struct history_record){0};
}

static uint64_t check_of(const struct history_record *record, const char *ids, size_t len)
{
    const uint64_t numbers[2] = {htole64(record->seen), htole64(record->base)};
    const uint64_t seed =
        XXH3_64bits_withSeed(record->last, strlen(record->last), XXH3_64bits(numbers, sizeof numbers));
    return XXH3_64bits_withSeed(ids, len, seed);
}

/* ---- reading ---- */

/* A decimal number with a blank behind it. */
static bool take_number(size_t *out, const char **at, const char *end)
{
    const char *const space = memchr(*at, ' ', (size_t)(end - *at));
    size_t number = 0;
    if (!space || space == *at || space - *at > 15)
        return false;
    for (; *at < space; ++*at) {
        if (**at < '0' || **at > '9')
            return false;
        number = number * 10 + (size_t)(**at - '0');
    }
    *out = number;
    ++*at;
    return true;
}

static bool take_hex(uint64_t *out, const char **at, const char *end)
{
    char digits[17] = "";
    if (end - *at < 17 || (*at)[16] != ' ')
        return false;
    memcpy(digits, *at, 16);
    if (strspn(digits, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(digits, NULL, 16);
    *at += 17;
    return true;
}

static bool take_last(char last[STORE_CURSOR_MAX], const char **at, const char *end)
{
    const char *const line = memchr(*at, '\n', (size_t)(end - *at));
    if (!line || line == *at || line - *at >= STORE_CURSOR_MAX)
        return false;
    memcpy(last, *at, (size_t)(line - *at));
    last[line - *at] = '\0';
    if (strspn(last, "0123456789-") != (size_t)(line - *at)) /* as places of both stores are written */
        return false;
    if (strcmp(last, "-") == 0)
        last[0] = '\0';
    *at = line + 1;
    return true;
}

int history_record_parse(struct history_record *record, const char *text, size_t len, struct err *err)
{
    const char *at = text, *const end = text + len;
    size_t version;
    uint64_t check;
    history_record_clear(record);
    if (!take_number(&version, &at, end) || version != 1 || !take_number(&record->seen, &at, end) ||
        !take_number(&record->base, &at, end) || !take_hex(&check, &at, end) ||
        !take_last(record->last, &at, end))
        return err_set(err, ERR_CORRUPT, "a history has no proper first line");
    if (check != check_of(record, at, (size_t)(end - at)))
        return err_set(err, ERR_CORRUPT, "a history's checksum is wrong");
    while (at < end) {
        const char *const line = memchr(at, '\n', (size_t)(end - at));
        if (!line || id_check(at, (size_t)(line - at), NULL) < 0)
            return err_set(err, ERR_CORRUPT, "a history holds what is no id");
        const int result = history_record_add(record, at, (size_t)(line - at), err);
        if (result < 0)
            return result;
        at = line + 1;
    }
    return record->base <= record->count ? 0 : err_set(err, ERR_CORRUPT, "a history is shorter than it says");
}

/* ---- writing ---- */

size_t history_record_bytes(const struct history_record *record)
{
    size_t bytes = HEAD_MOST;
    for (size_t i = 0; i < record->count; i++)
        bytes += record->ids[i].len + 1;
    return bytes;
}

size_t history_record_format(char *out, const struct history_record *record)
{
    char head[HEAD_MOST + 1];
    char *at = out + HEAD_MOST, *const ids = at;
    for (size_t i = 0; i < record->count; i++) {
        memcpy(at, record->ids[i].id, record->ids[i].len);
        at += record->ids[i].len;
        *at++ = '\n';
    }
    const size_t bytes = (size_t)(at - ids);
    const int len = snprintf(head, sizeof head, "1 %zu %zu %016" PRIx64 " %s\n", record->seen, record->base,
        check_of(record, ids, bytes), record->last[0] ? record->last : "-");
    memcpy(out, head, (size_t)len);
    memmove(out + len, ids, bytes);
    return (size_t)len + bytes;
}
