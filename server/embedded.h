/* Files that are part of the program, as it works wherever it is installed, and from inside its sandbox. What is served is
 * always what the daemon was built from. */
#ifndef EMBSUM_SERVER_EMBEDDED_H
#define EMBSUM_SERVER_EMBEDDED_H

#include "server/http_message.h"

/* Put the file at `path` (from the project's root) into the program, as a text under the name of an extern const char[].
 * The Makefile has to know that the object depends on it. */
#define EMBEDDED(symbol, path)                                                                               \
    __asm__(".section .rodata\n" symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n")

/* Answer with such a text: 200 with an ETag, or 304 to who has it. */
void embedded_answer(const char *text, const struct http_request *request, struct http_response *response);

#endif
