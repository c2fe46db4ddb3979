/* Text for people, on a terminal or in a file. What comes out of a store was written by others: a byte that a terminal would
 * act on is shown, never sent, and lines fit into the terminal's width. Elsewhere than on a terminal lines are as long as they are, and nothing
 * is coloured; NO_COLOR (no-color.org) and TERM=dumb turn colours off, too. */
#ifndef EMBSUM_BATCH_SCREEN_H
#define EMBSUM_BATCH_SCREEN_H

#include <locale.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum screen_style { SCREEN_PLAIN, SCREEN_BOLD, SCREEN_DIM, SCREEN_GREEN, SCREEN_YELLOW, SCREEN_RED };

struct screen {
    FILE *out;
    bool terminal, colour;
    size_t width; /* columns of a line; SIZE_MAX where it has no end */
    locale_t
        locale; /* that knows how wide characters are; 0, as where lines have no end: each is taken for one column */
};

#define SCREEN_LOCALE "C.UTF-8"

void screen_init(struct screen *screen, FILE *out);
void screen_done(struct screen *screen);

/* Columns that a text takes: characters that a terminal would act on, or reorder a line by, take those of \x1b or \u202e,
 * as do bytes that are no UTF-8. */
size_t screen_columns(const struct screen *screen, const char *text, size_t len);

/* Write a text in at most so many columns, cut at a character, with "..." where that takes no more. Returns the columns. */
size_t screen_put(const struct screen *screen, const char *text, size_t len, size_t columns);

/* Write a text's words in lines of the screen's width, all but the first indented; ends the line. `at` is the column where it
 * begins. */
void screen_wrap(const struct screen *screen, const char *text, size_t len, size_t at, size_t indent);

/* *out = the character that text begins with; returns its bytes, 0 where they are no UTF-8. len is at least 1. */
size_t screen_decode(uint32_t *out, const char *text, size_t len);

void screen_style(const struct screen *screen, enum screen_style style);

#endif
