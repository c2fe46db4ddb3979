#include "batch/chat_message.h"

#include "core/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the request ---- */

static json_t *message(const char *role, const char *text)
{
    return json_pack("{s:s, s:s}", "role", role, "content", text);
}

char *chat_request(const struct chat_style *style, const struct prompt *prompt)
{
    json_t *object = json_object(), *messages = json_array();
    int failed = 0;
    if (prompt->system)
        failed |= json_array_append_new(messages, message("system", prompt->system));
    failed |= json_array_append_new(messages, message("user", prompt->user));
    failed |= json_object_set_new(object, "model", json_string(style->llm));
    failed |= json_object_set_new(object, "messages", messages);
    if (!isnan(style->temperature))
        failed |= json_object_set_new(object, "temperature", json_real(style->temperature));
    if (style->max_tokens)
        failed |= json_object_set_new(object, "max_tokens", json_integer(style->max_tokens));
    failed |= json_object_set_new(object, "stream", json_false());
    char *text = failed ? NULL : json_write(object, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(object);
    return text;
}

/* ---- the answer ---- */

void chat_one_line(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        const bool blank = (unsigned char)*from <= ' ' || *from == 0x7F;
        if (!blank)
            *to++ = *from;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    }
    while (to > text && to[-1] == ' ')
        to--;
    *to = '\0';
}

void chat_fail(struct chat_answer *out, enum chat_verdict verdict, const char *format, ...)
{
    va_list args;
    *out = (struct chat_answer){.verdict = verdict};
    va_start(args, format);
    vsnprintf(out->why, sizeof out->why, format, args);
    va_end(args);
    chat_one_line(out->why);
    /* The end may have been cut inside a character, and what an endpoint says may be anything. */
    size_t len = strlen(out->why), whole = len;
    while (whole && len - whole < 4 && !utf8_valid(out->why, whole))
        whole--;
    if (utf8_valid(out->why, whole))
        out->why[whole] = '\0';
    else
        for (size_t i = 0; i < len; i++)
            if ((unsigned char)out->why[i] >= 0x80)
                out->why[i] = '?';
}

/* What the endpoints in use call their reason: {"error": {"message"}}, {"error": ""}, {"message"}, {"detail"}. */
static const char *reason(const json_t *object)
{
    static const char *const names[] = {"error", "message", "detail"};
    const char *nested = json_string_value(json_object_get(json_object_get(object, "error"), "message"));
    for (size_t i = 0; !nested && i < sizeof names / sizeof *names; i++)
        nested = json_string_value(json_object_get(object, names[i]));
    return nested;
}

/* What happened, and the endpoint's words on it: the reason in its JSON, or else its body as it is. */
static void fail_with(struct chat_answer *out, enum chat_verdict verdict, const char *what,
    const json_t *object, const struct chat_response *response)
{
    const char *why = reason(object);
    const size_t len = why ? strlen(why) : response->len;
    chat_fail(out, verdict, "%s%s%.*s", what, len ? ": " : "", len < 200 ? (int)len : 200,
        why   ? why
        : len ? response->body
              : "");
}

static size_t count_of(const json_t *object, const char *name)
{
    const json_int_t value = json_integer_value(json_object_get(json_object_get(object, "usage"), name));
    return value > 0 ? (size_t)value : 0;
}

/* A response of status 200. */
static void judge_completion(
    struct chat_answer *out, const json_t *object, const struct chat_response *response)
{
    if (!json_is_object(object)) {
        fail_with(out, CHAT_AGAIN, "an answer that is no JSON object", NULL, response);
        return;
    }
    const json_t *choice = json_array_get(json_object_get(object, "choices"), 0);
    const char *content = json_string_value(json_object_get(json_object_get(choice, "message"), "content"));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    const bool filtered = finish && strcmp(finish, "content_filter") == 0;
    char *text = content && !filtered ? strdup(content) : NULL;
    if (text)
        chat_one_line(text);
    if (text && *text) {
        *out = (struct chat_answer){.verdict = CHAT_ANSWERED, .text = text};
        out->cut = finish && strcmp(finish, "length") == 0;
    } else {
        free(text);
        if (filtered)
            chat_fail(out, CHAT_REFUSED, "the endpoint's content filter");
        else
            fail_with(
                out, CHAT_AGAIN, choice ? "an empty answer" : "an answer without choices", object, response);
    }
    out->prompt_tokens = count_of(object, "prompt_tokens");
    out->completion_tokens = count_of(object, "completion_tokens");
}

/* What another status than 200 means. Those that say that key, model or address are wrong come for every prompt. */
static enum chat_verdict verdict_of(long status, const json_t *object)
{
    const char *code = json_string_value(json_object_get(json_object_get(object, "error"), "code"));
    switch (status) {
    case 401:
    case 402: /* payment required */
    case 403:
    case 404:
    case 405:
    case 407: /* the proxy's turn to ask who we are */
        return CHAT_HOPELESS;
    case 408:
    case 409:
    case 425:
        return CHAT_AGAIN;
    case 429: /* also said where the money is used up, which no waiting brings back */
        return code && strcmp(code, "insufficient_quota") == 0 ? CHAT_HOPELESS : CHAT_AGAIN;
    default:
        return status >= 500 ? CHAT_AGAIN : status >= 400 ? CHAT_REFUSED : CHAT_HOPELESS;
    }
}

void chat_judge(struct chat_answer *out, const struct chat_response *response)
{
    const long status = response->status;
    json_t *object =
        json_read(response->body ? response->body : "", response->len, JSON_REJECT_DUPLICATES, NULL);
    if (status == 200) {
        judge_completion(out, object, response);
    } else if (response->location) {
        chat_fail(out, CHAT_HOPELESS, "HTTP %ld, a redirect, which is not followed, to %s", status,
            response->location);
    } else {
        char what[32];
        snprintf(what, sizeof what, "HTTP %ld", status);
        fail_with(out, verdict_of(status, object), what, object, response);
        out->pause = status == 429 || (status == 503 && response->retry_after > 0);
        out->wait = out->pause && response->retry_after > 0 ? response->retry_after : 0;
    }
    json_decref(object);
}
