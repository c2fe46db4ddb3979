#include "batch/api_key.h"
#include "batch/commands.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/summarize_job.h"
#include "core/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct summarize_args {
    struct summarize_options inputs;
    const char *endpoint, *llm, *temperature, *key_file, *vocab;
    long slots, retries, timeout, max_tokens, limit;
    bool dry_run;
};

/* ---- the dry run ---- */

/* Tokens of a text, or without a tokenizer an estimate: English takes about four bytes a token. */
static int count_tokens(size_t *count, const struct tokenizer *tokenizer, const char *text, struct err *err)
{
    const size_t len = text ? strlen(text) : 0;
    *count = (len + 3) / 4;
    return tokenizer && len ? tokenizer_encode(tokenizer, text, len, NULL, 0, count, err) : 0;
}

static int print_prompts(
    const struct summarize_set *set, const struct tokenizer *tokenizer, bool quiet, struct err *err)
{
    size_t total = 0, most = 0;
    int result = 0;
    for (size_t i = 0; result == 0 && i < set->count && !stop_asked() && !ferror(stdout); i++) {
        struct prompt prompt;
        size_t system = 0, user = 0;
        result = summarize_set_prompt(&prompt, set, i, err);
        if (result < 0)
            break;
        result = count_tokens(&system, tokenizer, prompt.system, err);
        if (result == 0)
            result = count_tokens(&user, tokenizer, prompt.user, err);
        total += system + user;
        most = system + user > most ? system + user : most;
        printf("==== %s ====\n", summarize_set_user(set, i));
        if (prompt.system)
            printf("[system]\n%s\n\n", prompt.system);
        printf("[user]\n%s\n\n", prompt.user);
        prompt_done(&prompt);
    }
    if (result == 0 && stop_asked())
        result = err_set(err, ERR_UNAVAILABLE, "stopped by a signal");
    if (result == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        result = err_errno(err, "print the prompts");
    if (result == 0)
        progress_say(quiet, "%zu prompts; %zu tokens, %.1f a prompt, at most %zu (%s)", set->count, total,
            set->count ? (double)total / (double)set->count : 0.0, most,
            tokenizer ? "counted with the vocabulary; the LLM's own may differ"
                      : "estimated: a quarter of the bytes");
    return result;
}

static int dry_run(const struct summarize_args *a, struct err *err)
{
    struct summarize_set set;
    struct tokenizer *tokenizer = NULL;
    int result = a->vocab ? tokenizer_load(&tokenizer, a->vocab, err) : 0;
    if (result == 0)
        result = summarize_set_open(&set, &a->inputs, err);
    if (result == 0) {
        result = print_prompts(&set, tokenizer, a->inputs.quiet, err);
        summarize_set_close(&set);
    }
    tokenizer_free(tokenizer);
    return result;
}

/* ---- the real one ---- */

static int print_figures(const struct summarize_figures *f, const struct summarize_set *set, struct err *err)
{
    printf("{\"asked\":%zu,\"written\":%zu,\"failed\":%zu,\"skipped\":%zu,\"known\":%zu,\"requests\":%zu,"
           "\"cut\":%zu,\"prompt_tokens\":%zu,\"completion_tokens\":%zu}\n",
        f->asked, f->written, f->failed, set->skipped, set->known, f->requests, f->cut, f->prompt_tokens,
        f->completion_tokens);
    return fflush(stdout) == 0 ? 0 : err_errno(err, "print the figures");
}

/* With the output in hand. */
static int ask(
    const struct summarize_args *a, struct summary_log *log, const struct chat_options *chat, struct err *err)
{
    struct summarize_set set;
    struct summarize_figures figures;
    int result = summarize_set_open(&set, &a->inputs, err);
    if (result < 0)
        return result;
    result = summarize_job(&figures, &set, log, chat, (size_t)a->retries, a->inputs.quiet, err);
    const int printed = print_figures(&figures, &set, result == 0 ? err : NULL);
    if (result == 0 && printed == 0 && figures.failed)
        result = err_set(err, ERR_UNAVAILABLE,
            "%zu of %zu users have no summary; the same command asks about them again", figures.failed,
            set.count);
    summarize_set_close(&set);
    return result < 0 ? result : printed;
}

static int summarize(const struct summarize_args *a, double temperature, struct err *err)
{
    struct chat_endpoint endpoint;
    struct summary_log log;
    char key[API_KEY_MAX];
    const char *source;
    int result = chat_endpoint_parse(&endpoint, a->endpoint, err);
    if (result == 0)
        result = api_key_load(key, &source, a->key_file, endpoint.openai, err);
    if (result < 0)
        return result;
    const struct chat_options chat = {.endpoint = &endpoint,
        .style = {a->llm, temperature, a->max_tokens},
        .key = source ? key : NULL,
        .slots = (size_t)a->slots,
        .timeout_s = a->timeout};
    if (source && endpoint.exposed)
        progress_say(
            a->inputs.quiet, "warning: the API key travels to another machine without encryption (http)");
    result = summary_log_open(&log, a->inputs.out, err);
    if (result == 0) {
        result = ask(a, &log, &chat, err);
        const int closed = summary_log_close(&log, result == 0 ? err : NULL);
        result = result < 0 ? result : closed;
    }
    explicit_bzero(key, sizeof key);
    return result;
}

/* NaN for "default"; false after a message. */
static bool take_temperature(double *out, const char *text)
{
    char *end;
    if (strcmp(text, "default") == 0) {
        *out = NAN;
        return true;
    }
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= 0 && *out <= 2)
        return true;
    fprintf(stderr, "embsum: --temperature must be a number between 0 and 2, or \"default\", not %s\n", text);
    return false;
}

int command_summarize(int argc, char **argv)
{
    struct summarize_args a = {.inputs = {.template = "news"},
        .temperature = "0",
        .slots = 8,
        .retries = 6,
        .timeout = 120,
        .max_tokens = 256};
    const struct option options[] = {
        {"news", "FILE", "news.tsv", true, OPTION_TEXT, &a.inputs.news, 0, 0},
        {"behaviors", "FILE", "behaviors.tsv", true, OPTION_TEXT, &a.inputs.behaviors, 0, 0},
        {"endpoint", "URL", "of the API: http://127.0.0.1:8000/v1, say", false, OPTION_TEXT, &a.endpoint, 0,
            0},
        {"llm", "NAME", "the model, as the endpoint calls it", false, OPTION_TEXT, &a.llm, 0, 0},
        {"out", "FILE", "the summaries, appended; users who are in it are not asked about", false,
            OPTION_TEXT, &a.inputs.out, 0, 0},
        {"template", "NAME|FILE", "news (unless given), books, or a file like config/prompts/news.txt", false,
            OPTION_TEXT, &a.inputs.template, 0, 0},
        {"api-key-file", "FILE",
            "holds the API key; else EMBSUM_API_KEY; else, for https://api.openai.com, OPENAI_API_KEY", false,
            OPTION_TEXT, &a.key_file, 0, 0},
        {"in-flight", "N", "requests at a time; 8 unless given", false, OPTION_NUMBER, &a.slots, 1, 512},
        {"retries", "N", "of a request that fails, with growing pauses; 6 unless given", false, OPTION_NUMBER,
            &a.retries, 0, 100},
        {"timeout", "SECONDS", "of a request; 120 unless given", false, OPTION_NUMBER, &a.timeout, 1, 86400},
        {"max-tokens", "N", "of a summary; 256 unless given, 0: the endpoint's own limit", false,
            OPTION_NUMBER, &a.max_tokens, 0, 1000000},
        {"temperature", "X", "0 unless given; \"default\": the endpoint's own", false, OPTION_TEXT,
            &a.temperature, 0, 0},
        {"limit", "N", "ask about the first N users who have no summary; 0, all, unless given", false,
            OPTION_NUMBER, &a.limit, 0, 1000000000},
        {"dry-run", NULL, "print the prompts, count their tokens, and send nothing", false, OPTION_FLAG,
            &a.dry_run, 0, 0},
        {"vocab", "FILE", "spiece.model, to count the dry run's tokens exactly", false, OPTION_TEXT, &a.vocab,
            0, 0},
        {"max-bad", "N|X%", "bad rows allowed in a file, 12 or 0.5% of its rows; 0 unless given", false,
            OPTION_LIMIT, &a.inputs.max_bad, 0, 0},
        {"quiet", NULL, "nothing on stderr but errors", false, OPTION_FLAG, &a.inputs.quiet, 0, 0},
    };
    const struct command command = {
        "summarize --news FILE --behaviors FILE --endpoint URL --llm NAME --out FILE [--dry-run]",
        "Ask an LLM behind an OpenAI-compatible API (/v1/chat/completions) for each user's interest summary, "
        "and\n"
        "append it to OUT as a JSON line. A run that was stopped, or that had to give users up, is continued "
        "by the\n"
        "same command. Prints one JSON object with the figures. Users who have read nothing are skipped.",
        options, sizeof options / sizeof *options, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    double temperature;
    if (!take_temperature(&temperature, a.temperature))
        return EXIT_USAGE;
    if (!a.dry_run && (!a.endpoint || !a.llm || !a.inputs.out)) {
        fprintf(stderr, "embsum: missing: %s\nusage: embsum %s\n",
            !a.endpoint ? "--endpoint"
            : !a.llm    ? "--llm"
                        : "--out",
            command.usage);
        return EXIT_USAGE;
    }
    if (a.llm && (!*a.llm || !utf8_valid(a.llm, strlen(a.llm)))) {
        fprintf(stderr, "embsum: --llm must be a name in UTF-8\n");
        return EXIT_USAGE;
    }
    a.inputs.limit = (size_t)a.limit;
    struct err err = ERR_INIT;
    stop_on_signals();
    const int result = a.dry_run ? dry_run(&a, &err) : summarize(&a, temperature, &err);
    return result < 0 ? command_failed("summarize", &err) : EXIT_DONE;
}
