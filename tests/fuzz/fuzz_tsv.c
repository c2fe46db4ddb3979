/* The files of a refresh and of a training: news.tsv, behaviors.tsv, categories.tsv and summaries.jsonl, one behind the
 * other with a line "====" between them; the first byte is how many bad rows are allowed. The news are held to what the
 * rest of the program takes for granted, and the others to the news.
 *
 * What the readers tell goes to /dev/full: a full disk under stderr changes no result. */
#include "batch/categories.h"
#include "batch/impressions.h"
#include "batch/summaries.h"
#include "tests/lib/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part before the next line "====". */
static struct fuzz_input next_part(struct fuzz_input *input)
{
    struct fuzz_input part = {input->at, input->at};
    const char *line;
    size_t len;
    while (fuzz_line(input, &line, &len)) {
        if (len == 4 && memcmp(line, "====", 4) == 0)
            return part;
        part.end = input->at;
    }
    return part;
}

static const char *part_file(const struct fuzz_input *part)
{
    return fuzz_file(part->at, (size_t)(part->end - part->at));
}

static bool has_any(const char *text, size_t len, const char *bytes)
{
    for (size_t i = 0; i < len; i++)
        if (strchr(bytes, text[i])) /* the NUL, too */
            return true;
    return false;
}

static void check_ids(const struct id_map *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        const char *const id = id_map_get(ids, i);
        must(id_check(id, ids->length[i], NULL) == 0 && strlen(id) == ids->length[i]);
        must(id_map_find(ids, id, ids->length[i]) == (ptrdiff_t)i);
    }
}

static void check_news(const struct news *news)
{
    must(news->ids.count > 0);
    check_ids(&news->ids);
    for (size_t i = 0; i < news->ids.count; i++) {
        const struct text_item item = news_item(news, i);
        for (size_t c = 0; c < TEXT_COLUMNS; c++) {
            must(utf8_valid(item.column[c].bytes, item.column[c].len));
            must(!has_any(item.column[c].bytes, item.column[c].len, "\t\n"));
        }
    }
}

static void check_histories(const struct fuzz_input *part, const struct news *news, size_t max_bad)
{
    struct histories histories;
    struct err err = ERR_INIT;
    const int code = histories_load(&histories, part_file(part), news, max_bad, false, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    size_t dropped = 0;
    check_ids(&histories.users);
    for (size_t i = 0; i < histories.users.count; i++) {
        const struct history *const history = &histories.history[i];
        must(history->count <= history->asked);
        for (size_t k = 0; k < history->count; k++)
            must(history->items[k] < news->ids.count);
        dropped += history->asked - history->count;
    }
    must(histories.dropped == dropped);
    histories_done(&histories);
}

/* A sum over all impressions that shows any difference between two passes. */
static uint64_t read_impressions(struct impressions *in, int *code, struct err *err)
{
    uint64_t sum = 14695981039346656037u;
    while ((*code = impressions_next(in, err)) > 0) {
        const struct impression *const row = &in->row;
        must(id_check(row->id, strlen(row->id), NULL) == 0 &&
             id_check(row->user, strlen(row->user), NULL) == 0);
        must(row->candidate_count > 0 && row->history_count <= row->history_asked);
        for (size_t i = 0; i < row->history_count; i++) {
            must(row->history[i] < in->news->ids.count);
            sum = (sum ^ row->history[i]) * 1099511628211u;
        }
        for (size_t i = 0; i < row->candidate_count; i++) {
            must(row->candidates[i] < in->news->ids.count);
            must(!row->labelled || row->labels[i] <= 1);
            sum = (sum ^ row->candidates[i]) * 1099511628211u + (row->labelled ? row->labels[i] : 2u);
        }
    }
    return sum;
}

static void check_impressions(const struct fuzz_input *part, const struct news *news, size_t max_bad)
{
    for (int round = 0; round < 2; round++) {
        const struct impressions_options options = {
            .path = part_file(part), .max_bad = max_bad, .label_needed = round == 1};
        struct impressions in;
        struct err err = ERR_INIT;
        int first, second;
        must(impressions_open(&in, &options, news, &err) == 0);
        const uint64_t sum = read_impressions(&in, &first, &err);
        const size_t count = in.count, bad = in.tsv.bad;
        must(first == 0 ? bad <= max_bad : first == -ERR_INVALID && bad > max_bad);
        must(impressions_rewind(&in, &err) == 0);
        must(read_impressions(&in, &second, &err) == sum);
        must(second == first && in.count == count && in.tsv.bad == bad);
        impressions_close(&in);
    }
}

static void check_members(const struct categories *categories, const struct id_map *contents)
{
    for (size_t i = 0; i < categories->names.count; i++)
        must(category_check(id_map_get(&categories->names, i), categories->names.length[i], NULL) == 0);
    for (size_t i = 0; i < categories->count; i++) {
        const struct category_member *const at = &categories->members[i];
        must(at->category < categories->names.count && at->content < contents->count);
        must(!i || at[-1].category < at->category ||
             (at[-1].category == at->category && at[-1].content < at->content));
    }
}

/* A content's categories, written and read again. */
static void check_written(const struct categories *categories, const struct id_map *contents)
{
    struct categories again;
    struct err err = ERR_INIT;
    must(categories_write(categories, contents, fuzz_path(), &err) == 0);
    must(categories_read(&again, fuzz_path(), contents, &err) == 0 && again.count == categories->count);
    for (size_t i = 0; i < again.count; i++) {
        const struct category_member *const a = &again.members[i], *const b = &categories->members[i];
        const char *const name = id_map_get(&again.names, a->category);
        must(a->content == b->content && strcmp(name, id_map_get(&categories->names, b->category)) == 0);
    }
    categories_done(&again);
}

static void check_categories(const struct fuzz_input *part, const struct news *news)
{
    struct categories categories;
    struct err err = ERR_INIT;
    must(categories_of_news(&categories, news, false, &err) == 0);
    check_members(&categories, &news->ids);
    check_written(&categories, &news->ids);
    categories_done(&categories);
    const int code = categories_read(&categories, part_file(part), &news->ids, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    check_members(&categories, &news->ids);
    categories_done(&categories);
}

static int take_summary(void *ctx, const char *user, size_t user_len, const char *summary, struct err *err)
{
    (void)err;
    must(strlen(user) == user_len && utf8_valid(user, user_len) && utf8_valid(summary, strlen(summary)));
    ++*(size_t *)ctx;
    return 0;
}

static void check_summaries(const struct fuzz_input *part)
{
    struct err err = ERR_INIT;
    size_t count = 0;
    const int code = summaries_read(part_file(part), take_summary, &count, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
    }
}

static void check_all(struct fuzz_input input)
{
    const size_t max_bad = fuzz_byte(&input);
    const struct fuzz_input news_part = next_part(&input), behaviors = next_part(&input),
                            categories = next_part(&input);
    struct news news;
    struct err err = ERR_INIT;
    const int code = news_load(&news, part_file(&news_part), max_bad, false, &err);
    check_summaries(&input);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    check_news(&news);
    check_histories(&behaviors, &news, max_bad);
    check_impressions(&behaviors, &news, max_bad);
    check_categories(&categories, &news);
    news_done(&news);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *full;
    if (!full) {
        full = fopen("/dev/full", "we");
        must(full);
        setvbuf(full, NULL, _IONBF, 0); /* as stderr is */
    }
    FILE *const told = stderr;
    stderr = full; /* the sanitizers write to the descriptor itself */
    check_all((struct fuzz_input){data, data + size});
    stderr = told;
    return 0;
}
