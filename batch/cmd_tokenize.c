#include "batch/commands.h"
#include "core/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

/* The ids of one line, with spaces between them. */
static int tokenize_line(const struct tokenizer *tokenizer, const char *line, size_t len, int32_t **ids,
    size_t *size, struct err *err)
{
    size_t count;
    int result = tokenizer_encode(tokenizer, line, len, *ids, *size, &count, err);
    if (result == 0 && count > *size) {
        int32_t *more = realloc(*ids, count * sizeof *more);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory");
        *ids = more;
        *size = count;
        result = tokenizer_encode(tokenizer, line, len, *ids, *size, &count, err);
    }
    for (size_t i = 0; result == 0 && i < count; i++)
        printf("%s%d", i ? " " : "", (*ids)[i]);
    if (result == 0)
        putchar('\n');
    return result;
}

int command_tokenize(int argc, char **argv)
{
    const char *vocab = NULL;
    const struct option options[] = {
        {"vocab", "FILE", "SentencePiece model", true, OPTION_TEXT, &vocab, 0, 0},
    };
    const struct command command = {"tokenize --vocab FILE < lines",
        "Print the token ids of each line on stdin, as the model will see them.", options, 1, NULL, 0};
    const int parsed = options_parse(&command, argc, argv);
    if (parsed < 0)
        return -1 - parsed;
    struct err err = ERR_INIT;
    struct tokenizer *tokenizer = NULL;
    char *line = NULL;
    int32_t *ids = NULL;
    size_t line_size = 0, ids_size = 0;
    ssize_t got;
    int result = tokenizer_load(&tokenizer, vocab, &err);
    while (result == 0 && (got = getline(&line, &line_size, stdin)) >= 0) {
        const size_t len = (size_t)got - (line[got - 1] == '\n');
        result = tokenize_line(tokenizer, line, len, &ids, &ids_size, &err);
    }
    if (result == 0 && (ferror(stdin) || fflush(stdout) != 0))
        result = err_errno(&err, "stdin or stdout");
    free(line);
    free(ids);
    tokenizer_free(tokenizer);
    return result < 0 ? command_failed("tokenize", &err) : EXIT_DONE;
}
