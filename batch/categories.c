#include "batch/categories.h"

#include "batch/lines.h"
#include "batch/progress.h"
#include "core/array.h"
#include "core/file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- members ---- */

static int add(struct categories *categories, const char *name, size_t len, size_t content, struct err *err)
{
    if (category_check(name, len, err) < 0)
        return -ERR_INVALID;
    if (array_grow(&categories->members, &categories->capacity, categories->count + 1,
            sizeof *categories->members, err) < 0)
        return -ERR_NOMEM;
    const ptrdiff_t category = id_map_add(&categories->names, name, len, NULL);
    if (category < 0)
        return err_set(err, ERR_NOMEM, "out of memory");
    categories->members[categories->count++] =
        (struct category_member){(uint32_t)category, (uint32_t)content};
    return 0;
}

static int compare_members(const void *a, const void *b)
{
    const struct category_member *x = a, *y = b;
    if (x->category != y->category)
        return x->category < y->category ? -1 : 1;
    return (x->content > y->content) - (x->content < y->content);
}

/* Put the members in order, each once. */
static void settle(struct categories *categories)
{
    struct category_member *members = categories->members;
    size_t kept = 0;
    if (categories->count)
        qsort(members, categories->count, sizeof *members, compare_members);
    for (size_t i = 0; i < categories->count; i++)
        if (!i || compare_members(&members[i], &members[i - 1]) != 0)
            members[kept++] = members[i];
    categories->count = kept;
}

void categories_done(struct categories *categories)
{
    id_map_done(&categories->names);
    free(categories->members);
    *categories = (struct categories){0};
}

/* ---- where they come from ---- */

int categories_of_news(struct categories *categories, const struct news *news, bool quiet, struct err *err)
{
    struct news_text text = {0};
    int result = 0;
    *categories = (struct categories){0};
    for (size_t i = 0; result == 0 && i < news->ids.count; i++) {
        result = news_item(&text, news, i, err);
        if (result < 0 || !text.item.column[TEXT_CATEGORY].len)
            continue;
        struct err why = ERR_INIT;
        result = add(
            categories, text.item.column[TEXT_CATEGORY].bytes, text.item.column[TEXT_CATEGORY].len, i, &why);
        if (result == -ERR_INVALID) {
            progress_say(quiet, "the item %s of line %u is in no category: %s", id_map_get(&news->ids, i),
                news->rows[i].line, why.message);
            result = 0;
        } else if (result < 0) {
            err_set(err, ERR_NOMEM, "%s", why.message);
        }
    }
    news_text_done(&text);
    if (result < 0)
        categories_done(categories);
    else
        settle(categories);
    return result;
}

struct category_lines {
    struct categories *categories;
    const struct id_map *contents;
};

static int take_line(void *ctx, const char *line, size_t len, struct err *err)
{
    const struct category_lines *lines = ctx;
    len = lines_trim(line, len);
    const char *const tab = memchr(line, '\t', len);
    if (!tab)
        return err_set(err, ERR_INVALID, "an id, a tab and a category are expected");
    const size_t id_len = (size_t)(tab - line);
    const ptrdiff_t content = id_map_find(lines->contents, line, id_len);
    if (content < 0)
        return err_set(
            err, ERR_INVALID, "content %.*s is not in content.ids", (int)(id_len < 64 ? id_len : 64), line);
    return add(lines->categories, tab + 1, len - id_len - 1, (size_t)content, err);
}

int categories_read(
    struct categories *categories, const char *path, const struct id_map *contents, struct err *err)
{
    *categories = (struct categories){0};
    const int result =
        lines_read(path, SIZE_MAX, take_line, &(struct category_lines){categories, contents}, err);
    if (result < 0)
        categories_done(categories);
    else
        settle(categories);
    return result;
}

/* ---- where they go ---- */

int categories_write(
    const struct categories *categories, const struct id_map *contents, const char *path, struct err *err)
{
    struct file_replacement file;
    const int result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < categories->count; i++) {
        const struct category_member *member = &categories->members[i];
        fprintf(file.stream, "%s\t%s\n", id_map_get(contents, member->content),
            id_map_get(&categories->names, member->category));
    }
    return file_replace_commit(&file, err);
}

/* The first member of a category, or of one behind it. */
static size_t first_member(const struct categories *categories, size_t category)
{
    size_t low = 0, high = categories->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (categories->members[middle].category < category)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t categories_contents(
    struct store_id *ids, const struct categories *categories, const struct id_map *contents, size_t category)
{
    size_t count = 0;
    for (size_t i = first_member(categories, category);
         i < categories->count && categories->members[i].category == category; i++) {
        const size_t content = categories->members[i].content;
        ids[count++] = (struct store_id){id_map_get(contents, content), contents->length[content]};
    }
    return count;
}

int categories_put(const struct categories *categories, const struct id_map *contents, const bool *only,
    struct generation_writer *writer, struct err *err)
{
    struct store_id *ids = malloc((categories->count + 1) * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = 0;
    for (size_t i = 0; result == 0 && i < categories->names.count; i++) {
        if (only && !only[i])
            continue;
        const size_t count = categories_contents(ids, categories, contents, i);
        result = generation_put_category(
            writer, id_map_get(&categories->names, i), categories->names.length[i], ids, count, err);
    }
    free(ids);
    return result;
}
