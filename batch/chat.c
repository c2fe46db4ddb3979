#include "batch/chat.h"

#include "core/array.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MAX = 1 << 20, CONNECT_TIMEOUT_S = 20, SECRET_MIN = 8 };

struct slot {
    CURL *easy;
    char *request;
    char *body;
    size_t body_len, body_size;
    bool too_large;
    char error[CURL_ERROR_SIZE];
};

struct chat {
    struct chat_options options;
    CURLM *multi;
    struct curl_slist *headers;
    struct slot *slots;
};

/* ---- the address ---- */

/* A part of a URL, or NULL; the caller's to curl_free. */
static char *part_of(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, 0) == CURLUE_OK ? text : NULL;
}

/* Complete a base to the address of the chat completions. */
static bool set_path(CURLU *url)
{
    static const char end[] = "/chat/completions";
    char path[CHAT_URL_MAX], *given = part_of(url, CURLUPART_PATH);
    size_t len = given ? strlen(given) : 0;
    while (len && given[len - 1] == '/')
        len--;
    const bool whole = len >= strlen(end) && memcmp(given + len - strlen(end), end, strlen(end)) == 0;
    const int wrote =
        snprintf(path, sizeof path, "%.*s%s", len ? (int)len : 3, len ? given : "/v1", whole ? "" : end);
    curl_free(given);
    return wrote >= 0 && (size_t)wrote < sizeof path &&
           curl_url_set(url, CURLUPART_PATH, path, 0) == CURLUE_OK;
}

/* Does what is sent to this host stay on this machine? */
static bool is_loopback(const char *host)
{
    const bool numbers = host[strspn(host, "0123456789.")] == '\0';
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (numbers && strncmp(host, "127.", 4) == 0);
}

/* What is wrong with the address as it was given; NULL: nothing. */
static const char *complaint(const char *scheme, const char *host, bool with_user)
{
    if (!scheme || !host || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        return "the endpoint must be a URL, http://... or https://...";
    return with_user
               ? "the endpoint's URL holds a user or a password, which everybody on this machine can read"
               : NULL;
}

static int take_url(struct chat_endpoint *out, CURLU *url, const char *text, struct err *err)
{
    if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK)
        return err_set(err, ERR_INVALID, "%s", complaint(NULL, NULL, false));
    char *scheme = part_of(url, CURLUPART_SCHEME), *host = part_of(url, CURLUPART_HOST);
    char *user = part_of(url, CURLUPART_USER), *password = part_of(url, CURLUPART_PASSWORD), *whole = NULL;
    const char *wrong = complaint(scheme, host, user || password);
    if (!wrong && set_path(url) && curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK)
        whole = part_of(url, CURLUPART_URL);
    if (!wrong && (!whole || strlen(whole) >= sizeof out->url))
        wrong = "the endpoint's URL is too long";
    if (!wrong) {
        const bool plain = strcmp(scheme, "http") == 0;
        out->openai = !plain && strcasecmp(host, "api.openai.com") == 0;
        out->exposed = plain && !is_loopback(host);
        strcpy(out->url, whole);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_free(password);
    curl_free(whole);
    return wrong ? err_set(err, ERR_INVALID, "%s", wrong) : 0;
}

int chat_endpoint_parse(struct chat_endpoint *out, const char *text, struct err *err)
{
    CURLU *url = curl_url();
    if (!url)
        return err_set(err, ERR_NOMEM, "out of memory");
    const int result = take_url(out, url, text, err);
    curl_url_cleanup(url);
    return result;
}

/* ---- one conversation ---- */

static size_t take_body(char *bytes, size_t one, size_t len, void *ctx)
{
    struct slot *slot = ctx;
    (void)one;
    slot->too_large = len > BODY_MAX - slot->body_len;
    if (slot->too_large || array_grow(&slot->body, &slot->body_size, slot->body_len + len + 1, 1, NULL) < 0)
        return 0;
    memcpy(slot->body + slot->body_len, bytes, len);
    slot->body_len += len;
    return len;
}

/* Options that all requests share. Nothing is verbose, no redirect is followed, no .netrc and no cookie is used. */
static bool set_up(const struct chat *chat, struct slot *slot)
{
    CURL *easy = slot->easy;
    const long timeout = chat->options.timeout_s;
    return curl_easy_setopt(easy, CURLOPT_URL, chat->options.endpoint->url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT, timeout) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT,
               timeout < CONNECT_TIMEOUT_S ? timeout : (long)CONNECT_TIMEOUT_S) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, chat->headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "embsum/" EMBSUM_VERSION) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, slot) == CURLE_OK;
}

int chat_ask(struct chat *chat, size_t slot, const struct prompt *prompt, struct err *err)
{
    struct slot *s = &chat->slots[slot];
    s->request = chat_request(&chat->options.style, prompt);
    s->body_len = 0;
    s->too_large = false;
    s->error[0] = '\0';
    if (s->request &&
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(s->request)) == CURLE_OK &&
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, s->request) == CURLE_OK &&
        curl_multi_add_handle(chat->multi, s->easy) == CURLM_OK)
        return 0;
    free(s->request);
    s->request = NULL;
    return err_set(err, ERR_NOMEM, "out of memory");
}

/* A transfer that brought no whole response. What a second attempt cannot mend is wrong for all of them. */
static void judge_failure(struct chat_answer *out, const struct slot *slot, CURLcode code)
{
    const char *why = slot->error[0] ? slot->error : curl_easy_strerror(code);
    switch (code) {
    case CURLE_WRITE_ERROR:
        chat_fail(
            out, CHAT_AGAIN, slot->too_large ? "an answer of more than %d bytes" : "out of memory", BODY_MAX);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_CERTPROBLEM:
        chat_fail(out, CHAT_HOPELESS, "%s", why);
        break;
    default:
        chat_fail(out, CHAT_AGAIN, "%s", why);
    }
}

/* An endpoint may well repeat the key to say that it is wrong. Shorter ones ("EMPTY", "none") are no secrets, and are
 * words that a summary may hold. */
static void blot_out(char *text, const char *key)
{
    const size_t len = key ? strlen(key) : 0;
    if (len < SECRET_MIN || !text)
        return;
    for (char *at = text; (at = strstr(at, key)) != NULL; at += len)
        memset(at, '*', len);
}

static void finish(struct chat *chat, struct slot *slot, CURLcode code, struct chat_answer *out)
{
    if (code != CURLE_OK) {
        judge_failure(out, slot, code);
    } else {
        struct chat_response response = {.body = slot->body, .len = slot->body_len};
        curl_off_t wait = 0;
        curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &response.status);
        curl_easy_getinfo(slot->easy, CURLINFO_RETRY_AFTER, &wait); /* seconds, from a number or a date */
        curl_easy_getinfo(slot->easy, CURLINFO_REDIRECT_URL, &response.location);
        response.retry_after = (double)wait;
        chat_judge(out, &response);
    }
    blot_out(out->text, chat->options.key);
    blot_out(out->why, chat->options.key);
    curl_multi_remove_handle(chat->multi, slot->easy);
    free(slot->request);
    slot->request = NULL;
}

int chat_wait(struct chat *chat, size_t *slot, struct chat_answer *answer, int ms, struct err *err)
{
    for (bool waited = false;; waited = true) {
        int ignored;
        CURLMcode code = curl_multi_perform(chat->multi, &ignored);
        const CURLMsg *message = code == CURLM_OK ? curl_multi_info_read(chat->multi, &ignored) : NULL;
        if (message && message->msg == CURLMSG_DONE) {
            struct slot *s;
            const CURLcode ended = message->data.result; /* the message is gone with the handle */
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &s);
            finish(chat, s, ended, answer);
            *slot = (size_t)(s - chat->slots);
            return 1;
        }
        if (code == CURLM_OK && waited)
            return 0;
        if (code == CURLM_OK)
            code = curl_multi_poll(chat->multi, NULL, 0, ms, NULL);
        if (code != CURLM_OK)
            return err_set(err, ERR_IO, "libcurl: %s", curl_multi_strerror(code));
    }
}

/* ---- all of them ---- */

static bool add_header(struct chat *chat, const char *text)
{
    struct curl_slist *longer = curl_slist_append(chat->headers, text);
    if (longer)
        chat->headers = longer;
    return longer != NULL;
}

static bool make_headers(struct chat *chat)
{
    /* No waiting for "100 Continue", which many servers never say. */
    if (!add_header(chat, "Content-Type: application/json") || !add_header(chat, "Expect:"))
        return false;
    if (!chat->options.key)
        return true;
    char *line;
    if (asprintf(&line, "Authorization: Bearer %s", chat->options.key) < 0)
        return false;
    const bool added = add_header(chat, line);
    explicit_bzero(line, strlen(line));
    free(line);
    return added;
}

int chat_new(struct chat **out, const struct chat_options *options, struct err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, ERR_NOMEM, "libcurl cannot start");
    struct chat *chat = calloc(1, sizeof *chat);
    bool made = false;
    if (chat) {
        chat->options = *options;
        chat->multi = curl_multi_init();
        chat->slots = calloc(options->slots, sizeof *chat->slots);
        made = chat->multi && chat->slots && make_headers(chat);
        for (size_t i = 0; made && i < options->slots; i++) {
            chat->slots[i].easy = curl_easy_init();
            made = chat->slots[i].easy && set_up(chat, &chat->slots[i]);
        }
    }
    if (made) {
        *out = chat;
        return 0;
    }
    if (chat)
        chat_free(chat);
    else
        curl_global_cleanup();
    return err_set(err, ERR_NOMEM, "out of memory");
}

void chat_free(struct chat *chat)
{
    if (!chat)
        return;
    for (size_t i = 0; chat->slots && i < chat->options.slots; i++) {
        struct slot *slot = &chat->slots[i];
        if (slot->request)
            curl_multi_remove_handle(chat->multi, slot->easy);
        curl_easy_cleanup(slot->easy);
        free(slot->request);
        free(slot->body);
    }
    curl_multi_cleanup(chat->multi);
    for (struct curl_slist *header = chat->headers; header; header = header->next)
        explicit_bzero(header->data, strlen(header->data)); /* one of them holds the key */
    curl_slist_free_all(chat->headers);
    free(chat->slots);
    free(chat);
    curl_global_cleanup();
}
