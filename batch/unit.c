#include "batch/unit.h"

#include "core/array.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { HEAD = 48, COUNT_AT = 36, CHECK_AT = 40, VERSION = 1, TOLD = 1, WIDE = 2 };

/* ---- writing ---- */

static void put_number(unsigned char *at, uint64_t number, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (unsigned char)(number >> 8 * i);
}

static uint64_t get_number(const unsigned char *at, size_t width)
{
    uint64_t number = 0;
    for (size_t i = 0; i < width; i++)
        number |= (uint64_t)at[i] << 8 * i;
    return number;
}

static uint64_t check_of(const unsigned char *data, size_t len)
{
    unsigned char head[HEAD];
    memcpy(head, data, HEAD);
    memset(head + CHECK_AT, 0, 8);
    return XXH3_64bits_withSeed(data + HEAD, len - HEAD, XXH3_64bits(head, HEAD));
}

int unit_begin(struct unit_bytes *bytes, const struct unit_head *head, struct err *err)
{
    const size_t name = strlen(head->generation);
    const int result = array_grow(&bytes->at, &bytes->size, HEAD + 1 + name, 1, err);
    if (result < 0)
        return result;
    unsigned char *at = bytes->at;
    memset(at, 0, HEAD);
    memcpy(at, "EMBU", 4);
    at[4] = VERSION;
    at[5] = (unsigned char)head->kind;
    at[6] = (unsigned char)head->dtype;
    at[7] = (unsigned char)((head->told ? TOLD : 0) | (head->wide ? WIDE : 0));
    put_number(at + 8, head->job, 8);
    put_number(at + 16, head->settings, 8);
    put_number(at + 24, head->number, 4);
    put_number(at + 28, head->rows, 4);
    put_number(at + 32, head->cols, 4);
    at[HEAD] = (unsigned char)name;
    memcpy(at + HEAD + 1, head->generation, name);
    bytes->used = HEAD + 1 + name;
    return 0;
}

int unit_put(struct unit_bytes *bytes, const struct unit_entity *entity, struct err *err)
{
    const size_t width = bytes->at[7] & WIDE ? 4 : 2;
    size_t need = bytes->used + 14 + entity->id.len + 4 * entity->item_count;
    for (size_t i = 0; i < entity->item_count; i++)
        need += width * entity->items[i].count;
    const int result = array_grow(&bytes->at, &bytes->size, need, 1, err);
    if (result < 0)
        return result;
    unsigned char *at = bytes->at + bytes->used;
    put_number(at, entity->inputs, 8);
    put_number(at + 8, entity->id.len, 2);
    put_number(at + 10, entity->item_count, 4);
    at += 14;
    if (entity->id.len)
        memcpy(at, entity->id.id, entity->id.len);
    at += entity->id.len;
    for (size_t i = 0; i < entity->item_count; i++) {
        const struct encode_item *item = &entity->items[i];
        put_number(at, item->count, 4);
        at += 4;
        for (size_t k = 0; k < item->count; k++, at += width)
            put_number(at, (uint32_t)item->ids[k], width);
    }
    bytes->used = need;
    put_number(bytes->at + COUNT_AT, get_number(bytes->at + COUNT_AT, 4) + 1, 4);
    return 0;
}

void unit_seal(struct unit_bytes *bytes)
{
    put_number(bytes->at + CHECK_AT, check_of(bytes->at, bytes->used), 8);
}

/* ---- reading: once to check and to count, once more to take what was counted ---- */

struct reader {
    const unsigned char *at, *end;
    size_t width;                           /* of a token */
    size_t entities, items, tokens, id_len; /* of what has been passed */
    struct unit *unit;                      /* NULL: this is the first time */
};

/* Pass so many numbers of a width and point at them. False: there are not so many bytes. */
static bool pass(struct reader *r, const unsigned char **out, size_t count, size_t width)
{
    if (count > (size_t)(r->end - r->at) / width)
        return false;
    *out = r->at;
    r->at += count * width;
    return true;
}

static bool read_item(struct reader *r)
{
    const unsigned char *head, *tokens;
    if (!pass(r, &head, 4, 1))
        return false;
    const size_t count = (size_t)get_number(head, 4);
    if (!pass(r, &tokens, count, r->width))
        return false;
    if (r->unit) {
        int32_t *ids = r->unit->tokens + r->tokens;
        r->unit->items[r->items] = (struct encode_item){ids, count};
        for (size_t i = 0; i < count; i++)
            ids[i] = (int32_t)get_number(tokens + i * r->width, r->width);
    }
    r->items++;
    r->tokens += count;
    return true;
}

static bool read_entity(struct reader *r, enum blob_kind kind)
{
    const unsigned char *head, *id;
    if (!pass(r, &head, 14, 1))
        return false;
    const size_t id_len = (size_t)get_number(head + 8, 2), items = (size_t)get_number(head + 10, 4),
                 first = r->items;
    if (!pass(r, &id, id_len, 1) ||
        store_id_check((enum store_kind)kind, (const char *)id, id_len, NULL) < 0 ||
        (kind == BLOB_CONTENT && items != 1))
        return false;
    for (size_t i = 0; i < items; i++)
        if (!read_item(r))
            return false;
    if (r->unit) {
        char *copy = r->unit->ids + r->id_len;
        memcpy(copy, id, id_len);
        r->unit->entities[r->entities] =
            (struct unit_entity){{copy, id_len}, get_number(head, 8), r->unit->items + first, items};
    }
    r->entities++;
    r->id_len += id_len;
    return true;
}

static bool read_entities(struct reader *r, enum blob_kind kind, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!read_entity(r, kind))
            return false;
    return r->at == r->end;
}

static bool read_head(struct unit_head *head, size_t *used, const unsigned char *data, size_t len)
{
    const size_t name = len > HEAD ? data[HEAD] : 0;
    if (name == 0 || name >= sizeof head->generation || len - HEAD - 1 < name ||
        memchr(data + HEAD + 1, '\0', name) || memcmp(data, "EMBU", 4) != 0 || data[4] != VERSION ||
        (data[5] != BLOB_USER && data[5] != BLOB_CONTENT) || data[6] > BLOB_F16 || data[7] > (TOLD | WIDE) ||
        get_number(data + CHECK_AT, 8) != check_of(data, len))
        return false;
    *head = (struct unit_head){.kind = (enum blob_kind)data[5],
        .dtype = (enum blob_dtype)data[6],
        .told = data[7] & TOLD,
        .wide = data[7] & WIDE,
        .job = get_number(data + 8, 8),
        .settings = get_number(data + 16, 8),
        .number = (uint32_t)get_number(data + 24, 4),
        .rows = (size_t)get_number(data + 28, 4),
        .cols = (size_t)get_number(data + 32, 4)};
    memcpy(head->generation, data + HEAD + 1, name);
    *used = HEAD + 1 + name;
    return true;
}

int unit_read(struct unit *unit, const void *data, size_t len, struct err *err)
{
    const unsigned char *bytes = data;
    struct unit read = {.count = 0};
    size_t used;
    if (!read_head(&read.head, &used, bytes, len))
        return err_set(err, ERR_CORRUPT, "bytes that are no unit of work");
    const size_t count = (size_t)get_number(bytes + COUNT_AT, 4), width = read.head.wide ? 4 : 2;
    struct reader first = {.at = bytes + used, .end = bytes + len, .width = width}, second = first;
    if (!read_entities(&first, read.head.kind, count))
        return err_set(err, ERR_CORRUPT, "a unit of work that contradicts itself");
    read.count = count;
    read.token_count = first.tokens;
    read.entities = calloc(count + 1, sizeof *read.entities);
    read.items = calloc(first.items + 1, sizeof *read.items);
    read.tokens = calloc(first.tokens + 1, sizeof *read.tokens);
    read.ids = malloc(first.id_len + 1);
    if (!read.entities || !read.items || !read.tokens || !read.ids) {
        unit_done(&read);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    second.unit = &read;
    read_entities(&second, read.head.kind, count);
    *unit = read;
    return 0;
}

void unit_done(struct unit *unit)
{
    free(unit->entities);
    free(unit->items);
    free(unit->tokens);
    free(unit->ids);
    *unit = (struct unit){.count = 0};
}

/* ---- the model ---- */

int unit_fits(const struct unit *unit, const struct model_config *config, size_t item_tokens, struct err *err)
{
    const struct unit_head *head = &unit->head;
    const size_t rows = head->kind == BLOB_USER ? model_m(config) : model_n(config);
    if (head->rows != rows || head->cols != config->d_model)
        return err_set(err, ERR_INVALID, "a unit wants matrices of %zu x %zu, the model makes %zu x %zu",
            head->rows, head->cols, rows, config->d_model);
    for (size_t i = 0; i < unit->count; i++) {
        const struct unit_entity *entity = &unit->entities[i];
        if (head->kind == BLOB_USER && entity->item_count > config->max_items)
            return err_set(err, ERR_INVALID, "a unit has a user with %zu items, the model reads %zu",
                entity->item_count, config->max_items);
        for (size_t k = 0; k < entity->item_count; k++)
            if (entity->items[k].count == 0 || entity->items[k].count > item_tokens)
                return err_set(err, ERR_INVALID,
                    "a unit has an item of %zu tokens, the model's have 1 to %zu", entity->items[k].count,
                    item_tokens);
    }
    for (size_t i = 0; i < unit->token_count; i++)
        if (unit->tokens[i] < 0 || (size_t)unit->tokens[i] >= config->vocab_size)
            return err_set(err, ERR_INVALID, "a unit has the token %d, the model's vocabulary has %zu",
                unit->tokens[i], config->vocab_size);
    return 0;
}
