/* What an endpoint may say, and what it means; addresses. */
#include "batch/chat.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct chat_answer judge(long status, const char *body, double retry_after)
{
    struct chat_answer answer;
    const struct chat_response response = {
        .status = status, .body = body, .len = body ? strlen(body) : 0, .retry_after = retry_after};
    chat_judge(&answer, &response);
    return answer;
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        long status;
        enum chat_verdict verdict;
    } cases[] = {{400, CHAT_REFUSED}, {401, CHAT_HOPELESS}, {402, CHAT_HOPELESS}, {403, CHAT_HOPELESS},
        {404, CHAT_HOPELESS}, {405, CHAT_HOPELESS}, {407, CHAT_HOPELESS}, {408, CHAT_AGAIN},
        {413, CHAT_REFUSED}, {422, CHAT_REFUSED}, {425, CHAT_AGAIN}, {429, CHAT_AGAIN}, {500, CHAT_AGAIN},
        {503, CHAT_AGAIN}, {529, CHAT_AGAIN}, {204, CHAT_HOPELESS}, {302, CHAT_HOPELESS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct chat_answer answer = judge(cases[i].status, NULL, 0);
        assert_int_equal(answer.verdict, cases[i].verdict);
        assert_null(answer.text);
        assert_int_equal(atol(answer.why + strlen("HTTP ")), cases[i].status);
        assert_int_equal(answer.pause, cases[i].status == 429);
    }
    assert_true(judge(429, "", 7).wait == 7);
    assert_true(judge(429, "", -7).wait == 0); /* a date that has passed */
    assert_true(judge(503, "", 7).pause && judge(503, "", 7).wait == 7);
    assert_false(judge(500, "", 7).pause);
    assert_int_equal(judge(429, "{\"error\": {\"code\": \"insufficient_quota\"}}", 0).verdict, CHAT_HOPELESS);
}

static void test_reasons(void **state)
{
    (void)state;
    static const struct {
        const char *body, *why;
    } cases[] = {
        {"{\"error\": {\"message\": \"too\\u001b[1m \\n long\"}}", "HTTP 500: too [1m long"},
        {"{\"error\": \"plain\"}", "HTTP 500: plain"},
        {"{\"object\": \"error\", \"message\": \"older\"}", "HTTP 500: older"},
        {"{\"detail\": \"fastapi\"}", "HTTP 500: fastapi"},
        {"<html>\n<body>Bad</body>", "HTTP 500: <html> <body>Bad</body>"},
        {"", "HTTP 500"},
        {"caf\xe9 au lait", "HTTP 500: caf? au lait"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(judge(500, cases[i].body, 0).why, cases[i].why);
    char body[601];
    for (size_t i = 0; i < 600; i += 2)
        memcpy(body + i, "\xc3\xa9", 2);
    for (size_t first = 0; first < 2; first++) { /* cut, but not inside a character */
        body[0] = first ? 'x' : '\xc3';
        body[600] = '\0';
        const struct chat_answer answer = judge(500, first ? body + 1 : body, 0);
        assert_true(strlen(answer.why) < sizeof answer.why);
    }
    assert_true(utf8_valid(judge(500, body + 2, 0).why, strlen(judge(500, body + 2, 0).why)));
}

static void test_answers(void **state)
{
    (void)state;
    struct chat_answer answer = judge(200,
        "{\"choices\": [{\"message\": {\"content\": \"\\n A\\t b.\\n\\nC \"}, \"finish_reason\": "
        "\"length\"}],"
        " \"usage\": {\"prompt_tokens\": 12, \"completion_tokens\": 3}}",
        0);
    assert_int_equal(answer.verdict, CHAT_ANSWERED);
    assert_string_equal(answer.text, "A b. C");
    assert_true(answer.cut);
    assert_int_equal(answer.prompt_tokens, 12);
    assert_int_equal(answer.completion_tokens, 3);
    free(answer.text);
    answer = judge(200, "{\"choices\": [{\"message\": {\"content\": \"A\"}}], \"usage\": null}", 0);
    assert_string_equal(answer.text, "A");
    assert_false(answer.cut);
    free(answer.text);
    answer = judge(200,
        "{\"choices\": [{\"message\": {\"content\": \"A\"}, \"finish_reason\": \"content_filter\"}],"
        " \"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": -1}}",
        0);
    assert_int_equal(answer.verdict, CHAT_REFUSED);
    assert_int_equal(answer.prompt_tokens, 5);
    assert_int_equal(answer.completion_tokens, 0);
    static const char *const again[] = {"", "{", "[]", "null", "{}", "{\"choices\": {}}", "{\"choices\": []}",
        "{\"choices\": [7]}", "{\"choices\": [{\"message\": []}]}",
        "{\"choices\": [{\"message\": {\"content\": null}}]}",
        "{\"choices\": [{\"message\": {\"content\": \" \\n \"}}]}", "{\"error\": {\"message\": \"later\"}}",
        "{\"choices\": [{\"message\": {\"content\": \"a\\u0000b\"}}]}"};
    for (size_t i = 0; i < sizeof again / sizeof *again; i++) {
        answer = judge(200, again[i], 0);
        assert_int_equal(answer.verdict, CHAT_AGAIN);
        assert_null(answer.text);
        assert_true(*answer.why);
    }
    assert_string_equal(
        judge(200, "{\"error\": {\"message\": \"later\"}}", 0).why, "an answer without choices: later");
}

static void test_request(void **state)
{
    (void)state;
    struct prompt prompt = {.user = (char[]){"a \"b\"\n\xc3\xa9"}};
    struct chat_style style = {"m/1", 0.3, 5};
    char *text = chat_request(&style, &prompt);
    assert_string_equal(text,
        "{\"model\":\"m/1\",\"messages\":[{\"role\":\"user\",\"content\":\"a \\\"b\\\"\\n\xc3\xa9\"}],"
        "\"temperature\":0.3,\"max_tokens\":5,\"stream\":false}");
    free(text);
    style = (struct chat_style){"m", (double)NAN, 0};
    prompt.system = (char[]){"s"};
    text = chat_request(&style, &prompt);
    assert_string_equal(text,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
        "\"content\":\"a \\\"b\\\"\\n\xc3\xa9\"}],\"stream\":false}");
    free(text);
}

static void test_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url;
        bool openai, exposed;
    } good[] = {
        {"http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions", false, false},
        {"http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions", false, false},
        {"http://[::1]/v1", "http://[::1]/v1/chat/completions", false, false},
        {"http://gpu/api/v2/chat/completions", "http://gpu/api/v2/chat/completions", false, true},
        {"https://h/openai/deployments/d?api-version=1",
            "https://h/openai/deployments/d/chat/completions?api-version=1", false, false},
        {"https://api.openai.com/v1#part", "https://api.openai.com/v1/chat/completions", true, false},
        {"http://api.openai.com/v1", "http://api.openai.com/v1/chat/completions", false, true},
        {"https://api.openai.com.evil.example/v1", "https://api.openai.com.evil.example/v1/chat/completions",
            false, false},
        {"http://127.evil.example/v1", "http://127.evil.example/v1/chat/completions", false, true},
    };
    struct chat_endpoint endpoint;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct err err = ERR_INIT;
        if (chat_endpoint_parse(&endpoint, good[i].text, &err) < 0)
            fail_msg("%s: %s", good[i].text, err.message);
        assert_string_equal(endpoint.url, good[i].url);
        assert_int_equal(endpoint.openai, good[i].openai);
        assert_int_equal(endpoint.exposed, good[i].exposed);
    }
    static const char *const bad[] = {"", "127.0.0.1", "localhost:80", "ftp://h/", "file:///etc/passwd",
        "http://", "http://h\n/", "http://me@h/", "http://me:secret@h/", "https://h:99999/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = ERR_INIT;
        if (chat_endpoint_parse(&endpoint, bad[i], &err) != -ERR_INVALID)
            fail_msg("%s was taken", bad[i]);
        assert_null(strstr(err.message, "secret"));
    }
    char *longest = calloc(1, 4096);
    strcpy(longest, "http://h/");
    memset(longest + 9, 'a', 4000);
    assert_int_equal(chat_endpoint_parse(&endpoint, longest, NULL), -ERR_INVALID);
    free(longest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_statuses), cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_request), cmocka_unit_test(test_endpoints)};
    return cmocka_run_group_tests_name("chat_message", tests, NULL, NULL);
}
