/* What an LLM's endpoint answers: the first byte chooses the status, the second the headers, the rest is the body. A text
 * is one line of UTF-8 and came with status 200; any other verdict has a reason that can be told. The same bytes as a
 * prompt reach the endpoint as they are, or are not sent. Without memory nobody is refused for good. */
#include "batch/chat_message.h"
#include "core/id.h"
#include "core/json.h"
#include "tests/fuzz/memory.h"
#include "tests/lib/fuzz.h"

#include <math.h>
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

static void check_answer(const struct chat_answer *answer, long status)
{
    must((answer->verdict == CHAT_ANSWERED) == (answer->text != NULL));
    must(answer->wait >= 0 && answer->wait <= 1e9 && (answer->pause || !answer->wait));
    if (answer->text) {
        must(status == 200);
        check_line(answer->text);
        must(answer->text[strlen(answer->text) - 1] != ' ');
    } else {
        must(answer->verdict <= CHAT_HOPELESS && memchr(answer->why, '\0', sizeof answer->why));
        check_line(answer->why);
    }
}

static void check_request(const char *text, const char *system)
{
    const struct chat_style style = {.llm = "m", .temperature = system ? 0.5 : NAN, .max_tokens = !system};
    const struct prompt prompt = {.user = (char *)(uintptr_t)text, .system = (char *)(uintptr_t)system};
    char *const body = chat_request(&style, &prompt);
    must((body != NULL) == utf8_valid(text, strlen(text)));
    if (!body)
        return;
    json_t *const object = json_read(body, strlen(body), JSON_REJECT_DUPLICATES, NULL);
    const json_t *const messages = json_object_get(object, "messages");
    const json_t *const last = json_array_get(messages, json_array_size(messages) - 1);
    must(json_array_size(messages) == (system ? 2 : 1));
    must(strcmp(json_string_value(json_object_get(last, "content")), text) == 0);
    json_decref(object);
    free(body);
}

/* What is sent is whole, and what is judged may at most be tried again. */
static void check_short(
    const struct chat_response *response, const struct chat_answer *right, const char *text, uint8_t seed)
{
    struct chat_answer answer;
    const struct chat_style style = {.llm = "m", .temperature = 1, .max_tokens = 1};
    const struct prompt prompt = {.user = (char *)(uintptr_t)text};
    fuzz_memory_count();
    chat_judge(&answer, response);
    free(answer.text);
    fuzz_memory_fail(&seed, 1);
    chat_judge(&answer, response);
    const bool failed = fuzz_memory_failed();
    check_answer(&answer, response->status);
    if (response->status == 200)
        must(answer.verdict == right->verdict || (failed && answer.verdict == CHAT_AGAIN));
    free(answer.text);

    fuzz_memory_count();
    free(chat_request(&style, &prompt));
    fuzz_memory_fail(&seed, 1);
    char *const body = chat_request(&style, &prompt);
    must(!fuzz_memory_failed() || !body);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {200, 200, 200, 200, 429, 503, 401, 400, 500, 302, 404, 408, 0};
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
    check_answer(&answer, status);
    char *const text = strndup(len ? response.body : "", len);
    must(text);
    check_request(text, headers & 8 ? "You are brief." : NULL);
    check_short(&response, &answer, text, (uint8_t)(headers >> 3 ^ len));
    free(text);
    free(answer.text);
    return 0;
}
