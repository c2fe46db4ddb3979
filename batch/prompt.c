#include "batch/prompt.h"

#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_MAX = 1 << 20, ITEMS_MAX = 10000, WORDS_MAX = 100000 };

struct span {
    const char *bytes;
    size_t len;
};

enum section { SECTION_SYSTEM, SECTION_USER, SECTION_ITEM, SECTIONS };
static const char *const section_name[SECTIONS] = {"[system]", "[user]", "[item]"};

struct prompt_template {
    char *bytes;                   /* the file; the sections point into it */
    struct span section[SECTIONS]; /* .bytes is NULL where there is none */
    size_t line[SECTIONS];         /* of a section's first line of text */
    size_t items, abstract_words;
};

/* ---- the pieces of a section ---- */

enum piece { PIECE_TITLE, PIECE_ABSTRACT, PIECE_CATEGORY, PIECE_SUBCATEGORY, PIECE_HISTORY, PIECE_TEXT };
static const char *const placeholder[PIECE_TEXT] = {
    "{title}", "{abstract}", "{category}", "{subcategory}", "{history}"};
static const enum text_column piece_column[PIECE_HISTORY] = {
    TEXT_TITLE, TEXT_ABSTRACT, TEXT_CATEGORY, TEXT_SUBCATEGORY};

/* Cut the next piece off *rest, which is not empty. A brace that begins no placeholder comes as a text of one
 * byte; template_check has refused those. */
static enum piece next_piece(struct span *piece, struct span *rest)
{
    enum piece kind = PIECE_TEXT;
    size_t used = 1, shown = 1;
    if (*rest->bytes != '{') {
        const char *brace = memchr(rest->bytes, '{', rest->len);
        used = shown = brace ? (size_t)(brace - rest->bytes) : rest->len;
    } else if (rest->len > 1 && rest->bytes[1] == '{') {
        used = 2;
    } else {
        for (kind = 0; kind < PIECE_TEXT; kind++) {
            used = strlen(placeholder[kind]);
            if (used <= rest->len && memcmp(rest->bytes, placeholder[kind], used) == 0)
                break;
        }
        if (kind == PIECE_TEXT)
            used = 1;
    }
    *piece = (struct span){rest->bytes, shown};
    *rest = (struct span){rest->bytes + used, rest->len - used};
    return kind;
}

/* The item's line up to the next "; ". */
static struct span next_part(struct span *rest)
{
    const char *end = memmem(rest->bytes, rest->len, "; ", 2);
    const struct span part = {rest->bytes, end ? (size_t)(end - rest->bytes) : rest->len};
    const size_t used = part.len + (end ? 2 : 0);
    *rest = (struct span){rest->bytes + used, rest->len - used};
    return part;
}

/* ---- reading a template ---- */

/* In this section only the placeholders from first to last are known. */
static int check_section(const struct prompt_template *t, enum section section, enum piece first,
    enum piece last, size_t *placeholders, struct err *err)
{
    struct span rest = t->section[section], piece;
    size_t line = t->line[section];
    while (rest.len) {
        const char brace = *rest.bytes;
        const bool meant = brace == '{' && rest.len > 1 && rest.bytes[1] == '{';
        const enum piece kind = next_piece(&piece, &rest);
        if (kind >= first && kind <= last)
            ++*placeholders;
        else if (kind != PIECE_TEXT)
            return err_set(err, ERR_INVALID, "%zu: %s does not belong into %s", line, placeholder[kind],
                section_name[section]);
        else if (brace == '{' && !meant)
            return err_set(err, ERR_INVALID,
                "%zu: no placeholder begins with %.*s; a mere brace is written {{", line,
                (int)(rest.len < 12 ? rest.len + 1 : 12), piece.bytes);
        for (size_t i = 0; kind == PIECE_TEXT && i < piece.len; i++)
            line += piece.bytes[i] == '\n';
    }
    return 0;
}

static int template_check(struct prompt_template *t, struct err *err)
{
    size_t histories = 0, columns = 0;
    if (!t->section[SECTION_USER].len)
        return err_set(err, ERR_INVALID, "no text in a section [user]");
    if (!t->section[SECTION_ITEM].bytes)
        t->section[SECTION_ITEM] = (struct span){"{title}; {abstract}", strlen("{title}; {abstract}")};
    if (memchr(t->section[SECTION_ITEM].bytes, '\n', t->section[SECTION_ITEM].len))
        return err_set(err, ERR_INVALID, "%zu: [item] is one line", t->line[SECTION_ITEM] + 1);
    for (enum section s = SECTION_SYSTEM; s <= SECTION_USER; s++) {
        const int result = check_section(t, s, PIECE_HISTORY, PIECE_HISTORY, &histories, err);
        if (result < 0)
            return result;
    }
    if (!histories)
        return err_set(err, ERR_INVALID, "{history} is nowhere: the prompt would be the same for every user");
    const int result = check_section(t, SECTION_ITEM, PIECE_TITLE, PIECE_SUBCATEGORY, &columns, err);
    if (result < 0 || columns)
        return result;
    return err_set(err, ERR_INVALID, "[item] has no placeholder: all items would look the same");
}

/* A line above the sections: a comment, a setting, or empty. */
static int take_setting(struct prompt_template *t, const char *line, size_t number, struct err *err)
{
    char name[32], more;
    long value;
    if (*line == '#' || line[strspn(line, " \t")] == '\0')
        return 0;
    if (sscanf(line, " %31[a-z_] = %ld %c", name, &value, &more) != 2)
        return err_set(err, ERR_INVALID, "%zu: neither a comment, a setting nor a section", number);
    const bool items = strcmp(name, "items") == 0;
    if (!items && strcmp(name, "abstract_words") != 0)
        return err_set(err, ERR_INVALID, "%zu: no setting is called %s", number, name);
    if (value < (items ? 1 : 0) || value > (items ? ITEMS_MAX : WORDS_MAX))
        return err_set(err, ERR_INVALID, "%zu: %s must be between %d and %d", number, name, items ? 1 : 0,
            items ? ITEMS_MAX : WORDS_MAX);
    *(items ? &t->items : &t->abstract_words) = (size_t)value;
    return 0;
}

/* Sections grow line by line: from their first line that is not blank to their last one. */
static int template_parse(struct prompt_template *t, struct err *err)
{
    enum section section = SECTIONS;
    size_t number = 0;
    char *next;
    for (char *line = t->bytes; *line; line = next) {
        size_t len = strcspn(line, "\n");
        next = line + len + (line[len] == '\n');
        number++;
        enum section named = 0;
        while (named < SECTIONS &&
               (strlen(section_name[named]) != len || memcmp(line, section_name[named], len) != 0))
            named++;
        if (named < SECTIONS) {
            if (t->section[named].bytes)
                return err_set(err, ERR_INVALID, "%zu: a second section %s", number, section_name[named]);
            section = named;
            t->section[section] = (struct span){line, 0};
        } else if (section == SECTIONS) {
            line[len] = '\0';
            const int result = take_setting(t, line, number, err);
            if (result < 0)
                return result;
        } else if (strspn(line, " \t") < len) {
            struct span *text = &t->section[section];
            if (!text->len) {
                text->bytes = line;
                t->line[section] = number;
            }
            text->len = (size_t)(line + len - text->bytes);
        }
    }
    return template_check(t, err);
}

/* Drop what editors leave behind: a byte order mark, carriage returns at the ends of lines. */
static void clean(char *bytes)
{
    const char *from = strncmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? bytes + 3 : bytes;
    char *to = bytes;
    for (; *from; from++)
        if (from[0] != '\r' || from[1] != '\n')
            *to++ = *from;
    *to = '\0';
}

int prompt_template_load(struct prompt_template **out, const char *name, struct err *err)
{
    const char *shipped = prompt_shipped(name);
    struct prompt_template *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_NOMEM, "out of memory");
    t->items = 30;
    t->abstract_words = 100;
    size_t len = 0;
    int result = 0;
    if (!shipped)
        result = file_read(&t->bytes, &len, name, TEMPLATE_MAX, err);
    else if ((t->bytes = strdup(shipped)) != NULL)
        len = strlen(t->bytes);
    else
        result = err_set(err, ERR_NOMEM, "out of memory");
    if (result == 0) {
        if (strlen(t->bytes) != len || !utf8_valid(t->bytes, len))
            result = err_set(err, ERR_INVALID, " not a text in UTF-8");
        clean(t->bytes);
        if (result == 0)
            result = template_parse(t, err);
        if (result < 0)
            err_place(err, "template %s:", name);
    }
    if (result < 0)
        prompt_template_free(t);
    else
        *out = t;
    return result;
}

void prompt_template_free(struct prompt_template *t)
{
    if (!t)
        return;
    free(t->bytes);
    free(t);
}

/* ---- writing a prompt ---- */

static bool blank(char c)
{
    return (unsigned char)c <= ' ' || c == 0x7F;
}

/* The next word, cut off *rest; false when there is none. Control characters end words: one line stays one. */
static bool next_word(struct span *word, struct span *rest)
{
    while (rest->len && blank(*rest->bytes))
        *rest = (struct span){rest->bytes + 1, rest->len - 1};
    *word = (struct span){rest->bytes, 0};
    while (word->len < rest->len && !blank(rest->bytes[word->len]))
        word->len++;
    *rest = (struct span){rest->bytes + word->len, rest->len - word->len};
    return word->len > 0;
}

static struct span column_of(const struct prompt_template *t, const struct text_item *item, enum piece piece)
{
    struct span text = {item->column[piece_column[piece]].bytes, item->column[piece_column[piece]].len};
    if (piece == PIECE_ABSTRACT && !t->abstract_words)
        text.len = 0;
    return text;
}

/* Has one of the placeholders in this stretch of the item's line a text? *count = how many there are up to it. */
static bool has_text(
    size_t *count, const struct prompt_template *t, struct span line, const struct text_item *item)
{
    *count = 0;
    while (line.len) {
        struct span piece, word, text;
        const enum piece kind = next_piece(&piece, &line);
        if (kind == PIECE_TEXT)
            continue;
        ++*count;
        text = column_of(t, item, kind);
        if (next_word(&word, &text))
            return true;
    }
    return false;
}

static void write_item(FILE *out, const struct prompt_template *t, const struct text_item *item)
{
    struct span line = t->section[SECTION_ITEM], piece, word;
    const char *between = "";
    while (line.len) {
        struct span part = next_part(&line);
        size_t placeholders;
        if (!has_text(&placeholders, t, part, item) && placeholders)
            continue;
        fputs(between, out);
        between = "; ";
        while (part.len) {
            const enum piece kind = next_piece(&piece, &part);
            if (kind == PIECE_TEXT) {
                fwrite(piece.bytes, 1, piece.len, out);
                continue;
            }
            struct span text = column_of(t, item, kind);
            size_t left = kind == PIECE_ABSTRACT ? t->abstract_words : SIZE_MAX;
            for (const char *space = ""; left-- && next_word(&word, &text); space = " ")
                fprintf(out, "%s%.*s", space, (int)word.len, word.bytes);
        }
    }
}

/* Write the items of a history, from the newest on; without a stream look for the first that would be. Returns their
 * number, or a negative code. */
static ptrdiff_t write_history(FILE *out, const struct prompt_template *t, const struct news *news,
    const struct history *history, struct err *err)
{
    struct news_text text = {0};
    size_t listed = 0, ignored;
    int result = 0;
    for (size_t i = history->count; i-- && listed < (out ? t->items : 1);) {
        result = news_item(&text, news, history->items[i], err);
        if (result < 0)
            break;
        if (!has_text(&ignored, t, t->section[SECTION_ITEM], &text.item))
            continue;
        listed++;
        if (!out)
            continue;
        fprintf(out, "%s%zu. ", listed > 1 ? "\n" : "", listed);
        write_item(out, t, &text.item);
    }
    news_text_done(&text);
    return result < 0 ? result : (ptrdiff_t)listed;
}

int prompt_possible(
    const struct prompt_template *t, const struct news *news, const struct history *history, struct err *err)
{
    return (int)write_history(NULL, t, news, history, err);
}

static int write_section(char **text, const struct prompt_template *t, enum section section,
    const struct news *news, const struct history *history, struct err *err)
{
    struct span rest = t->section[section], piece;
    size_t len;
    char *bytes = NULL;
    ptrdiff_t result = 0;
    FILE *out = open_memstream(&bytes, &len);
    if (!out)
        return err_set(err, ERR_NOMEM, "out of memory");
    while (rest.len && result >= 0) {
        if (next_piece(&piece, &rest) == PIECE_HISTORY)
            result = write_history(out, t, news, history, err);
        else
            fwrite(piece.bytes, 1, piece.len, out);
    }
    const bool failed = ferror(out) != 0;
    if ((fclose(out) != 0 || failed) && result >= 0)
        result = err_set(err, ERR_NOMEM, "out of memory");
    if (result < 0) {
        free(bytes);
        return (int)result;
    }
    *text = bytes;
    return 0;
}

int prompt_write(struct prompt *out, const struct prompt_template *t, const struct news *news,
    const struct history *history, struct err *err)
{
    struct prompt prompt = {0};
    int result = 0;
    if (t->section[SECTION_SYSTEM].len)
        result = write_section(&prompt.system, t, SECTION_SYSTEM, news, history, err);
    if (result == 0)
        result = write_section(&prompt.user, t, SECTION_USER, news, history, err);
    if (result < 0)
        prompt_done(&prompt);
    else
        *out = prompt;
    return result;
}

void prompt_done(struct prompt *prompt)
{
    free(prompt->system);
    free(prompt->user);
    *prompt = (struct prompt){0};
}
