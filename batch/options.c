#include "batch/options.h"

#include "batch/tsv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const struct command *command)
{
    printf("usage: embsum %s\n\n%s\n\n", command->usage, command->about);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *o = &command->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-26s %s%s\n", left, o->help, o->required ? " (required)" : "");
    }
    printf("  %-26s %s\n", "--help", "this text");
}

static int usage_error(const struct command *command, const char *what, const char *which)
{
    fprintf(stderr, "embsum: %s%s\nusage: embsum %s\n", what, which, command->usage);
    return -1 - EXIT_USAGE;
}

static int take_value(const struct command *command, const struct option *option, const char *text)
{
    if (option->type == OPTION_TEXT) {
        *(const char **)option->target = text;
        return 0;
    }
    if (option->type == OPTION_LIMIT) {
        char what[160];
        if (tsv_limit_parse(option->target, text))
            return 0;
        snprintf(what, sizeof what,
            "--%s must be rows, up to 1000000000, or a share of them like 1%% or 0.5%%, not ", option->name);
        return usage_error(command, what, text);
    }
    char *end;
    errno = 0;
    const long number = strtol(text, &end, 10);
    if (end == text || *end || errno || number < option->min || number > option->max) {
        char what[160];
        snprintf(what, sizeof what, "--%s must be an integer between %ld and %ld, not ", option->name,
            option->min, option->max);
        return usage_error(command, what, text);
    }
    *(long *)option->target = number;
    return 0;
}

int options_parse(const struct command *command, int argc, char **argv)
{
    bool given[64] = {false};
    size_t positionals = 0;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_help(command);
            return -1 - EXIT_DONE;
        }
        if (strncmp(argument, "--", 2) != 0) {
            if (positionals == command->positional_max)
                return usage_error(command, "unexpected argument ", argument);
            command->positionals[positionals++] = argument;
            continue;
        }
        const size_t length = strcspn(argument + 2, "=");
        size_t k = 0;
        while (k < command->option_count && !(strlen(command->options[k].name) == length &&
                                                strncmp(command->options[k].name, argument + 2, length) == 0))
            k++;
        if (k == command->option_count)
            return usage_error(command, "unknown option ", argument);
        const struct option *option = &command->options[k];
        const char *value = argument[2 + length] == '=' ? argument + 3 + length : NULL;
        if (given[k])
            return usage_error(command, "given twice: ", argument);
        given[k] = true;
        if (option->type == OPTION_FLAG) {
            if (value)
                return usage_error(command, "takes no value: ", argument);
            *(bool *)option->target = true;
            continue;
        }
        if (!value && i + 1 == argc)
            return usage_error(command, "needs a value: ", argument);
        const int result = take_value(command, option, value ? value : argv[++i]);
        if (result < 0)
            return result;
    }
    for (size_t k = 0; k < command->option_count; k++)
        if (command->options[k].required && !given[k])
            return usage_error(command, "missing: --", command->options[k].name);
    return (int)positionals;
}
