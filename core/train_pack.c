#include "core/train_pack.h"

#include "core/array.h"

#include <stdlib.h>
#include <string.h>

/* Items are the same text if they share their ids. */
static uint64_t hash(const struct encode_item *items, size_t count)
{
    uint64_t h = count;
    for (size_t i = 0; i < count; i++)
        h = (h ^ (uintptr_t)items[i].ids) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static bool same(const struct train_pack_sequence *a, const struct encode_item *items, size_t count)
{
    if (a->count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (a->items[i].ids != items[i].ids || a->items[i].count != items[i].count)
            return false;
    return true;
}

/* The slot of the sequence in the table, or the free one where it would be. */
static size_t find(const struct train_pack *p, const struct encode_item *items, size_t count)
{
    size_t slot = hash(items, count) & (p->table_size - 1);
    while (p->table[slot] && !same(&p->sequences[p->table[slot] - 1], items, count))
        slot = (slot + 1) & (p->table_size - 1);
    return slot;
}

ptrdiff_t train_pack_content(const struct train_pack *p, const struct encode_item *item)
{
    const size_t index = p->table[find(p, item, 1)];
    return index && index <= p->content_count ? (ptrdiff_t)index - 1 : -1;
}

/* Index of the sequence, added if it is new. The arrays have room. */
static uint32_t add(struct train_pack *p, const struct encode_item *items, size_t count)
{
    const size_t slot = find(p, items, count);
    size_t tokens = p->offsets[p->count];
    if (p->table[slot])
        return p->table[slot] - 1;
    for (size_t i = 0; i < count; i++) {
        memcpy(p->ids + tokens, items[i].ids, items[i].count * sizeof *p->ids);
        tokens += items[i].count;
    }
    p->sequences[p->count] = (struct train_pack_sequence){items, count};
    p->offsets[++p->count] = tokens;
    p->table[slot] = (uint32_t)p->count;
    return (uint32_t)p->count - 1;
}

static int reserve(struct train_pack *p, size_t tokens, size_t uses, size_t examples, struct err *err)
{
    size_t slots = 64;
    while (slots < 2 * uses)
        slots *= 2;
    int result = array_grow(&p->ids, &p->ids_size, tokens, sizeof *p->ids, err);
    if (result == 0)
        result = array_grow(&p->offsets, &p->offsets_size, uses + 1, sizeof *p->offsets, err);
    if (result == 0)
        result = array_grow(&p->first, &p->first_size, examples + 1, sizeof *p->first, err);
    if (result == 0)
        result = array_grow(&p->uses, &p->uses_size, uses, sizeof *p->uses, err);
    if (result == 0)
        result = array_grow(&p->sequences, &p->sequences_size, uses, sizeof *p->sequences, err);
    if (result == 0 && slots > p->table_size) {
        free(p->table);
        p->table = malloc(slots * sizeof *p->table);
        p->table_size = p->table ? slots : 0;
        if (!p->table)
            result = err_set(err, ERR_NOMEM, "out of memory");
    }
    return result;
}

/* The history of an example as it is encoded: an empty one is the session [SOS] </s>. */
static struct train_pack_sequence history_of(const struct train_pack *p, const struct train_example *x)
{
    return x->history_count ? (struct train_pack_sequence){x->history, x->history_count}
                            : (struct train_pack_sequence){&p->empty, 1};
}

int train_pack(struct train_pack *p, const struct model_config *config, const struct train_example *examples,
    size_t count, struct err *err)
{
    const size_t session = model_session_size(config);
    size_t tokens = 0, uses = 0;
    p->empty_ids[0] = config->sos_id;
    p->empty_ids[1] = config->eos_id;
    p->empty = (struct encode_item){p->empty_ids, 2};
    for (size_t e = 0; e < count; e++) {
        const struct train_pack_sequence history = history_of(p, &examples[e]);
        for (size_t i = 0; i < history.count; i++)
            tokens += history.items[i].count;
        for (size_t i = 0; i < examples[e].candidate_count; i++)
            tokens += examples[e].candidates[i].count;
        uses += (history.count + session - 1) / session + examples[e].candidate_count;
    }
    const int result = reserve(p, tokens, uses, count, err);
    if (result < 0)
        return result;
    memset(p->table, 0, p->table_size * sizeof *p->table);
    p->count = p->offsets[0] = p->first[0] = 0;
    p->use_tokens = tokens;
    for (size_t e = 0; e < count; e++) { /* candidates before any history */
        const struct train_example *x = &examples[e];
        const size_t sessions = (history_of(p, x).count + session - 1) / session;
        for (size_t i = 0; i < x->candidate_count; i++)
            p->uses[p->first[e] + sessions + i] = add(p, &x->candidates[i], 1);
        p->first[e + 1] = p->first[e] + sessions + x->candidate_count;
    }
    p->content_count = p->count;
    for (size_t e = 0; e < count; e++) {
        const struct train_pack_sequence history = history_of(p, &examples[e]);
        for (size_t i = 0, s = 0; i < history.count; i += session, s++)
            p->uses[p->first[e] + s] =
                add(p, history.items + i, history.count - i < session ? history.count - i : session);
    }
    return 0;
}

void train_pack_done(struct train_pack *p)
{
    free(p->ids);
    free(p->offsets);
    free(p->first);
    free(p->uses);
    free(p->sequences);
    free(p->table);
    *p = (struct train_pack){0};
}
