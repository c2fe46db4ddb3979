/* The id under which an entry is stored: that of a map's index, and behind the last the default user's, which is empty. */
#ifndef EMBSUM_BATCH_ENTRY_ID_H
#define EMBSUM_BATCH_ENTRY_ID_H

#include "core/id.h"
#include "store/store.h"

static inline struct store_id entry_id(const struct id_map *ids, size_t index)
{
    return index < ids->count ? (struct store_id){id_map_get(ids, index), ids->length[index]}
                              : (struct store_id){"", 0};
}

#endif
