/* Command lines from tables: parsing, checks and --help come from the same rows. */
#ifndef EMBSUM_BATCH_OPTIONS_H
#define EMBSUM_BATCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER, OPTION_LIMIT };

struct option {
    const char *name;  /* "model": --model VALUE or --model=VALUE */
    const char *value; /* what the value is called in --help; NULL for a flag */
    const char *help;
    bool required;
    enum option_type type;
    void *target;  /* bool *, const char **, long *, struct tsv_limit * */
    long min, max; /* OPTION_NUMBER */
};

/* Exit codes of the programs (DESIGN 6). */
enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_LOCKED = 3 };

/* One command: `usage` is the line behind the program's name, `about` a sentence. */
struct command {
    const char *usage, *about;
    const struct option *options;
    size_t option_count;
    const char **positionals; /* room for positional_max */
    size_t positional_max;
};

/* Fill in the targets from argv[1..]. Returns the number of positionals, or -1 - the exit code when the
 * program is to end: after --help (printed on stdout, EXIT_DONE) or after a message on stderr (EXIT_USAGE).
 */
int options_parse(const struct command *command, int argc, char **argv);

#endif
