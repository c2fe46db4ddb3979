#include "core/json.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* jansson's lexer overlooks that a byte could not be appended, and later trips over its absence. So it never learns: while a
 * text is read, what jansson allocates is noted, and the first allocation that fails leaves the reader by longjmp, and all
 * that was noted is freed. (A reserve to go on with would have to be as large as the text asks.) The memory is malloc's, so
 * that free() does for what json_dumps() returns, as it did. */
struct reading {
    jmp_buf out;
    void **blocks;
    size_t count, size;
};

static _Thread_local struct reading *now;
static _Thread_local size_t failures;

static int note(struct reading *reading, void *block)
{
    if (reading->count == reading->size) {
        const size_t size = 2 * reading->size + 64;
        void **more = realloc(reading->blocks, size * sizeof *more);
        if (!more)
            return -1;
        reading->blocks = more;
        reading->size = size;
    }
    reading->blocks[reading->count++] = block;
    return 0;
}

static void *take(size_t size)
{
    void *block = malloc(size);
    failures += !block;
    if (!now || (block && note(now, block) == 0))
        return block;
    free(block);
    longjmp(now->out, 1);
}

size_t json_failures(void)
{
    return failures;
}

/* What goes while a text is read has mostly just come. */
static void give(void *block)
{
    for (size_t i = now && block ? now->count : 0; i-- > 0;)
        if (now->blocks[i] == block) {
            now->blocks[i] = now->blocks[--now->count];
            break;
        }
    free(block);
}

char *json_write(const json_t *tree, size_t flags)
{
    const size_t before = failures;
    char *text = json_dumps(tree, flags);
    if (before == failures)
        return text;
    free(text);
    return NULL;
}

/* Before there are threads. */
__attribute__((constructor)) static void replace_allocator(void)
{
    json_set_alloc_funcs(take, give);
}

json_t *json_read(const char *text, size_t len, size_t flags, json_error_t *where)
{
    struct reading reading = {.count = 0};
    json_t *tree = NULL;
    now = &reading;
    if (setjmp(reading.out) == 0) {
        tree = json_loadb(text, len, flags, where);
        now = NULL;
    } else {
        now = NULL;
        for (size_t i = 0; i < reading.count; i++)
            free(reading.blocks[i]);
        if (where) {
            *where = (json_error_t){.line = -1, .column = -1};
            strcpy(where->text, "out of memory");
            where->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory; /* for json_error_code() */
        }
    }
    free(reading.blocks);
    return tree;
}
