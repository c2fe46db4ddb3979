/* The shipped templates as part of the program: it works wherever it is installed, and config/prompts is the one place
 * where they are written. Rejected: looking for the folder beside the program, which an image or a package moves. */
#include "batch/prompt.h"

#include <string.h>

#define EMBED(symbol, path)                                                                                  \
    __asm__(".section .rodata\n" symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n")

EMBED("prompt_news", "config/prompts/news.txt");
EMBED("prompt_books", "config/prompts/books.txt");
extern const char prompt_news[], prompt_books[];

const char *prompt_shipped(const char *name)
{
    return strcmp(name, "news") == 0 ? prompt_news : strcmp(name, "books") == 0 ? prompt_books : NULL;
}
