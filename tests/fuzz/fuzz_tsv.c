/* The files of a refresh and of a training: news.tsv, behaviors.tsv, categories.tsv (read as titles.tsv, too) and
 * summaries.jsonl, one behind the other with a line "====" between them; the first byte is how many bad rows are allowed.
 * The news are held to what the rest of the program takes for granted, and the others to the news.
 *
 * What the readers tell goes to /dev/full: a full disk under stderr changes no result. */
#include "batch/categories.h"
#include "batch/impressions.h"
#include "batch/summaries.h"
#include "batch/titles.h"
#include "store/title.h"
#include "tests/lib/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* The news in a file of their own: they are read again while the others are. */
static int news_fd = -1;

static void write_news(const struct fuzz_input *part)
{
    const size_t size = (size_t)(part->end - part->at);
    must(ftruncate(news_fd, 0) == 0 && pwrite(news_fd, part->at, size, 0) == (ssize_t)size);
}

static const char *news_file(const struct fuzz_input *part)
{
    static char path[64];
    if (news_fd < 0)
        news_fd = memfd_create("news", MFD_CLOEXEC);
    must(news_fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", news_fd);
    write_news(part);
    return path;
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
    struct news_text text = {0};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < news->ids.count; i++) {
        must(news_item(&text, news, i, &err) == 0);
        for (size_t c = 0; c < TEXT_COLUMNS; c++) {
            must(utf8_valid(text.item.column[c].bytes, text.item.column[c].len));
            must(!has_any(text.item.column[c].bytes, text.item.column[c].len, "\t\n"));
        }
    }
    news_text_done(&text);
}

/* Each text is whole, or there is an error that says so. */
static void check_items(const struct news *news, enum err_code wrong)
{
    struct news_text text = {0};
    for (size_t i = 0; i < news->ids.count; i++) {
        struct err err = ERR_INIT;
        const int code = news_item(&text, news, i, &err);
        must(code == 0 || code == -(int)wrong);
        if (code < 0)
            fuzz_must_tell(code, &err);
    }
    news_text_done(&text);
}

/* Somebody cuts the file short, writes a byte, writes all of it; the disk cannot be read. */
static void check_changed(const struct fuzz_input *part, const struct news *news)
{
    static int folder = -1;
    const size_t size = (size_t)(part->end - part->at);
    if (folder < 0)
        folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(ftruncate(news_fd, (off_t)(size / 2)) == 0);
    check_items(news, ERR_CORRUPT);
    write_news(part);
    must(pwrite(news_fd, "\t", 1, (off_t)(size / 3)) == 1);
    check_items(news, ERR_CORRUPT);
    must(ftruncate(news_fd, 0) == 0 && ftruncate(news_fd, (off_t)size) == 0); /* zeros */
    check_items(news, ERR_CORRUPT);
    write_news(part);
    const int fd = dup(news->fd);
    must(dup2(folder, news->fd) == news->fd);
    check_items(news, ERR_IO);
    must(dup2(fd, news->fd) == news->fd && close(fd) == 0);
}

static size_t count_lines(const char *path)
{
    size_t lines = 0;
    FILE *const in = fopen(path, "re");
    must(in);
    for (int c; (c = getc(in)) != EOF;) {
        must(c == '\n' || c == '\t' ||
             (c >= ' ' && c != 0x7F)); /* the rows' other control bytes are written out */
        lines += c == '\n';
    }
    fclose(in);
    return lines;
}

/* Read once more, with a quarantine: one line for each bad row, and the rest is the same. */
static void check_quarantine(const struct fuzz_input *part, const struct news *news, size_t max_bad)
{
    struct quarantine quarantine;
    struct news again;
    struct err err = ERR_INIT;
    const struct tsv_options options = {.max_bad.rows = max_bad, .quarantine = &quarantine, .quiet = true};
    must(quarantine_open(&quarantine, fuzz_path(), &err) == 0);
    must(news_load(&again, news_file(part), &options, &err) == 0);
    must(again.ids.count == news->ids.count);
    for (size_t i = 0; i < news->ids.count; i++)
        must(again.rows[i].hash == news->rows[i].hash && again.rows[i].offset == news->rows[i].offset);
    news_done(&again);
    must(quarantine.rows <= max_bad && quarantine_close(&quarantine, &err) == 0);
    must(count_lines(fuzz_path()) == quarantine.rows);
}

/* Few are kept of what all is: the newest. */
static void check_kept(const struct histories *all, const struct histories *few)
{
    must(few->users.count == all->users.count && histories_ids(few).missing == histories_ids(all).missing);
    for (size_t i = 0; i < all->users.count; i++) {
        const struct history a = histories_get(all, i), f = histories_get(few, i);
        must(f.total == a.total && f.count == (a.count < few->keep ? a.count : few->keep));
        must(!f.count || memcmp(f.items, a.items + a.count - f.count, f.count * sizeof *f.items) == 0);
    }
}

static void check_histories(const struct fuzz_input *part, const struct news *news, size_t max_bad)
{
    const struct tsv_options options = {.max_bad.rows = max_bad};
    struct histories histories, few;
    struct err err = ERR_INIT;
    const int code = histories_load(&histories, part_file(part), news, SIZE_MAX, &options, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    size_t dropped = 0;
    check_ids(&histories.users);
    for (size_t i = 0; i < histories.users.count; i++) {
        const struct history history = histories_get(&histories, i);
        must(history.count == history.total && history.total <= histories.rows[i].asked);
        for (size_t k = 0; k < history.count; k++)
            must(history.items[k] < news->ids.count);
        dropped += histories.rows[i].asked - history.total;
    }
    must(histories_ids(&histories).missing == dropped);
    must(histories_load(&few, part_file(part), news, 3, &options, &err) == 0);
    check_kept(&histories, &few);
    histories_done(&few);
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
            .path = part_file(part), .max_bad.rows = max_bad, .label_needed = round == 1};
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

static void free_titles(char **titles, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(titles[i]);
    memset(titles, 0, count * sizeof *titles);
}

/* The news' titles, written and read again, are those that the store would get; whatever else is read is a title. */
static void check_titles(const struct fuzz_input *part, const struct news *news)
{
    const size_t count = news->ids.count;
    char **titles = calloc(count + 1, sizeof *titles);
    struct err err = ERR_INIT;
    must(titles);
    must(titles_write(news, fuzz_path(), &err) == 0);
    must(titles_read(titles, fuzz_path(), &news->ids, &err) == 0);
    for (size_t i = 0; i < count; i++)
        must(news->rows[i].title == title_hash(titles[i], titles[i] ? strlen(titles[i]) : 0));
    free_titles(titles, count);
    const int code = titles_read(titles, part_file(part), &news->ids, &err);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
    }
    for (size_t i = 0; i < count; i++)
        must(!titles[i] || (*titles[i] && utf8_valid(titles[i], strlen(titles[i]))));
    free_titles(titles, count);
    free(titles);
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
    const int code =
        news_load(&news, news_file(&news_part), &(struct tsv_options){.max_bad.rows = max_bad}, &err);
    check_summaries(&input);
    if (code < 0) {
        fuzz_must_tell(code, &err);
        must(code == -ERR_INVALID);
        return;
    }
    check_news(&news);
    check_changed(&news_part, &news);
    check_quarantine(&news_part, &news, max_bad);
    check_histories(&behaviors, &news, max_bad);
    check_impressions(&behaviors, &news, max_bad);
    check_categories(&categories, &news);
    check_titles(&categories, &news);
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
