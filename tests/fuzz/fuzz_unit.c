/* A unit of work as it comes out of the store, or, where the first byte is odd, its result. What is read is written as it
 * was. Hardly any input has the right checksum, so each unit is read once more with the checksum put right. */
#include "batch/unit.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_written(const struct unit *unit, const uint8_t *data, size_t size)
{
    struct unit_bytes bytes = {.used = 0};
    struct err err = ERR_INIT;
    size_t tokens = 0;
    must(unit_begin(&bytes, &unit->head, &err) == 0);
    for (size_t i = 0; i < unit->count; i++) {
        must(unit_put(&bytes, &unit->entities[i], &err) == 0);
        for (size_t k = 0; k < unit->entities[i].item_count; k++)
            tokens += unit->entities[i].items[k].count;
    }
    unit_seal(&bytes);
    must(bytes.used == size && memcmp(bytes.at, data, size) == 0);
    must(tokens == unit->token_count);
    free(bytes.at);
}

/* A model is given nothing that is outside of its tables. */
static void check_fits(const struct unit *unit)
{
    static const struct model_config config = {
        .d_model = 4, .vocab_size = 300, .user_codes = 2, .content_codes = 1, .max_items = 3};
    struct err err = ERR_INIT;
    const int code = unit_fits(unit, &config, 8, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    must(unit->head.cols == 4 && unit->head.rows == (unit->head.kind == BLOB_USER ? 2 : 1));
    for (size_t i = 0; i < unit->token_count; i++)
        must(unit->tokens[i] >= 0 && unit->tokens[i] < 300);
    for (size_t i = 0; i < unit->count; i++)
        must(unit->entities[i].item_count <= 3);
}

static void check_unit(const uint8_t *data, size_t size)
{
    struct unit unit;
    struct err err = ERR_INIT;
    fuzz_memory_count();
    const int code = unit_read(&unit, data, size, &err);
    if (code == 0) {
        check_written(&unit, data, size);
        check_fits(&unit);
        unit_done(&unit);
    } else {
        fuzz_must_tell(code, &err);
        must(code == -ERR_CORRUPT);
    }
    fuzz_memory_count();
    if (unit_read(&unit, data, size, NULL) == 0)
        unit_done(&unit);
    fuzz_memory_fail(data, size);
    const int again = unit_read(&unit, data, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    if (again == 0)
        unit_done(&unit);
}

static void check_result(const uint8_t *data, size_t size)
{
    struct unit_result result, second;
    struct err err = ERR_INIT;
    fuzz_memory_count();
    const int code = unit_result_read(&result, data, size, &err);
    fuzz_memory_fail(data, size);
    const int again = unit_result_read(&second, data, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    if (again == 0)
        unit_result_done(&second);
    if (code < 0) {
        must(code == -ERR_CORRUPT);
        return;
    }
    char *const text = unit_result_write(&result);
    must(text);
    must(unit_result_read(&second, text, strlen(text), &err) == 0);
    must(second.job == result.job && second.number == result.number && second.tokens == result.tokens);
    must(second.refused_count == result.refused_count);
    for (size_t i = 0; i < result.refused_count; i++) {
        must(strcmp(second.refused[i].id.id, result.refused[i].id.id) == 0);
        must(strcmp(second.refused[i].why, result.refused[i].why) == 0);
    }
    free(text);
    unit_result_done(&second);
    unit_result_done(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    const bool result = fuzz_byte(&input) % 2;
    const size_t left = (size_t)(input.end - input.at);
    if (result) {
        check_result(input.at, left);
        return 0;
    }
    check_unit(input.at, left);
    if (left < 48)
        return 0;
    struct unit_bytes sealed = {malloc(left), left, left};
    must(sealed.at);
    memcpy(sealed.at, input.at, left);
    unit_seal(&sealed);
    check_unit(sealed.at, left);
    free(sealed.at);
    return 0;
}
