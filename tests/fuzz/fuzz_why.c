/* Explanations as the store keeps them (store/why.h): what is accepted is written and read back as the same. */
#include "core/id.h"
#include "store/why.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Six digits of a weight are kept. */
static bool near(float a, float b)
{
    return fabsf(a - b) <= 1e-5f * fabsf(a) + 1e-44f;
}

static void check_accepted(const struct why *why)
{
    struct why back;
    char *const text = why_write(why);
    must(text);
    must(why_read(&back, text, strlen(text), NULL) == 0);
    must(back.code_count == why->code_count && why->first[0] == 0);
    for (size_t code = 0; code < why->code_count; code++)
        must(why->first[code] <= why->first[code + 1] && back.first[code + 1] == why->first[code + 1]);
    for (size_t i = 0; i < why->first[why->code_count]; i++) {
        const struct why_look *const one = &why->looks[i], *const other = &back.looks[i];
        must(utf8_valid(one->name, one->len) && isfinite(one->weight));
        must(one->len == other->len && memcmp(one->name, other->name, one->len) == 0);
        must(near(one->weight, other->weight));
    }
    why_done(&back);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct why why = {.code_count = 0};
    struct err err = ERR_INIT;
    fuzz_memory_count();
    const int code = why_read(&why, data, size, &err);
    if (code < 0)
        fuzz_must_tell(code, &err);
    else
        check_accepted(&why);
    why_done(&why);
    /* Without memory an explanation is not called damaged. */
    fuzz_memory_fail(data, size);
    const int again = why_read(&why, data, size, &err);
    must(again == (fuzz_memory_failed() ? -ERR_NOMEM : code));
    why_done(&why);
    return 0;
}
