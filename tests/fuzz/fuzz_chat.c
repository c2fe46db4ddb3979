/* What an LLM's endpoint answers: the first byte chooses the status, the second the headers, the rest is the body. A text
 * is one line of UTF-8 and came with status 200; any other verdict has a reason that can be told. */
#include "batch/chat_message.h"
#include "core/id.h"
#include "tests/lib/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_line(const char *text)
{
    const size_t len = strlen(text);
    must(len > 0 && utf8_valid(text, len));
    must(text[0] != ' ' && !strstr(text, "  "));
    for (size_t i = 0; i < len; i++)
        must((unsigned char)text[i] >= ' ' && text[i] != 0x7F);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {200, 200, 200, 200, 429, 503, 401, 400, 500, 302, 404, 0};
    static const double waits[] = {0, -1, 2.5, 1e9};
    struct fuzz_input input = {data, data + size};
    const long status = statuses[fuzz_byte(&input) % (sizeof statuses / sizeof *statuses)];
    const uint8_t headers = fuzz_byte(&input);
    const size_t len = (size_t)(input.end - input.at);
    const struct chat_response response = {
        .status = status,
        .body = len ? (const char *)input.at : NULL,
        .len = len,
        .retry_after = waits[headers % 4],
        .location = headers & 4 ? "http://elsewhere/\xFF\n" : NULL,
    };
    struct chat_answer answer;
    memset(&answer, 0x5A, sizeof answer);
    chat_judge(&answer, &response);
    must((answer.verdict == CHAT_ANSWERED) == (answer.text != NULL));
    must(answer.wait >= 0 && answer.wait <= 1e9 && (answer.pause || !answer.wait));
    if (answer.text) {
        must(status == 200);
        check_line(answer.text);
        must(answer.text[strlen(answer.text) - 1] != ' ');
    } else {
        must(answer.verdict <= CHAT_HOPELESS && memchr(answer.why, '\0', sizeof answer.why));
        check_line(answer.why);
    }
    free(answer.text);
    return 0;
}
