#include "batch/titles.h"

#include "batch/entry_id.h"
#include "batch/lines.h"
#include "core/file.h"
#include "store/title.h"

#include <stdlib.h>
#include <string.h>

enum { ASKED_AT_ONCE = 1024 };

/* ---- the store ---- */

struct comparing {
    bool *changed;
    const struct news_row *rows;
};

static int compare(void *ctx, size_t index, const void *data, size_t len)
{
    const struct comparing *comparing = ctx;
    comparing->changed[index] = comparing->rows[index].title != (data ? title_hash(data, len) : 0) ||
                                (data && !len); /* which is none */
    return 0;
}

int titles_compare(bool *changed, const struct news *news, struct generation_writer *writer,
    struct store_link *link, struct err *err)
{
    const bool fresh = generation_mode(writer) == GENERATION_NEW;
    struct store_id ids[ASKED_AT_ONCE];
    int result = 0;
    for (size_t at = 0; result == 0 && at < news->ids.count; at += ASKED_AT_ONCE) {
        const size_t left = news->ids.count - at, some = left < ASKED_AT_ONCE ? left : ASKED_AT_ONCE;
        struct comparing comparing = {changed + at, news->rows + at};
        for (size_t i = 0; i < some; i++) {
            ids[i] = entry_id(&news->ids, at + i);
            changed[at + i] = news->rows[at + i].title != 0;
        }
        if (!fresh)
            result =
                store_get(link, generation_name(writer), STORE_TITLE, ids, some, compare, &comparing, err);
    }
    return result;
}

int titles_put(struct generation_writer *writer, struct news_text *text, const struct news *news,
    size_t index, struct err *err)
{
    const struct store_id id = entry_id(&news->ids, index);
    if (!news->rows[index].title)
        return generation_delete(writer, STORE_TITLE, id.id, id.len, err);
    const int result = news_item(text, news, index, err);
    return result < 0 ? result
                      : generation_put_title(writer, id.id, id.len, text->item.column[TEXT_TITLE].bytes,
                            text->item.column[TEXT_TITLE].len, err);
}

/* ---- files ---- */

int titles_write(const struct news *news, const char *path, struct err *err)
{
    struct file_replacement file;
    struct news_text text = {0};
    int result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    for (size_t i = 0; result == 0 && i < news->ids.count; i++) {
        if (!news->rows[i].title)
            continue;
        result = news_item(&text, news, i, err);
        if (result < 0)
            break;
        const char *title = text.item.column[TEXT_TITLE].bytes;
        const size_t len = title_cut(title, text.item.column[TEXT_TITLE].len);
        fprintf(file.stream, "%s\t%.*s\n", id_map_get(&news->ids, i), (int)len, title);
    }
    news_text_done(&text);
    if (result == 0)
        return file_replace_commit(&file, err);
    file_replace_abort(&file);
    return result;
}

struct title_lines {
    char **titles;
    const struct id_map *contents;
};

static int take_line(void *ctx, const char *line, size_t len, struct err *err)
{
    const struct title_lines *lines = ctx;
    len = lines_trim(line, len);
    const char *const tab = memchr(line, '\t', len), *const title = tab ? tab + 1 : line;
    if (!tab)
        return err_set(err, ERR_INVALID, "an id, a tab and a title are expected");
    const size_t id_len = (size_t)(tab - line), title_len = title_cut(title, len - id_len - 1);
    const ptrdiff_t content = id_map_find(lines->contents, line, id_len);
    const int shown = (int)(id_len < 64 ? id_len : 64);
    if (content < 0)
        return err_set(err, ERR_INVALID, "content %.*s is not in content.ids", shown, line);
    if (lines->titles[content])
        return err_set(err, ERR_INVALID, "content %.*s has a title already", shown, line);
    if (!title_len || memchr(title, '\0', title_len) || !utf8_valid(title, title_len))
        return err_set(err, ERR_INVALID, "a title must not be empty, and must be UTF-8 without NUL bytes");
    lines->titles[content] = strndup(title, title_len);
    return lines->titles[content] ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

int titles_read(char **titles, const char *path, const struct id_map *contents, struct err *err)
{
    return lines_read(path, SIZE_MAX, take_line, &(struct title_lines){titles, contents}, err);
}
