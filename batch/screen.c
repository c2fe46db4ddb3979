#include "batch/screen.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define CUT "..."
enum { CUT_COLUMNS = 3, WIDTH_MIN = 20, WIDTH_USUAL = 80 };

void screen_init(struct screen *screen, FILE *out)
{
    const char *const no = getenv("NO_COLOR"), *const term = getenv("TERM");
    struct winsize size = {0};
    *screen = (struct screen){.out = out, .terminal = isatty(fileno(out)) == 1, .width = SIZE_MAX};
    if (!screen->terminal)
        return;
    screen->locale = newlocale(LC_CTYPE_MASK, SCREEN_LOCALE, (locale_t)0);
    screen->colour = !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
    screen->width = ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : WIDTH_USUAL;
    screen->width = screen->width < WIDTH_MIN ? WIDTH_MIN : screen->width;
}

void screen_done(struct screen *screen)
{
    if (screen->locale)
        freelocale(screen->locale);
}

/* ---- one character ---- */

struct glyph {
    size_t bytes, columns;
    char shown[12]; /* in its place; "": as it is */
};

size_t screen_decode(uint32_t *out, const char *bytes, size_t len)
{
    const unsigned char *const text = (const unsigned char *)bytes;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char c = *text;
    const size_t count = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (count == 0 || count > len)
        return 0;
    uint32_t value = count == 1 ? c : c & (0x7Fu >> count);
    for (size_t i = 1; i < count; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3Fu);
    }
    if (value < least[count] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        return 0;
    *out = value;
    return count;
}

/* Control characters, ends of lines and of paragraphs, and those that are not seen but reorder or hide what is: the Cf that
 * stand in no ordinary text but for the joiners of scripts (U+200C, U+200D), which are left alone. */
static bool acts(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200B || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF ||
           (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);
}

/* -1: the locale does not know it. */
static int columns_of(const struct screen *screen, uint32_t c)
{
    if (c < 0x7F || !screen->locale)
        return 1;
    const locale_t before = uselocale(screen->locale);
    const int columns = wcwidth((wchar_t)c);
    uselocale(before);
    return columns;
}

static struct glyph next_glyph(const struct screen *screen, const char *text, size_t len)
{
    struct glyph glyph = {.columns = 1};
    uint32_t c = 0;
    glyph.bytes = screen_decode(&c, text, len);
    if (glyph.bytes == 0 || (c < 0x80 && acts(c))) {
        glyph.bytes = 1;
        snprintf(glyph.shown, sizeof glyph.shown, "\\x%02x", (unsigned)(unsigned char)*text);
    } else {
        const int columns = acts(c) ? -1 : columns_of(screen, c);
        if (columns < 0)
            snprintf(glyph.shown, sizeof glyph.shown, c > 0xFFFF ? "\\U%08x" : "\\u%04x", c);
        else
            glyph.columns = (size_t)columns;
    }
    if (*glyph.shown)
        glyph.columns = strlen(glyph.shown);
    return glyph;
}

/* ---- texts ---- */

/* As many bytes as fit into so many columns, whole characters with the marks that belong to them; *used: theirs. */
static size_t fit(const struct screen *screen, const char *text, size_t len, size_t columns, size_t *used)
{
    size_t at = 0;
    *used = 0;
    while (at < len) {
        const struct glyph glyph = next_glyph(screen, text + at, len - at);
        if (glyph.columns > columns - *used)
            break;
        at += glyph.bytes;
        *used += glyph.columns;
    }
    return at;
}

size_t screen_columns(const struct screen *screen, const char *text, size_t len)
{
    size_t used;
    fit(screen, text, len, SIZE_MAX, &used);
    return used;
}

static void write_glyphs(const struct screen *screen, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const struct glyph glyph = next_glyph(screen, text + at, len - at);
        if (*glyph.shown)
            fputs(glyph.shown, screen->out);
        else
            fwrite(text + at, 1, glyph.bytes, screen->out);
        at += glyph.bytes;
    }
}

size_t screen_put(const struct screen *screen, const char *text, size_t len, size_t columns)
{
    size_t used, bytes = fit(screen, text, len, columns, &used);
    if (bytes == len || columns < CUT_COLUMNS) {
        write_glyphs(screen, text, bytes);
        return used;
    }
    bytes = fit(screen, text, len, columns - CUT_COLUMNS, &used);
    write_glyphs(screen, text, bytes);
    fputs(CUT, screen->out);
    return used + CUT_COLUMNS;
}

void screen_wrap(const struct screen *screen, const char *text, size_t len, size_t at, size_t indent)
{
    size_t column = at;
    for (size_t i = 0; i < len;) {
        size_t word = 0, space = 0;
        while (i + space < len && text[i + space] == ' ')
            space++;
        while (i + space + word < len && text[i + space + word] != ' ')
            word++;
        const size_t columns = screen_columns(screen, text + i + space, word);
        if (i && columns > screen->width - (column + 1 < screen->width ? column + 1 : screen->width)) {
            fprintf(screen->out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (i) {
            fputc(' ', screen->out);
            column++;
        }
        column += screen_put(
            screen, text + i + space, word, screen->width > column ? screen->width - column : columns);
        i += space + word;
    }
    fputc('\n', screen->out);
}

void screen_style(const struct screen *screen, enum screen_style style)
{
    static const char *const codes[] = {"0", "1", "2", "32", "33", "1;31"};
    if (screen->colour)
        fprintf(screen->out, "\033[%sm", codes[style]);
}
