/* Histories as the store keeps them (batch/history_record.h). Bytes are a record, or, by the first of them, lines of ids that
 * are made one. What is accepted is written as it was, keeps its rules, and any byte changed is found. */
#include "batch/history_record.h"
#include "core/id.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_accepted(const struct history_record *record, size_t size)
{
    must(record->base <= record->count);
    must(memchr(record->last, '\0', sizeof record->last));
    for (size_t i = 0; i < record->count; i++)
        must(id_check(record->ids[i].id, record->ids[i].len, NULL) == 0);
    char *const again = malloc(history_record_bytes(record));
    must(again);
    /* Numbers have one form but for zeros before them, which are no other record. */
    const size_t len = history_record_format(again, record);
    must(len <= history_record_bytes(record) && len <= size);
    struct history_record back = {0};
    must(history_record_parse(&back, again, len, NULL) == 0);
    must(back.seen == record->seen && back.base == record->base && back.count == record->count);
    must(strcmp(back.last, record->last) == 0);
    history_record_done(&back);
    free(again);
}

static int check(const uint8_t *data, size_t size)
{
    struct history_record record = {0};
    struct err err = ERR_INIT;
    const int code = history_record_parse(&record, (const char *)data, size, &err);
    if (code < 0)
        fuzz_must_tell(code, &err);
    else
        check_accepted(&record, size);
    history_record_done(&record);
    return code;
}

/* A record made of the lines that are ids; then one byte of its text is changed. */
static void check_made(struct fuzz_input input)
{
    struct history_record record = {.seen = fuzz_byte(&input)};
    const uint8_t where = fuzz_byte(&input), what = fuzz_byte(&input);
    const char *line;
    size_t len;
    strcpy(record.last, where % 2 ? "1795875506000-3" : "");
    while (fuzz_line(&input, &line, &len))
        if (id_check(line, len, NULL) == 0)
            must(history_record_add(&record, line, len, NULL) == 0);
    record.base = where % (record.count + 1);
    uint8_t *const text = malloc(history_record_bytes(&record));
    must(text);
    const size_t size = history_record_format((char *)text, &record);
    must(check(text, size) == 0);
    if (what) {
        text[where * size / 256] ^= what;
        must(check(text, size) == -ERR_CORRUPT);
    }
    free(text);
    history_record_done(&record);
}

/* Without memory a record is not called damaged. */
static void check_short(const uint8_t *data, size_t size, int code)
{
    struct history_record record = {0};
    struct err err = ERR_INIT;
    fuzz_memory_fail(data, size);
    const int again = history_record_parse(&record, (const char *)data, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    history_record_done(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    struct history_record record = {0};
    if (fuzz_byte(&input) % 2) {
        check_made(input);
        return 0;
    }
    const size_t left = (size_t)(input.end - input.at);
    check(input.at, left);
    fuzz_memory_count();
    const int code = history_record_parse(&record, (const char *)input.at, left, NULL);
    check_short(input.at, left, code);
    history_record_done(&record);
    return 0;
}
