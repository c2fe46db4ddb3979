/* Whatever comes from outside, a line of the log is one JSON object on one line. */
#include "tests/server/bench.h"

#include <unistd.h>

/* Every line that stands in the pipe; each is one object of JSON in printable bytes. */
static json_t *read_lines(int fd)
{
    static char text[1 << 16];
    json_t *lines = json_array();
    const ssize_t got = read(fd, text, sizeof text - 1);
    assert_true(got > 0 && text[got - 1] == '\n');
    text[got] = '\0';
    for (char *at = text, *end; *at; at = end + 1) {
        end = strchr(at, '\n');
        for (const char *c = at; c < end; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7F);
        json_error_t where;
        json_t *line = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
        if (!line)
            fail_msg("%s: %.*s", where.text, (int)(end - at), at);
        json_array_append_new(lines, line);
    }
    return lines;
}

static void test_any_bytes(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct log log = {.fd = ends[1], .level = LOG_INFO};
    for (unsigned first = 0; first < 256; first += 16) {
        char bytes[19] = "<";
        for (unsigned i = 0; i < 16; i++)
            bytes[1 + i] = (char)(first + i);
        bytes[17] = '>';
        struct log_line line;
        log_begin(&line, &log, LOG_INFO, "bytes");
        log_bytes(&line, "value", bytes, 18);
        log_end(&line);
    }
    json_t *lines = read_lines(ends[0]);
    assert_int_equal(json_array_size(lines), 16);
    json_decref(lines);
    close(ends[0]);
    close(ends[1]);
}

/* Ids reach the log where a blob is refused: as they are, and no field or line of their own. */
static void test_ids(void **state)
{
    struct bench *bench = *state;
    static const char *const ids[] = {"a\"b", "back\\slash", "\",\"level\":\"fatal", "{\"msg\":\"x\"}",
        "\\n\\u000a", "\xc3\xa9\xe2\x82\xac", "%s%n"};
    enum { COUNT = sizeof ids / sizeof *ids };
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bench->log.fd = ends[1];
    json_t *candidates = json_array();
    for (size_t i = 0; i < COUNT; i++) {
        put(bench, STORE_CONTENT, ids[i], "EMBS", 4);
        json_array_append_new(candidates, json_string(ids[i]));
    }
    json_t *asked = json_pack("{s:s, s:o}", "user", "U1", "candidates", candidates);
    char *body = json_dumps(asked, 0);
    json_t *answer = rank(bench, 200, body);
    for (size_t i = 0; i < COUNT; i++)
        assert_string_equal(reason_of(answer, ids[i]), "corrupt");
    json_t *lines = read_lines(ends[0]);
    assert_int_equal(json_array_size(lines), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        bool found = false;
        for (size_t k = 0; k < COUNT; k++)
            found |= strcmp(text_of(json_array_get(lines, k), "id"), ids[i]) == 0;
        assert_true(found);
        assert_string_equal(text_of(json_array_get(lines, i), "level"), "error");
        assert_string_equal(text_of(json_array_get(lines, i), "msg"), "blob refused");
    }
    json_decref(lines);
    json_decref(answer);
    free(body);
    json_decref(asked);
    /* Control characters are no part of an id. */
    json_decref(rank(bench, 400, "{\"user\":\"U1\",\"candidates\":[\"a\\u000ab\"]}"));
    json_decref(rank(bench, 400, "{\"user\":\"a\\u001bb\",\"candidates\":[\"N1\"]}"));
    bench->log.fd = -1;
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test_setup_teardown(test_ids, setup, teardown),
    };
    struct err err = ERR_INIT;
    require(gemm_init(&err), &err);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
